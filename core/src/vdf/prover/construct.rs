//! π from checkpoints: the signed digits of ⌊2^T/B⌋ sort the forms into buckets, one pass for each
//! position of a digit between two checkpoints; the passes are independent of each other.

use super::checkpoints::Checkpoints;
use crate::vdf::discriminant::Discriminant;
use crate::vdf::encoding::FORM_BYTES;
use crate::vdf::error::FormError;
use crate::vdf::form::Form;
use crate::vdf::integer::Integer;
use crate::vdf::wesolowski::{PROOF_BYTES, PrimeError, fiat_shamir_prime, power_of_two};
use alloc::vec;
use alloc::vec::Vec;

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProveError {
    /// A form does not encode.
    Form(FormError),
    /// The forms hash to no prime.
    Prime(PrimeError),
    /// The construction was cancelled.
    Cancelled,
}

impl core::fmt::Display for ProveError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Form(error) => write!(f, "the proof does not encode: {error}"),
            Self::Prime(_) => f.write_str("the output hashes to no prime"),
            Self::Cancelled => f.write_str("the construction was cancelled"),
        }
    }
}

impl core::error::Error for ProveError {}

/// The proof for where the checkpoints stand, in the calling thread. `cancelled` is asked every few
/// milliseconds. spec: vdf §10.1
///
/// # Errors
/// [`ProveError`].
pub fn construct(
    d: &Discriminant,
    checkpoints: &Checkpoints,
    cancelled: &dyn Fn() -> bool,
) -> Result<[u8; PROOF_BYTES], ProveError> {
    let plan = Plan::new(d, checkpoints, 1)?;
    let passes = (0..plan.passes()).map(|pass| plan.pass(pass, cancelled));
    plan.finish(&passes.collect::<Option<Vec<Form>>>().ok_or(ProveError::Cancelled)?)
}

/// One proof to be made.
pub(crate) struct Plan<'a> {
    d: &'a Discriminant,
    checkpoints: &'a Checkpoints,
    prime: Integer,
    /// Bits of a digit; divides the spacing of the checkpoints.
    window: u64,
}

/// Digits between two looks at the cancellation.
const PATIENCE: u64 = 256;

impl<'a> Plan<'a> {
    pub(crate) fn new(
        d: &'a Discriminant,
        checkpoints: &'a Checkpoints,
        threads: u64,
    ) -> Result<Self, ProveError> {
        let start = checkpoints.form(0, d).unwrap_or(*checkpoints.current());
        let prime =
            fiat_shamir_prime(&start, checkpoints.current(), d).map_err(ProveError::Prime)?;
        let window = best_window(checkpoints.tick(), checkpoints.spacing(), threads.max(1));
        Ok(Self { d, checkpoints, prime, window })
    }

    /// How many passes there are.
    pub(crate) fn passes(&self) -> u64 {
        self.checkpoints.spacing() / self.window
    }

    /// The product of x^(2^(spacing·j)·digit) over the digits at position `pass` behind checkpoint
    /// j; none when cancelled.
    pub(crate) fn pass(&self, pass: u64, cancelled: &dyn Fn() -> bool) -> Option<Form> {
        let (tick, spacing) = (self.checkpoints.tick(), self.checkpoints.spacing());
        let offset = pass * self.window;
        let mut buckets = Buckets::new(self.d, self.window);
        // Digits above the tick are zero.
        let Some(above) = tick.checked_sub(offset + self.window) else {
            return Some(Form::identity(self.d));
        };
        let last = above / spacing;
        // 2^(T − k(i+1)) mod B, from the most significant digit of this pass down.
        let mut residue = power_of_two(above % spacing, &self.prime);
        let stride = power_of_two(spacing, &self.prime);
        for index in (0..=last).rev() {
            if index % PATIENCE == 0 && cancelled() {
                return None;
            }
            // The digit's bits and the one below them.
            let bits = residue.shifted_left(self.window as usize + 1).divide(&self.prime).0.low();
            let below = if index == 0 && pass == 0 { 0 } else { bits & 1 };
            // Booth's signed digit: its top bit counts negative and is made good by the next.
            let (digit, top) = (bits >> 1, bits >> self.window);
            if top == 0 && digit + below != 0 {
                buckets.add(digit + below, &self.checkpoints.form(index, self.d)?);
            } else if top != 0 && (1 << self.window) - digit != below {
                let digit = (1 << self.window) - digit - below;
                buckets.add(digit, &self.checkpoints.form(index, self.d)?.inverse());
            }
            residue = (residue * stride).modulo(&self.prime);
        }
        Some(buckets.product())
    }

    /// The proof from all passes in order.
    pub(crate) fn finish(&self, passes: &[Form]) -> Result<[u8; PROOF_BYTES], ProveError> {
        let mut proof = Form::identity(self.d);
        for pass in passes.iter().rev() {
            for _ in 0..self.window {
                proof = proof.square(self.d);
            }
            proof = proof.compose(pass, self.d);
        }
        let mut blob = [0; PROOF_BYTES];
        let (y, pi) = blob.split_at_mut(FORM_BYTES);
        y.copy_from_slice(&self.checkpoints.current().encode(self.d).map_err(ProveError::Form)?);
        pi.copy_from_slice(&proof.encode(self.d).map_err(ProveError::Form)?);
        Ok(blob)
    }
}

/// The window, among the divisors of the spacing, with the fewest compositions one after another.
fn best_window(tick: u64, spacing: u64, threads: u64) -> u64 {
    let cost = |window: &u64| {
        let passes = spacing / window;
        passes.div_ceil(threads) * (tick / spacing + (1 << window))
    };
    (1..=16).filter(|window| spacing % window == 0).min_by_key(cost).unwrap_or(1)
}

/// Forms multiplied together by digit.
struct Buckets<'a> {
    d: &'a Discriminant,
    forms: Vec<Option<Form>>,
}

impl<'a> Buckets<'a> {
    fn new(d: &'a Discriminant, window: u64) -> Self {
        Self { d, forms: vec![None; 1 << (window - 1)] }
    }

    fn add(&mut self, digit: u64, form: &Form) {
        let bucket = usize::try_from(digit).ok().and_then(|d| self.forms.get_mut(d - 1));
        if let Some(bucket) = bucket {
            *bucket = Some(bucket.map_or(*form, |product| product.compose(form, self.d)));
        }
    }

    /// ∏ bucket^digit: running products from the top down.
    fn product(&self) -> Form {
        let (mut running, mut product): (Option<Form>, Option<Form>) = (None, None);
        for bucket in self.forms.iter().rev() {
            let times = |product: Option<Form>, factor: Option<Form>| match (product, factor) {
                (Some(p), Some(f)) => Some(p.compose(&f, self.d)),
                (p, f) => p.or(f),
            };
            running = times(running, *bucket);
            product = times(product, running);
        }
        product.unwrap_or_else(|| Form::identity(self.d))
    }
}
