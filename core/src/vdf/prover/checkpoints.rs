//! The forms kept while squaring: one every so many steps, thinned out when they become too many,
//! so that memory stays bounded however long a challenge lasts.

use crate::vdf::discriminant::Discriminant;
use crate::vdf::form::Form;
use crate::vdf::integer::Integer;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Squarings between two forms kept at first: divisible by every window length that is worth it.
const FIRST_SPACING: u64 = 60;
/// Forms in one block of the store.
const BLOCK: usize = 4_096;
/// Forms kept at most: 128 bytes each, 128 MiB in all. Above that every second one goes.
const MOST: usize = 256 * BLOCK;
/// Limbs of a coefficient.
const LIMBS: usize = 8;

/// A form without its last coefficient, which follows from the others.
#[derive(Clone, Copy)]
struct Kept {
    a: [u64; LIMBS],
    /// The lowest bit is the sign: b of a form is odd, so that bit of its magnitude is known.
    b: [u64; LIMBS],
}

impl Kept {
    fn new(form: &Form) -> Self {
        let mut b: [u64; LIMBS] = crate::vdf::euclid::fixed(form.b());
        b[0] ^= u64::from(!form.b().is_negative());
        Self { a: crate::vdf::euclid::fixed(form.a()), b }
    }

    fn form(&self, d: &Discriminant) -> Form {
        let mut b = self.b;
        let negative = b[0] & 1 == 1;
        b[0] |= 1;
        let (a, b) = (Integer::from_limbs(&self.a, false), Integer::from_limbs(&b, negative));
        Form::of_reduced_pair(a, b, d)
    }
}

/// Where squaring stands, and the forms kept on the way. A copy is cheap: full blocks are shared.
#[derive(Clone)]
pub struct Checkpoints {
    current: Form,
    tick: u64,
    /// Squarings between two kept forms.
    spacing: u64,
    full: Vec<Arc<[Kept]>>,
    open: Vec<Kept>,
}

impl Checkpoints {
    /// Begins at a form, tick 0.
    #[must_use]
    pub fn new(start: Form) -> Self {
        let open = alloc::vec![Kept::new(&start)];
        Self { current: start, tick: 0, spacing: FIRST_SPACING, full: Vec::new(), open }
    }

    /// Squarings done.
    #[must_use]
    pub const fn tick(&self) -> u64 {
        self.tick
    }

    /// The form after [`Self::tick`] squarings.
    #[must_use]
    pub const fn current(&self) -> &Form {
        &self.current
    }

    /// Squarings between two kept forms.
    #[must_use]
    pub const fn spacing(&self) -> u64 {
        self.spacing
    }

    /// Squares on until `tick`, or does nothing when it is past that.
    pub fn square_to(&mut self, tick: u64, d: &Discriminant) {
        while self.tick < tick {
            let steps = (self.spacing - self.tick % self.spacing).min(tick - self.tick);
            self.current = self.current.square_repeatedly(steps, d);
            self.tick += steps;
            if self.tick % self.spacing == 0 {
                self.keep();
            }
        }
    }

    /// The form after `index·spacing` squarings; none when it is not reached yet.
    #[must_use]
    pub fn form(&self, index: u64, d: &Discriminant) -> Option<Form> {
        let index = usize::try_from(index).ok()?;
        let kept = match self.full.get(index / BLOCK) {
            Some(block) => block.get(index % BLOCK)?,
            None => self.open.get(index.checked_sub(self.full.len() * BLOCK)?)?,
        };
        Some(kept.form(d))
    }

    fn keep(&mut self) {
        self.open.push(Kept::new(&self.current));
        if self.open.len() == BLOCK {
            let block = core::mem::replace(&mut self.open, Vec::with_capacity(BLOCK));
            self.full.push(block.into());
        }
        if self.full.len() * BLOCK == MOST {
            self.thin_out();
        }
    }

    /// Keeps every second form.
    fn thin_out(&mut self) {
        let halves = self.full.chunks(2).map(|pair| {
            pair.iter().flat_map(|block| block.iter().step_by(2).copied()).collect::<Arc<[Kept]>>()
        });
        self.full = halves.collect();
        self.spacing *= 2;
    }
}

impl core::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Checkpoints")
            .field("tick", &self.tick)
            .field("spacing", &self.spacing)
            .field("kept", &(self.full.len() * BLOCK + self.open.len()))
            .finish_non_exhaustive()
    }
}
