//! Measures tries of the admission puzzle. Without arguments: tries per second on one thread and on
//! two, in turns with the memory traffic alone that a try causes. With `--serve` it answers each line `THREADS TRIES` on its input with the seconds that so
//! many tries a thread took, so that a script can take turns with something else.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};
use tensorpow_core::admission::grind::Grind;
use tensorpow_core::admission::{
    MEMORY_BLOCKS, Memory, Message, PromptCommitment, PuzzleTarget, message_length,
};
use tensorpow_core::units::AdmissionNonce;

/// Bytes of the first step's message: header, VDF blob, tick, step, context and `bf16`.
const FIRST_STEP: usize = 76 + 200 + 4 + 4 + 8 * 256 + 4;

/// Tries that never succeed, as many as asked for, on memory that is reused.
fn grind(memory: &mut Memory, tries: u64) {
    let model = b"organisation/model@0123456789abcdef";
    let scratch = memory.scratch(message_length(FIRST_STEP, model.len()));
    let commitment = PromptCommitment::from_bytes([3; 32]);
    let mut message = Message::of_bytes(scratch.message, &[7; FIRST_STEP], &commitment, model)
        .expect("room as asked for");
    let never = PuzzleTarget::from_le_bytes([0; 32]);
    let mut search = Grind::new(AdmissionNonce::from_bytes([9; 32]), tries, never);
    let end = search.run(tries, &mut message, scratch.memory, || true);
    assert_eq!(search.tried(), tries, "{end:?}");
}

/// Seconds for so many tries on each of the threads.
fn timed(memories: &mut [Memory], tries: u64) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for memory in memories {
            scope.spawn(|| grind(memory, tries));
        }
    });
    start.elapsed()
}

/// The memory traffic of a try without its arithmetic: every block of 1 KiB is written once, from
/// the block before it and any of the earlier ones.
fn pass(blocks: &mut [[u64; 128]]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for at in 2..blocks.len() {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let far = (random >> 33) as usize % (at - 1);
        let (earlier, rest) = blocks.split_at_mut(at);
        for (word, out) in rest[0].iter_mut().enumerate() {
            *out = earlier[at - 1][word].wrapping_add(earlier[far][word]);
        }
    }
    std::hint::black_box(blocks);
}

/// Seconds for so many passes on each of the threads.
fn timed_passes(rooms: &mut [Vec<[u64; 128]>], passes: u64) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for room in rooms {
            scope.spawn(|| (0..passes).for_each(|_| pass(room)));
        }
    });
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn serve(memories: &mut Vec<Memory>) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace().map(|word| word.parse::<usize>());
        let (Some(Ok(threads)), Some(Ok(tries))) = (words.next(), words.next()) else {
            return Err(std::io::Error::other("a line must be THREADS TRIES"));
        };
        memories.resize_with(threads.max(memories.len()), Memory::new);
        let took = timed(&mut memories[..threads], tries as u64);
        writeln!(out, "{}", took.as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let mut memories = Vec::new();
    if std::env::args().any(|argument| argument == "--serve") {
        return serve(&mut memories);
    }
    memories.resize_with(2, Memory::new);
    let mut rooms = vec![vec![[1; 128]; MEMORY_BLOCKS]; 2];
    for threads in [1, 2] {
        let (memories, rooms) = (&mut memories[..threads], &mut rooms[..threads]);
        timed(memories, 2);
        timed_passes(rooms, 2);
        let (mut tries, mut passes) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            tries.push((20 * threads) as f64 / timed(memories, 20).as_secs_f64());
            passes.push((20 * threads) as f64 / timed_passes(rooms, 20).as_secs_f64());
        }
        let (tries, passes) = (median(tries), median(passes));
        println!(
            "{threads} thread(s): {tries:6.1} tries/s, {passes:7.1} memory passes/s: \
             the traffic is {:.0} % of a try",
            100.0 * tries / passes
        );
    }
    Ok(())
}
