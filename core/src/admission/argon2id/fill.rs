//! Filling the memory: each block is made of the one before it and of an earlier one, which in the
//! first half is chosen by a counter and in the second half by what has been computed.

use super::{Block, MEMORY_BLOCKS, TIME_COST, TYPE, WORDS};

/// Blocks of a quarter of the memory.
const SEGMENT: usize = MEMORY_BLOCKS / 4;
/// The first block whose reference depends on data.
const HALF: usize = 2 * SEGMENT;

/// Fills the memory behind the first two blocks with a given compression function.
/// spec: RFC 9106 §3.2
pub(super) fn fill_with(
    memory: &mut [Block; MEMORY_BLOCKS],
    compress: impl Fn(&Block, &Block, &mut Block),
) {
    let mut next = |at: usize, random: Option<u64>| {
        let (before, rest) = memory.split_at_mut(at);
        let last = &before[at - 1];
        let earlier = &before[reference(at, random.unwrap_or(last.0[0]))];
        if let Some(block) = rest.first_mut() {
            compress(last, earlier, block);
        }
    };
    let mut addresses = Block::ZERO;
    for at in 2..HALF {
        let within = at % SEGMENT;
        if at == 2 || within % WORDS == 0 {
            addresses = address_block(at / SEGMENT, within / WORDS + 1, &compress);
        }
        next(at, Some(addresses.0[within % WORDS]));
    }
    for at in HALF..MEMORY_BLOCKS {
        next(at, None);
    }
}

/// The earlier block that block `at` refers to: any but the one before it, recent ones more often.
/// spec: RFC 9106 §3.4.2
#[allow(clippy::cast_possible_truncation)] // the quotient is below `area`
fn reference(at: usize, random: u64) -> usize {
    let area = (at - 1) as u64;
    let low = random & 0xffff_ffff;
    let back = (area * ((low * low) >> 32)) >> 32;
    (area - 1 - back) as usize
}

/// The block of a quarter's addresses with this number, from 1. spec: RFC 9106 §3.4.1.2
fn address_block(
    quarter: usize,
    number: usize,
    compress: impl Fn(&Block, &Block, &mut Block),
) -> Block {
    let mut input = Block::ZERO;
    let head = [
        0, // pass
        0, // lane
        quarter as u64,
        MEMORY_BLOCKS as u64,
        u64::from(TIME_COST),
        u64::from(TYPE),
        number as u64,
    ];
    input.0[..head.len()].copy_from_slice(&head);
    let mut once = Block::ZERO;
    compress(&Block::ZERO, &input, &mut once);
    let mut twice = Block::ZERO;
    compress(&Block::ZERO, &once, &mut twice);
    twice
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn references_lie_before_the_block_before() {
        for at in [2, 3, 4, 100, 8191] {
            for random in [0, 1, u64::MAX, 0x8000_0000, 0xffff_fffe] {
                assert!(reference(at, random) < at - 1, "{at} {random:x}");
            }
        }
        assert_eq!(reference(100, 0), 98);
        assert_eq!(reference(100, u64::MAX), 0);
    }
}
