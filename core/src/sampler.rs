//! From the 50 largest logits and a draw to a token: temperature, strict top-k, top-p, the
//! canonical distribution in f64, and the choice. This is the arithmetic of the node, so that the
//! miner's interval of a step is the verifier's. The readable version for any `k` and any width is
//! [`crate::plain`].

use crate::math;
use crate::units::{Draw, TOP_SLOTS};

/// The sampling parameters of a mined sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Logits are divided by it.
    pub temperature: f32,
    /// Rank of the first value that is dropped; 1 to 50.
    pub top_k: u32,
    /// Mass kept, in (0, 1]; 1 keeps everything.
    pub top_p: f32,
}

impl Params {
    /// The profile every version-3 proof has. spec: sampler §1
    pub const V3: Self = Self { temperature: 1.0, top_k: 50, top_p: 1.0 };
}

/// A drawn token and what the proof records of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token id.
    pub token: u32,
    /// The upper edge of its interval in the CDF (not its mass). spec: sampler §5.6
    pub upper_edge: f32,
    /// ln Σ exp over the survivors. spec: sampler §6
    pub normalizer: f32,
}

/// Candidates on the stack: token id and value, first `len` used.
#[derive(Debug, Clone, Copy)]
pub struct Survivors {
    ids: [u32; TOP_SLOTS],
    scaled: [f32; TOP_SLOTS],
    len: usize,
}

impl Survivors {
    /// Applies temperature, strict top-k and top-p to the 50 largest logits (descending, ties by
    /// ascending id). The result is in ascending id order and never empty.
    /// spec: sampler §5.2, §5.3, §5.4
    #[must_use]
    pub fn of(top_logits: &[f32; TOP_SLOTS], top_ids: &[u32; TOP_SLOTS], params: Params) -> Self {
        let mut kept = Self { ids: *top_ids, scaled: *top_logits, len: TOP_SLOTS };
        if params.temperature != 1.0 {
            for s in &mut kept.scaled {
                *s /= params.temperature;
            }
        }
        kept.strict_top_k(params.top_k);
        if params.top_p < 1.0 && kept.len > 1 {
            kept.top_p(params.top_p);
        }
        kept.sort_by_id();
        kept
    }

    /// Drops everything not above the k-th largest value; of none left, the largest with the
    /// lowest id stays. spec: sampler §5.3
    fn strict_top_k(&mut self, k: u32) {
        let kth = usize::try_from(k).unwrap_or(TOP_SLOTS).clamp(1, TOP_SLOTS) - 1;
        let threshold = self.scaled[kth];
        // Scaling keeps the order, so what lies above the threshold leads.
        self.len = self.scaled.iter().take_while(|s| **s > threshold).count();
        if self.len == 0 {
            let best = self.scaled[0];
            let ties = self.scaled.iter().zip(&self.ids).take_while(|(s, _)| **s == best);
            self.ids[0] = ties.map(|(_, id)| *id).min().unwrap_or(self.ids[0]);
            self.len = 1;
        }
    }

    /// Keeps the ranks whose preceding mass is below `p`, the first always. spec: sampler §5.4
    fn top_p(&mut self, p: f32) {
        self.order_by_rank();
        let log_z = self.log_sum_exp();
        let mut before = 0.0_f64;
        let mut kept = 0;
        for s in &self.scaled[..self.len] {
            #[allow(clippy::cast_possible_truncation)] // the rule compares in f32
            if kept > 0 && before as f32 >= p {
                break;
            }
            before += f64::from(math::probability(*s, log_z));
            kept += 1;
        }
        self.len = kept;
    }

    /// Restores "value descending, id ascending": a division can make two values equal.
    fn order_by_rank(&mut self) {
        self.insertion_sort(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0));
    }

    /// Ids of a row lie in no order at all; what is sorted is one integer an entry, id and place.
    fn sort_by_id(&mut self) {
        let mut order = [0_u64; TOP_SLOTS];
        for ((place, id), slot) in (0..).zip(&self.ids[..self.len]).zip(&mut order) {
            *slot = u64::from(*id) << 32 | place;
        }
        order[..self.len].sort_unstable();
        let scaled = self.scaled;
        for (entry, (id, value)) in
            order[..self.len].iter().zip(self.ids.iter_mut().zip(&mut self.scaled))
        {
            *id = (entry >> 32) as u32;
            *value = scaled[(entry & 63) as usize % TOP_SLOTS];
        }
    }

    /// Entries in the order of rank are nearly sorted: insertion beats anything cleverer.
    fn insertion_sort(&mut self, before: impl Fn((u32, f32), (u32, f32)) -> bool) {
        for i in 1..self.len {
            let mut at = i;
            while at > 0
                && before((self.ids[at], self.scaled[at]), (self.ids[at - 1], self.scaled[at - 1]))
            {
                self.ids.swap(at, at - 1);
                self.scaled.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn log_sum_exp(&self) -> f64 {
        math::log_sum_exp(self.scaled[..self.len].iter().copied())
    }

    /// Token ids that survived, ascending.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids[..self.len]
    }

    /// The smallest id whose running probability reaches the draw; the last survivor when rounding
    /// left the total below it. spec: sampler §5.5, §5.6
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // edges and normalizer are f32 by rule
    pub fn choose(&self, draw: Draw) -> Choice {
        let log_z = self.log_sum_exp();
        let mut running = 0.0_f64;
        let mut token = self.ids[0];
        let mut edge = 0.0_f32;
        for (id, s) in self.ids().iter().zip(&self.scaled) {
            running += f64::from(math::probability(*s, log_z));
            edge = running as f32;
            token = *id;
            if edge >= draw.get() {
                break;
            }
        }
        Choice { token, upper_edge: edge, normalizer: log_z as f32 }
    }
}
