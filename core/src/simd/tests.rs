//! Every path this machine has against the portable one: the same bits on a million rows.

use super::{CAPACITY, GROUPS, LANES, Path, ROOM, Sweep, Swept, portable};
use crate::precision::Snap;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// Rows compared, of 1 to 400 values; one in a thousand is wider.
const ROWS: u64 = 1_000_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    #[allow(clippy::cast_precision_loss)] // 24 bits
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    /// Any bit pattern: NaN, infinities and denormals among them.
    #[allow(clippy::cast_possible_truncation)] // half of them
    fn bits(&mut self) -> f32 {
        f32::from_bits(self.next() as u32)
    }
}

/// A row of one of the shapes that rows have, or that somebody would try.
fn fill(row: &mut Vec<f32>, random: &mut Random) {
    let width = if random.below(1000) == 0 { 40_000 } else { 400 };
    let width = usize::try_from(1 + random.below(width)).unwrap();
    let shape = random.below(9);
    let (level, once) = (random.unit() * 100.0 - 50.0, random.bits());
    row.clear();
    row.extend((0..width).map(|_| match shape {
        0 => -3.0 * (random.unit() + 1e-9).ln() - 8.0,
        1 => random.unit() * 40.0 + level,
        2 => (random.unit() * 16.0).round() + level.round(), // ties
        3 => level,                                          // all equal
        4 => random.bits(),
        5 => random.unit() * 1e-38,        // denormals
        6 => (random.unit() - 0.5) * 3e-4, // where fp16 is denormal
        7 => [0.0, -0.0, once, f32::INFINITY, f32::NEG_INFINITY][random.below(5) as usize],
        _ => {
            if random.below(4) == 0 {
                f32::NEG_INFINITY
            } else {
                (random.unit() - 0.4) * 150_000.0
            }
        }
    }));
}

fn how(row: &[f32], random: &mut Random) -> Sweep {
    let snap = [Snap::None, Snap::Bf16, Snap::Fp16][random.below(3) as usize];
    let snap = if row.iter().any(|value| value.is_nan()) { Snap::None } else { snap };
    let any = |random: &mut Random| {
        let at = usize::try_from(random.below(row.len() as u64)).unwrap();
        snap.apply(row[at])
    };
    let floor = if random.below(2) == 0 { f32::NEG_INFINITY } else { any(random) };
    let temperature = if random.below(2) == 0 { 1.0 } else { 0.25 + random.unit() };
    let reference = any(random) / temperature;
    Sweep { snap, floor, temperature, reference, threshold: any(random) }
}

/// Bit patterns, so that NaN equals itself.
fn bits(swept: Swept) -> (u64, u64, usize) {
    // The sign and payload of a NaN are the only thing an instruction may choose.
    let one_nan = |sum: f64| if sum.is_nan() { u64::MAX } else { sum.to_bits() };
    (one_nan(swept.sum), one_nan(swept.exp_sum), swept.above)
}

#[test]
fn every_path_gives_the_bits_of_the_portable_one_on_a_million_rows() {
    let paths: Vec<Path> = Path::available().skip(1).collect();
    let mut random = Random(1);
    let mut row = Vec::new();
    let mut maxima = Box::new([[0.0; GROUPS]; 2]);
    let mut ids = Box::new([[0; ROOM]; 2]);
    for n in 0..ROWS {
        fill(&mut row, &mut random);
        let how = how(&row, &mut random);
        let [our_maxima, their_maxima] = &mut *maxima;
        let [our_ids, their_ids] = &mut *ids;
        let swept = portable::sweep(&row, &how, our_ids);
        let listed = if swept.above > CAPACITY { 0 } else { swept.above };
        // The groups are filled anew by every scan, which would be most of this test's time.
        let scanned = (n % 16 == 0).then(|| portable::scan(&row, our_maxima));
        let whole = row.as_chunks::<LANES>().0;
        let count = portable::count_above(whole, how.threshold);
        let sum = portable::sum_above(whole, how.threshold);
        for path in &paths {
            let name = path.name();
            let theirs = path.sweep(&row, &how, their_ids);
            assert_eq!(bits(swept), bits(theirs), "row {n}, {name}: {how:?}");
            assert_eq!(our_ids[..listed], their_ids[..listed], "row {n}, {name}: {how:?}");
            if let Some(extremes) = scanned {
                assert_eq!(extremes, path.scan(&row, their_maxima), "row {n}, {name}");
                let bits = |maxima: &[f32; GROUPS]| maxima.map(f32::to_bits);
                assert_eq!(bits(our_maxima), bits(their_maxima), "row {n}, {name}");
            }
            assert_eq!(count, path.count_above(whole, how.threshold), "row {n}, {name}");
            let theirs = path.sum_above(whole, how.threshold);
            assert!(sum.to_bits() == theirs.to_bits() || sum.is_nan(), "row {n}, {name}");
        }
    }
    let names: Vec<&str> = paths.iter().map(|path| path.name()).collect();
    std::println!("{ROWS} rows: {names:?} equal to the portable path");
}

#[test]
fn the_exponential_is_within_its_stated_error() {
    for i in 0..86_000 {
        #[allow(clippy::cast_precision_loss)] // small
        let x = -(i as f32) / 1000.0;
        let error = (f64::from(portable::exp(x)) / libm::exp(f64::from(x)) - 1.0).abs();
        assert!(error < 2.5e-7 + 7.5e-8 * f64::from(x.abs()), "exp({x}): relative error {error:e}");
    }
    assert!(portable::exp(f32::NEG_INFINITY) < 1e-37);
    assert_eq!(portable::exp(0.0), 1.0);
}

#[test]
fn a_list_that_is_full_counts_on() {
    let row = vec![1.0; 3 * CAPACITY];
    let how = Sweep {
        snap: Snap::None,
        floor: f32::NEG_INFINITY,
        temperature: 1.0,
        reference: 1.0,
        threshold: 0.0,
    };
    for path in Path::available() {
        let mut ids = Box::new([0; ROOM]);
        assert_eq!(path.sweep(&row, &how, &mut ids).above, row.len(), "{}", path.name());
        assert!((0..).zip(&ids[..CAPACITY]).all(|(n, id)| n == *id), "{}", path.name());
    }
}
