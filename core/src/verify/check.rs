//! The checks by name. `Q…` are those of the node's quick verification, in its order; the
//! identifiers are the specification's. `S…` are the self-check's own: bindings and conditions of
//! the verification service that the node leaves open.

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        /// The checks: the node's in its order, then the self-check's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// All checks, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The check's identifier, for counters and reports.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What the check demands, in words.
            #[must_use]
            pub const fn demand(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

checks! {
    /// The chain's admission constants are the ones compiled in.
    Preparation = "Q01", "the chain's admission constants are the ones compiled in";
    /// The identifier can be registered.
    ModelCommit = "Q02", "model_identifier contains an @";
    /// The registry knows the model.
    ModelKnown = "Q03", "the model is registered";
    /// The registry can read its record.
    ModelRecord = "Q04", "the registry's record of the model is readable";
    /// The record has a difficulty.
    ModelDifficulty = "Q05", "the registered difficulty is positive";
    /// `hash` is there.
    HashPresent = "Q10", "hash is present";
    /// `model_identifier` is there.
    ModelPresent = "Q11", "model_identifier is present";
    /// `vdf` is there.
    VdfPresent = "Q12", "vdf is present";
    /// The prefix has 76 bytes.
    PrefixLength = "Q13", "header_prefix has 76 bytes";
    /// The VDF proof.
    Vdf = "Q14", "the VDF proof holds for the parent in the prefix and for tick";
    /// There are tokens.
    TokensPresent = "Q15", "chosen_tokens are present";
    /// The window has the chain's size.
    WindowSize = "Q16", "the window has the chain's size";
    /// One row of logits per token.
    LogitRows = "Q17", "one evidence row of logits per token";
    /// One row of ids per token.
    IdRows = "Q18", "one evidence row of ids per token";
    /// The temperature is a number.
    TemperatureFinite = "Q20", "temperature is finite";
    /// The temperature is in its range.
    Temperature = "Q21", "temperature is in range";
    /// Top-p is a number.
    TopPFinite = "Q22", "top_p is finite";
    /// Top-p is in its range.
    TopP = "Q23", "top_p is in range";
    /// Top-k is in its range.
    TopK = "Q24", "top_k is in range";
    /// One draw per token.
    DrawCount = "Q25", "one sampling_u per token";
    /// Every claimed draw is in `[0, 1)`.
    DrawRange = "Q26", "every sampling_u lies in [0, 1)";
    /// The version-3 profile.
    V3Profile = "Q27", "version 3 fixes temperature 1, top_p 1, top_k 50, repetition_penalty 1";
    /// The penalty is a number. The node compares with NaN here, in no defined order.
    /// spec: verification §4.2
    PenaltyFinite = "Q28", "repetition_penalty is finite";
    /// `hash` has 32 bytes.
    HashLength = "Q30", "hash has 32 bytes";
    /// The closing digest.
    ClosingDigest = "Q31", "hash is the closing digest of the window";
    /// `hash` holds a nonce. Implied by [`Check::HashLength`].
    NonceBytes = "Q40", "hash has 4 bytes at least";
    /// `target` has 32 bytes.
    TargetLength = "Q41", "target has 32 bytes";
    /// The prefix can be hashed. Implied by [`Check::PrefixLength`].
    HeaderLength = "Q42", "header_prefix makes a header";
    /// The prefix's compact target is one.
    CompactBits = "Q43", "the prefix's compact target is neither negative nor too large";
    /// `target` is the prefix's.
    TargetMatches = "Q44", "target is the expansion of the prefix's compact target";
    /// The header test.
    HeaderHash = "Q45", "the header hash meets the target";
    /// Logits and ids of a step pair up, and there are some: the node reads outside its buffers for
    /// an empty row. spec: verification §4.2
    RowsPair = "Q50", "logits and ids of a step have the same number, at least one";
    /// Evidence logits are finite.
    LogitsFinite = "Q51", "every evidence logit is finite";
    /// Recorded edges are finite.
    EdgesFinite = "Q52", "chosen_probs are finite";
    /// Recorded edges are in their range.
    EdgesRange = "Q53", "chosen_probs lie in [0, 1] within 1e-6";
    /// Claimed draws are numbers.
    DrawsFinite = "Q54", "every sampling_u is finite";
    /// Statistics are finite.
    StatsFinite = "Q55", "logsumexp_stats are finite";
    /// Claimed draws are the recomputed ones.
    Draws = "Q60", "every sampling_u is the recomputed draw";
    /// Draws lie in their intervals.
    Intervals = "Q61", "every draw lies in the interval of its token";
    /// The bounds make intervals.
    CreditBounds = "Q70", "interval bounds are finite and ordered";
    /// The window is worth its admission.
    CreditFloor = "Q71", "the credited entropy reaches the floor";
    /// Below the free tier a nonce is claimed.
    NonceClaimed = "Q72", "the credited entropy is in the free tier, or a nonce is claimed";
    /// A claimed nonce has a difficulty to be judged by.
    PuzzleDifficulty = "Q73", "the difficulty of a claimed nonce is positive";
    /// The mask covers the prompt, or is left out.
    PuzzleMask = "Q74", "pad_mask is empty or as long as the prompt";
    /// The puzzle.
    Puzzle = "Q75", "the claimed nonce solves the admission puzzle";
    /// The puzzle can be written down.
    PuzzleEncoding = "Q76", "the admission puzzle of a claimed nonce can be computed";
    /// The bounds make a range.
    ReuseBounds = "Q80", "interval bounds are finite and ordered";
    /// The reuse-entropy cap.
    ReuseScore = "Q81", "the reuse-entropy score is within the cap";
    /// The prefix is the job's.
    JobPrefix = "S01", "header_prefix is the job's";
    /// `block_hash` is the parent of the prefix.
    Parent = "S02", "block_hash is the parent in the prefix";
    /// The penalty is neutral, whatever the version.
    Penalty = "S03", "repetition_penalty is 1";
    /// The prompt is not empty.
    Prompt = "S04", "the prompt is not empty";
    /// The mask covers the prompt.
    Mask = "S05", "pad_mask is as long as the prompt";
    /// The tick fits the verifier.
    Tick = "S06", "tick fits 32 bits";
    /// The identifier is `name@commit`.
    Identifier = "S07", "model_identifier has exactly one @";
    /// Rows have the network's widths.
    Widths = "S08", "rows have 70 evidence entries and 6 statistics";
    /// Per-token lists are complete.
    Lists = "S09", "chosen_probs, softmax_normalizers and statistics have one entry per token";
    /// The logits lie on the declared grid.
    Grid = "S10", "evidence logits lie on the grid of compute_precision";
    /// Recorded edges are near the recomputed ones.
    Edges = "S11", "chosen_probs are within 0.005 of the recomputed edge";
    /// The canonical form is small enough.
    Size = "S12", "the canonical form has at most 1 000 000 bytes";
    /// A recomputed draw below 1.
    DrawBelowOne = "S13", "no recomputed draw is 1";
    /// The version is enough for the height.
    Version = "S14", "the version is the one the height demands";
    /// A verifier that rounds otherwise finds the same tier.
    CreditMargin = "S15", "the credited entropy is clear of the tier's threshold";
    /// A verifier that rounds otherwise finds the same score.
    ReuseMargin = "S16", "the reuse-entropy score is clear of the cap";
}
