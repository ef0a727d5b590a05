//! Hash to prime: the discriminant of a challenge and the Fiat–Shamir prime of a proof.

use super::error::DiscriminantError;
use super::integer::Integer;
use super::prime::is_prime;
use sha2::{Digest as _, Sha256};

/// Largest prime that can be asked for.
const MAX_BITS: usize = 2048;
/// Candidates tried before giving up. A seed of three bytes or more meets a prime long before (355
/// candidates on average at 1024 bits); a shorter one has come round by then.
const MAX_CANDIDATES: u32 = 1 << 17;

/// The first prime of `bits` bits in the candidate stream of `seed`, with the bits at the positions
/// `set` and bit 0 forced to one. spec: vdf §3
///
/// # Errors
/// [`DiscriminantError::Size`] unless `bits` is a multiple of 8 from 8 to 2048,
/// [`DiscriminantError::EmptySeed`], and [`DiscriminantError::Exhausted`] for a seed of so few
/// bytes that its counter comes round without a prime.
pub fn hash_prime(seed: &[u8], bits: u32, set: &[u32]) -> Result<Integer, DiscriminantError> {
    let size = bits as usize;
    if size == 0 || size % 8 != 0 || size > MAX_BITS {
        return Err(DiscriminantError::Size { bits });
    }
    if seed.is_empty() {
        return Err(DiscriminantError::EmptySeed);
    }
    let mut counter = Counter { seed, increments: 0 };
    let tries = if seed.len() == 1 { 1 << 8 } else { MAX_CANDIDATES };
    let mut blob = [0; MAX_BITS / 8];
    for _ in 0..tries {
        let candidate = &mut blob[..size / 8];
        for chunk in candidate.chunks_mut(32) {
            let digest = counter.next_digest();
            chunk.copy_from_slice(&digest[..chunk.len()]);
        }
        let mut limbs = [0; MAX_BITS / 64];
        for (at, byte) in candidate.iter().rev().enumerate() {
            limbs[at / 8] |= u64::from(*byte) << (8 * (at % 8));
        }
        for position in set.iter().map(|p| *p as usize).chain([0]).filter(|p| *p < size) {
            limbs[position / 64] |= 1 << (position % 64);
        }
        if is_prime(&limbs) {
            return Ok(Integer::from_limbs(&limbs, false));
        }
    }
    Err(DiscriminantError::Exhausted)
}

/// The seed as a big-endian counter that is incremented before each digest and never reset.
/// spec: vdf §3
struct Counter<'a> {
    seed: &'a [u8],
    increments: u64,
}

impl Counter<'_> {
    /// SHA-256 of seed + increments modulo 256^length, without a copy of the seed.
    fn next_digest(&mut self) -> [u8; 32] {
        self.increments += 1;
        let (head, low) = self.seed.split_at(self.seed.len().saturating_sub(8));
        let mut tail = [0; 8];
        tail[8 - low.len()..].copy_from_slice(low);
        let (sum, carry) = u64::from_be_bytes(tail).overflowing_add(self.increments);
        let tail = sum.to_be_bytes();
        let mut sha = Sha256::new();
        match head.iter().rposition(|byte| *byte != 0xff).filter(|_| carry) {
            // The byte that takes the carry; those behind it were all ones.
            Some(at) => {
                sha.update(&head[..at]);
                sha.update([head[at] + 1]);
                head[at + 1..].iter().for_each(|_| sha.update([0]));
            }
            None if carry => head.iter().for_each(|_| sha.update([0])),
            None => sha.update(head),
        }
        sha.chain_update(&tail[8 - low.len()..]).finalize().into()
    }
}
