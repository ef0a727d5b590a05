//! Measures the compact form against `xz -9e` in one run and prints sizes and ratios: alternating
//! rounds, so that a busy machine slows both. Arguments are files with proofs or mining results;
//! `--json` prints one object a file instead of the table.

use std::process::ExitCode;
use std::time::Instant;
use tensorpow_core::archive::{decode, encode};
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof, ProofRef, canonical};

/// Rounds of each competitor; the median counts.
const ROUNDS: usize = 15;
/// Our encodings and decodings a round, since one is too short to be timed well.
const REPEAT: u32 = 10;

/// Medians of one proof, in seconds, and sizes in bytes.
struct Measured {
    flat: usize,
    ours: usize,
    xz: usize,
    encode: f64,
    decode: f64,
    xz_encode: f64,
    xz_decode: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed<T>(times: u32, mut work: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| drop(std::hint::black_box(work())));
    start.elapsed().as_secs_f64() / f64::from(times)
}

/// `xz -9e`, without its container's process.
fn xz(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let extreme = 1 << 31; // LZMA_PRESET_EXTREME
    let stream =
        liblzma::stream::Stream::new_easy_encoder(9 | extreme, liblzma::stream::Check::Crc64)?;
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new_stream(bytes, stream).read_to_end(&mut out)?;
    Ok(out)
}

fn unxz(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    liblzma::decode_all(bytes)
}

/// The proof of a file, alone or in a mining result.
fn read(bytes: &[u8]) -> Option<Proof> {
    let alone = ProofRef::read(bytes).ok().filter(|proof| !proof.chosen_tokens.is_empty());
    let proof = alone.or_else(|| MiningResponseRef::read(bytes).ok()?.pow_blob)?;
    Proof::try_from(&proof).ok()
}

fn measure(proof: &Proof) -> Result<Measured, Box<dyn std::error::Error>> {
    let proof = proof.as_ref();
    let flat = proof.encode_to_vec()?;
    let archive = encode(&proof)?;
    let back = decode(&archive)?;
    if canonical::canonical_to_vec(&back.as_ref())? != canonical::canonical_to_vec(&proof)? {
        return Err("the round trip changes the proof".into());
    }
    let packed = xz(&flat)?;
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(timed(REPEAT, || encode(&proof)));
        times[2].push(timed(1, || xz(&flat)));
        times[1].push(timed(REPEAT, || decode(&archive)));
        times[3].push(timed(1, || unxz(&packed)));
    }
    let [encode, decode, xz_encode, xz_decode] = times.map(median);
    let (flat, ours, xz) = (flat.len(), archive.len(), packed.len());
    Ok(Measured { flat, ours, xz, encode, decode, xz_encode, xz_decode })
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole as f64
}

fn print(name: &str, m: &Measured, json: bool) {
    let (ours, xz) = (percent(m.ours, m.flat), percent(m.xz, m.flat));
    let (faster, faster_back) = (m.xz_encode / m.encode, m.xz_decode / m.decode);
    let [encode, decode, xz_encode, xz_decode] =
        [m.encode, m.decode, m.xz_encode, m.xz_decode].map(|seconds| seconds * 1e3);
    if json {
        println!(
            "{{\"file\":{name:?},\"flatbuffer_bytes\":{},\"compact_bytes\":{},\"xz_bytes\":{},\
             \"encode_ms\":{encode:.3},\"decode_ms\":{decode:.3},\"xz_encode_ms\":{xz_encode:.3},\
             \"xz_decode_ms\":{xz_decode:.3},\"encode_speed_ratio\":{faster:.1}}}",
            m.flat, m.ours, m.xz
        );
    } else {
        println!(
            "{name}: {} bytes; compact {ours:.2} %, xz -9e {xz:.2} %; encode {encode:.2} ms, xz \
             {xz_encode:.1} ms = {faster:.0} x; decode {decode:.2} ms, xz {xz_decode:.2} ms = \
             {faster_back:.2} x",
            m.flat
        );
    }
}

fn main() -> ExitCode {
    let mut json = false;
    let mut failed = false;
    for argument in std::env::args().skip(1) {
        if argument == "--json" {
            json = true;
            continue;
        }
        let measured = std::fs::read(&argument)
            .map_err(Into::into)
            .and_then(|bytes| measure(&read(&bytes).ok_or("no proof in this file")?));
        match measured {
            Ok(measured) => print(&argument, &measured, json),
            Err(error) => {
                eprintln!("{argument}: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
