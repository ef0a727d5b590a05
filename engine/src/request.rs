//! What an engine says when a sequence begins and ends.

use std::fmt;

/// Why an engine keeps a request off the mined path although it carries a payload: something
/// other than the four sampler numbers shapes the text, or the hook cannot see raw logits.
/// spec: sampler §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// Grammar, JSON schema, response format or tool calls.
    Grammar,
    /// More than one choice of one prompt.
    SeveralChoices,
    /// Presence, frequency, repetition or DRY penalty.
    Penalty,
    /// Logit bias.
    LogitBias,
    /// Any other sampler set away from neutral.
    SamplerOption,
    /// A seed.
    Seed,
    /// A reasoning budget that forces tokens.
    ReasoningBudget,
    /// LoRA or control vectors.
    Adapter,
    /// Image or audio input.
    Multimodal,
    /// A server that shifts contexts or re-uses shifted caches.
    ContextShift,
    /// Embeddings, reranking, infilling.
    NotCompletion,
    /// A backend that keeps its logits to itself.
    Backend,
    /// A reason this library is too old to know.
    Other,
}

impl Exclusion {
    /// All reasons, each at the place of its bit.
    const BY_BIT: [Self; 12] = [
        Self::Grammar,
        Self::SeveralChoices,
        Self::Penalty,
        Self::LogitBias,
        Self::SamplerOption,
        Self::Seed,
        Self::ReasoningBudget,
        Self::Adapter,
        Self::Multimodal,
        Self::ContextShift,
        Self::NotCompletion,
        Self::Backend,
    ];

    /// Every label, for counters that start at zero.
    pub(crate) fn labels() -> impl Iterator<Item = &'static str> {
        Self::BY_BIT.into_iter().chain([Self::Other]).map(Self::label)
    }

    /// A short name for counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grammar => "grammar",
            Self::SeveralChoices => "several_choices",
            Self::Penalty => "penalty",
            Self::LogitBias => "logit_bias",
            Self::SamplerOption => "sampler_option",
            Self::Seed => "seed",
            Self::ReasoningBudget => "reasoning_budget",
            Self::Adapter => "adapter",
            Self::Multimodal => "multimodal",
            Self::ContextShift => "context_shift",
            Self::NotCompletion => "not_completion",
            Self::Backend => "backend",
            Self::Other => "excluded_other",
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grammar => "the request uses a grammar, a JSON schema or tools",
            Self::SeveralChoices => "the request asks for several choices",
            Self::Penalty => "the request sets a penalty",
            Self::LogitBias => "the request biases logits",
            Self::SamplerOption => "the request sets a sampler a verifier cannot follow",
            Self::Seed => "the request fixes a seed",
            Self::ReasoningBudget => "the request has a reasoning budget",
            Self::Adapter => "the model runs with an adapter",
            Self::Multimodal => "the request has input other than text",
            Self::ContextShift => "the server shifts contexts or caches",
            Self::NotCompletion => "the request is no completion",
            Self::Backend => "the backend does not give raw logits",
            Self::Other => "the engine excludes the request for a reason unknown here",
        })
    }
}

/// A set of [`Exclusion`]s, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exclusions(u32);

impl Exclusions {
    /// Takes the bits of the C interface; bits without a name count as [`Exclusion::Other`].
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The reason that counts: the lowest bit set.
    #[must_use]
    pub fn first(self) -> Option<Exclusion> {
        let bit = usize::try_from(self.0.trailing_zeros()).unwrap_or(usize::MAX);
        (self.0 != 0).then(|| Exclusion::BY_BIT.get(bit).copied().unwrap_or(Exclusion::Other))
    }
}

impl FromIterator<Exclusion> for Exclusions {
    fn from_iter<I: IntoIterator<Item = Exclusion>>(exclusions: I) -> Self {
        let bit = |wanted| {
            let place = Exclusion::BY_BIT.iter().position(|known| *known == wanted);
            place.map_or(1 << 31, |place| 1 << place)
        };
        Self(exclusions.into_iter().fold(0, |bits, exclusion| bits | bit(exclusion)))
    }
}

/// How a sequence ended, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The text is complete: end token, stop word or length.
    Finished,
    /// The client went away or the request was aborted.
    Cancelled,
    /// The engine failed.
    Error,
    /// The archive no longer describes what the model sees: shifted context, truncated cache.
    ContinuityLost,
}

impl EndReason {
    /// A short name for counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
            Self::ContinuityLost => "continuity_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_counts_and_unknown_bits_have_a_name() {
        assert_eq!(Exclusions::from_bits(0).first(), None);
        assert_eq!(Exclusions::from_bits(0b110).first(), Some(Exclusion::SeveralChoices));
        assert_eq!(Exclusions::from_bits(1 << 11).first(), Some(Exclusion::Backend));
        assert_eq!(Exclusions::from_bits(1 << 12).first(), Some(Exclusion::Other));
        assert_eq!(Exclusions::from_bits(1 << 31).first(), Some(Exclusion::Other));
    }

    #[test]
    fn a_set_of_names_has_their_bits() {
        let set = [Exclusion::Seed, Exclusion::Penalty].into_iter().collect::<Exclusions>();
        assert_eq!(set, Exclusions::from_bits(1 << 2 | 1 << 5));
        let other = [Exclusion::Other].into_iter().collect::<Exclusions>();
        assert_eq!(other.first(), Some(Exclusion::Other));
    }
}
