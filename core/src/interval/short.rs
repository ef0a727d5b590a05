//! The short way for rows as miners record them: the largest logits first, in descending order,
//! then probes that are smaller or repeat one of them. What top-k masks is known from where it
//! stands then, and only the leading ids are sorted. Rows of any other kind are left to
//! [`super::Row`]; where both ways lead they give the same bits, which a test holds.

use super::{Interval, Recorded};
use crate::math;
use crate::proof::Words;

/// Widest row taken.
const MAX_WIDTH: usize = 128;
/// Largest top-k taken, which is the networks' largest.
const MAX_RANK: usize = 50;
/// Largest logit taken, after temperature: it bounds the error of [`Survivors::probability`].
const MAX_LOGIT: f32 = 512.0;

/// The interval of the chosen token, or none when the row is of another kind.
/// spec: verification §6
pub(super) fn interval(
    logits: Words<'_>,
    ids: Words<'_>,
    recorded: Recorded,
    chosen: u32,
    draw: f32,
) -> Option<Interval> {
    let rank = usize::try_from(recorded.top_k).ok().filter(|k| (1..=MAX_RANK).contains(k))?;
    let width = logits.len();
    let plain = !recorded.penalises() && recorded.top_p >= 1.0 && recorded.temperature > 0.0;
    if !plain || width <= rank || ids.len() != width {
        return None;
    }
    let (mut id_room, mut logit_room) = ([0; MAX_WIDTH], [0.0; MAX_WIDTH]);
    let (ids_of_row, logits_of_row) = (id_room.get_mut(..width)?, logit_room.get_mut(..width)?);
    ids.copy_to(ids_of_row);
    logits.copy_f32_to(logits_of_row);
    let leading = Leading::of(ids_of_row, logits_of_row, rank)?;
    let survivors = Survivors::of(&leading, logits_of_row, recorded.temperature)?;
    Some(Interval::around(draw, survivors.bounds(chosen)))
}

/// The `rank` entries a row begins with, ascending by id.
struct Leading {
    /// `id ‖ position in the row`, 32 bits each.
    keys: [u64; MAX_RANK],
    rank: usize,
}

impl Leading {
    /// None unless the leading logits descend, their ids differ, no other id has a larger logit
    /// than the last of them, and at least one other id is there: then the last of them is the
    /// k-th largest of all distinct ids, and top-k masks. spec: verification §6 steps 1, 5
    fn of(ids: &[u32], logits: &[f32], rank: usize) -> Option<Self> {
        let (leading_ids, other_ids) = ids.split_at_checked(rank)?;
        let (leading, others) = logits.split_at_checked(rank)?;
        // A NaN is in no order.
        if !leading.windows(2).all(|pair| pair[0] >= pair[1]) {
            return None;
        }
        let mut keys = [0; MAX_RANK];
        for (key, (id, at)) in keys.iter_mut().zip(leading_ids.iter().zip(0_u64..)) {
            *key = u64::from(*id) << 32 | at;
        }
        let sorted = keys.get_mut(..rank)?;
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] >> 32 == pair[1] >> 32) {
            return None;
        }
        let last = *leading.last()?;
        let mut foreign = false;
        for (id, logit) in other_ids.iter().zip(others) {
            if foreign && *logit <= last {
                continue;
            }
            match sorted.binary_search_by_key(&u64::from(*id), |key| key >> 32) {
                // A repeated id counts with its largest logit.
                Ok(at) if *logit <= logits[position(sorted[at])] => {}
                Err(_) if *logit <= last => foreign = true,
                _ => return None,
            }
        }
        foreign.then_some(Self { keys, rank })
    }

    fn sorted(&self) -> &[u64] {
        self.keys.get(..self.rank).unwrap_or_default()
    }
}

/// Where in the row a key's entry stands.
fn position(key: u64) -> usize {
    (key & 0xFFFF_FFFF) as usize
}

/// What top-k leaves, ascending by id, with weights relative to the largest value.
struct Survivors {
    ids: [u32; MAX_RANK],
    values: [f32; MAX_RANK],
    weights: [f64; MAX_RANK],
    count: usize,
    sum: f64,
    log_z: f64,
}

impl Survivors {
    /// None when nothing is above the last of the leading values, or a value is too large.
    /// spec: verification §6 steps 2, 5, 8
    fn of(leading: &Leading, logits: &[f32], temperature: f32) -> Option<Self> {
        let max = *logits.first()? / temperature;
        let threshold = *logits.get(leading.rank.checked_sub(1)?)? / temperature;
        let bounded = |value: f32| value.abs() <= MAX_LOGIT;
        if !(bounded(max) && bounded(threshold) && max > threshold) {
            return None;
        }
        let (mut ids, mut values) = ([0; MAX_RANK], [0.0; MAX_RANK]);
        let mut count = 0;
        for key in leading.sorted() {
            let value = logits[position(*key)] / temperature;
            if value > threshold {
                #[allow(clippy::cast_possible_truncation)] // the upper half of the key
                {
                    ids[count] = (key >> 32) as u32;
                }
                values[count] = value;
                count += 1;
            }
        }
        let mut weights = [0.0; MAX_RANK];
        let mut sum = 0.0;
        for (weight, value) in weights.iter_mut().zip(&values).take(count) {
            *weight = libm::exp(f64::from(*value) - f64::from(max));
            sum += *weight;
        }
        let log_z = f64::from(max) + libm::log(sum);
        Some(Self { ids, values, weights, count, sum, log_z })
    }

    /// [`math::probability`] of a survivor, mostly without its exponential.
    ///
    /// With all values within [`MAX_LOGIT`] the quotient and the exponential differ by less than
    /// 2^-43 of their size, whatever the roundings of both: 714 roundings of 2^-53 at most, each
    /// unit of the exponents counted as one. That moves the last 29 bits, which the conversion to
    /// f32 drops, by less than 2^10 units; unless they are that close to one half, both convert to
    /// the same f32.
    #[allow(clippy::cast_possible_truncation)] // the rule rounds to f32
    fn probability(&self, at: usize) -> f32 {
        const DROPPED: u64 = (1 << 29) - 1;
        const HALF: u64 = 1 << 28;
        const DOUBT: u64 = 1 << 12;
        let quotient = self.weights[at] / self.sum;
        let doubtful = (quotient.to_bits() & DROPPED).abs_diff(HALF) < DOUBT;
        if doubtful || quotient < f64::from(f32::MIN_POSITIVE) * 2.0 {
            return math::probability(self.values[at], self.log_z);
        }
        quotient as f32
    }

    /// CDF edges around an id; (0, 0) when it has no mass. spec: verification §6 steps 8–10
    #[allow(clippy::cast_possible_truncation)] // edges are f32 by rule
    fn bounds(&self, chosen: u32) -> (f32, f32) {
        let survivors = self.ids.get(..self.count).unwrap_or_default();
        let Ok(chosen) = survivors.binary_search(&chosen) else { return (0.0, 0.0) };
        // Not `sum`, which begins with −0.
        let below = (0..chosen).fold(0.0, |edge, at| edge + f64::from(self.probability(at)));
        let p = self.probability(chosen);
        if p > 0.0 { (below as f32, (below + f64::from(p)) as f32) } else { (0.0, 0.0) }
    }
}
