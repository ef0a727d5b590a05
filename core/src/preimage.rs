//! The message of a step and its digest. The constant head of the message (header, VDF blob, tick)
//! is absorbed once per sequence; a step then hashes its counter, the context and the tail.

use crate::context::Context;
use crate::units::{AdmissionNonce, Digest, Tick};
use sha2::{Digest as _, Sha256};

/// Ids turned to bytes at a time before they go to the hash.
const RUN: usize = 64;

/// SHA-256 with the constant head of every step message absorbed. spec: sampler §2
#[derive(Clone)]
pub struct StepHasher {
    head: Sha256,
}

impl core::fmt::Debug for StepHasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StepHasher")
    }
}

impl StepHasher {
    /// Absorbs `H ‖ VDF ‖ u32le(tick)`. `header` is the 76-byte prefix; the library primitive also
    /// takes the 32-byte block hash that the reference falls back to. spec: sampler §2
    #[must_use]
    pub fn new(header: &[u8], vdf: &[u8], tick: Tick) -> Self {
        let mut head = Sha256::new();
        head.update(header);
        head.update(vdf);
        head.update(tick.preimage_bytes());
        Self { head }
    }

    /// The digest of step `j` of a window. `precision` is the label's bytes; `nonce` is the
    /// window's admission nonce, if it has one. spec: sampler §2
    #[must_use]
    pub fn step<const W: usize>(
        &self,
        j: u32,
        context: &Context<W>,
        precision: &[u8],
        nonce: Option<&AdmissionNonce>,
    ) -> Digest {
        let (oldest, newest) = context.runs();
        self.over(j, &[oldest, newest], precision, nonce)
    }

    /// The digest over a context given as runs of ids, oldest first, which together have the
    /// window's width. spec: sampler §2, verification §5.1
    #[must_use]
    pub fn over(
        &self,
        j: u32,
        context: &[&[u32]],
        precision: &[u8],
        nonce: Option<&AdmissionNonce>,
    ) -> Digest {
        let mut message = self.head.clone();
        message.update(j.to_le_bytes());
        for run in context {
            absorb_ids(&mut message, run);
        }
        finish(message, precision, nonce)
    }

    /// [`Self::over`] with the context as its bytes in the message: eight for an id.
    /// spec: verification §5.1
    pub(crate) fn over_bytes(
        &self,
        j: u32,
        context: &[u8],
        precision: &[u8],
        nonce: Option<&AdmissionNonce>,
    ) -> Digest {
        let mut message = self.head.clone();
        message.update(j.to_le_bytes());
        message.update(context);
        finish(message, precision, nonce)
    }

    /// The digest that closes a window: step 0 over the window's own tokens, with the window's
    /// nonce. `tokens` has the window's width. spec: sampler §8
    #[must_use]
    pub fn closing(
        &self,
        tokens: &[u32],
        precision: &[u8],
        nonce: Option<&AdmissionNonce>,
    ) -> Digest {
        self.over(0, &[tokens], precision, nonce)
    }
}

/// What follows the context in every step message.
fn finish(mut message: Sha256, precision: &[u8], nonce: Option<&AdmissionNonce>) -> Digest {
    message.update(precision);
    if let Some(nonce) = nonce {
        message.update(nonce.as_bytes());
    }
    Digest::from_bytes(message.finalize().into())
}

/// Ids enter as little-endian 64-bit integers; their upper half is always zero.
fn absorb_ids(message: &mut Sha256, ids: &[u32]) {
    let mut bytes = [0_u8; RUN * 8];
    for run in ids.chunks(RUN) {
        for (room, id) in bytes.chunks_exact_mut(8).zip(run) {
            room.copy_from_slice(&u64::from(*id).to_le_bytes());
        }
        message.update(&bytes[..run.len() * 8]);
    }
}
