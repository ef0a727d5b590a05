//! A proof in plain words: what it claims, and every check with its value and its outcome, for
//! people who want to see rather than believe.

use std::fmt;
use tensorpow_core::admission::extract;
use tensorpow_core::classify::judge;
use tensorpow_core::credit::Tier;
use tensorpow_core::proof::{MAX_CANONICAL_LEN, MiningResponseRef, ProofRef, canonical, commit};
use tensorpow_core::replay;
use tensorpow_core::selfcheck::{Check, Expected, Purpose, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::units::{BlockHash, Digest, HashPow, HeaderPrefix, WINDOW};
use tensorpow_core::vdf;
use tensorpow_core::verify::{self, Chain, Params, Registry, Vdf, Workspace};

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub name: &'static str,
    /// The value seen.
    pub value: String,
    /// Whether a check holds; `None` for a mere statement.
    pub passed: Option<bool>,
}

/// A proof in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the proof says about itself.
    pub claims: Vec<Line>,
    /// What was checked.
    pub checks: Vec<Line>,
}

impl Report {
    /// True when every check holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|line| line.passed != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.claims {
            writeln!(f, "  {:<18} {}", line.name, line.value)?;
        }
        writeln!(f)?;
        for line in &self.checks {
            let mark = match line.passed {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "    ",
            };
            writeln!(f, "  {mark} {:<18} {}", line.name, line.value)?;
        }
        let verdict = if self.passed() { "every check passed" } else { "NOT a valid proof" };
        write!(f, "\n  {verdict}")
    }
}

/// A mere statement.
pub(crate) fn claim(name: &'static str, value: impl fmt::Display) -> Line {
    Line { name, value: value.to_string(), passed: None }
}

fn check(name: &'static str, passed: bool, value: impl fmt::Display) -> Line {
    Line { name, value: value.to_string(), passed: Some(passed) }
}

/// What a proof is held against beyond itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Against {
    /// The adjusted share target of its job, for shares.
    pub share_target: Option<Target>,
    /// Version 3 is active on its chain.
    pub v3_active: bool,
}

/// The report of a mining result. A message without a proof has one failed check.
#[must_use]
pub fn of_proof(response: &MiningResponseRef<'_>, against: &Against) -> Report {
    let Some(proof) = response.pow_blob else {
        let missing = check("proof", false, "the message carries none");
        return Report { claims: Vec::new(), checks: vec![missing] };
    };
    let mut checks = sequence_checks(&proof, against);
    checks.push(vdf_check(&proof));
    checks.extend(header_checks(response, &proof, against));
    checks.extend(encoding_checks(response, &proof));
    checks.extend(rules_checks(response, &proof, against));
    Report { claims: claims(&proof, Some(response)), checks }
}

/// Bytes that should be text, with everything that could disturb a terminal escaped.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// What a proof says about itself, and what the mining result around it says.
#[must_use]
pub fn claims(proof: &ProofRef<'_>, message: Option<&MiningResponseRef<'_>>) -> Vec<Line> {
    let bare = MiningResponseRef { pow_blob: Some(*proof), ..MiningResponseRef::default() };
    let kind = match (message.unwrap_or(&bare).is_audit(), proof.is_solution) {
        (true, _) => "audit",
        (false, true) => "block solution",
        (false, false) => "share",
    };
    let parent = proof.block_hash.try_into().map(BlockHash::from_bytes);
    let mut lines = vec![
        claim("kind", kind),
        claim("model", text(proof.model_identifier)),
        claim("precision", text(proof.compute_precision)),
        claim("proof version", proof.version),
    ];
    if let Some(message) = message {
        let completion = message.effective_completion_id().unwrap_or_default();
        lines.push(claim("request id", message.req_id));
        lines.push(claim("completion id", text(completion.as_bytes())));
    }
    lines.extend([
        claim(
            "parent block",
            parent.map_or_else(|_| "none".to_owned(), |p| p.display().to_string()),
        ),
        claim("VDF", format_args!("tick {}, {} bytes", proof.tick, proof.vdf.len())),
        claim("prompt", format_args!("{} tokens", proof.prompt_tokens.len())),
        claim(
            "sampling",
            format_args!(
                "temperature {}, top_k {}, top_p {}, repetition_penalty {}",
                proof.temperature, proof.top_k, proof.top_p, proof.repetition_penalty
            ),
        ),
    ]);
    lines
}

/// Tokens, draws, intervals and the closing digest; in version 3 all of them with the nonce that the
/// proof claims. spec: sampler §11, admission §4
fn sequence_checks(proof: &ProofRef<'_>, against: &Against) -> Vec<Line> {
    let active = against.v3_active && proof.version >= 3;
    let nonce = extract(proof.extra_flags).filter(|_| active);
    let tokens = proof.chosen_tokens.len();
    let mut inside = 0;
    let mut least_margin = f32::INFINITY;
    let mut worst_draw = 0.0_f32;
    let mut workspace = Workspace::new();
    let replayed =
        verify::steps(proof, nonce.as_ref(), &mut workspace.scratch(proof, None), |step| {
            worst_draw = worst_draw.max((step.draw - step.claimed).abs());
            inside += usize::from(step.interval.inside);
            least_margin = least_margin.min(step.interval.margin(step.draw));
        });
    let digest = replay::closing_digest(proof, nonce.as_ref());
    vec![
        check("window", tokens == WINDOW, format_args!("{tokens} tokens")),
        check(
            "draws",
            replayed.is_ok() && worst_draw <= 1e-7,
            format_args!("all recomputed from the context, largest difference {worst_draw:e}"),
        ),
        check(
            "u in interval",
            inside == tokens,
            format_args!("{inside} of {tokens} steps, smallest margin {least_margin:.2e}"),
        ),
        check("final digest", proof.hash == digest.as_bytes(), format_args!("{digest:x}")),
    ]
}

/// The VDF proof on the parent block. spec: vdf §8, §9
fn vdf_check(proof: &ProofRef<'_>) -> Line {
    let Ok(parent) = proof.block_hash.try_into().map(BlockHash::from_bytes) else {
        return check("VDF", false, "no parent block to verify it for");
    };
    match vdf::verify(&parent, proof.tick, proof.vdf) {
        Ok(()) => check("VDF", true, format_args!("{} squarings verified", proof.tick)),
        Err(error) => check("VDF", false, error),
    }
}

/// The header and its thresholds. spec: targets §5, §8
fn header_checks(
    response: &MiningResponseRef<'_>,
    proof: &ProofRef<'_>,
    against: &Against,
) -> Vec<Line> {
    let prefix: Result<[u8; HeaderPrefix::LEN], _> = proof.header_prefix.try_into();
    let digest: Result<[u8; Digest::LEN], _> = proof.hash.try_into();
    let (Ok(prefix), Ok(digest)) = (prefix, digest) else {
        let lengths = (proof.header_prefix.len(), proof.hash.len());
        return vec![check(
            "header",
            false,
            format_args!("prefix and hash have {lengths:?} bytes"),
        )];
    };
    let (prefix, digest) = (HeaderPrefix::from_bytes(prefix), Digest::from_bytes(digest));
    let expanded = prefix.bits().expand();
    let target = expanded.target;
    let same_target = proof.target == target.to_be_bytes();
    let verdict = judge(&prefix, &digest, &target, against.share_target.as_ref());
    let mut lines = vec![check(
        "target",
        same_target && !expanded.negative && !expanded.overflow,
        format_args!("{target:x} = expansion of bits {}", prefix.bits()),
    )];
    if response.is_audit() {
        return lines;
    }
    lines.push(check(
        "nonce and bits",
        response.nonce == verdict.nonce && response.adjusted_bits == prefix.bits().to_bits(),
        format_args!("{:#010x}, {:#010x}", response.nonce, response.adjusted_bits),
    ));
    lines.push(claim("header hash", verdict.header_hash.display()));
    let relation = |met| if met { "at or below" } else { "above" };
    let block = format!("{} the block target", relation(verdict.is_solution));
    let share = against
        .share_target
        .map(|target| format!("{} the share target {target:x}", relation(verdict.is_share)));
    // Each threshold is a demand only on what claims to meet it.
    lines.push(Line {
        name: "block target",
        value: block,
        passed: proof.is_solution.then_some(verdict.is_solution),
    });
    if let Some(share) = share {
        let passed = (!proof.is_solution).then_some(verdict.is_share);
        lines.push(Line { name: "share target", value: share, passed });
    }
    lines
}

/// Commitment and size. spec: proof-encoding §6, §8
fn encoding_checks(response: &MiningResponseRef<'_>, proof: &ProofRef<'_>) -> Vec<Line> {
    let size = canonical::canonical_len(proof);
    let mut lines = vec![check(
        "size",
        size <= MAX_CANONICAL_LEN,
        format_args!("{size} of {MAX_CANONICAL_LEN} bytes"),
    )];
    if let Ok(commitment) = commit(proof) {
        let root: HashPow = commitment.root;
        // Nodes ignore the field's value; ours is the commitment, others write something else.
        let same = response.pow_blob_hash == root.as_bytes();
        let note = if same { "= pow_blob_hash" } else { "pow_blob_hash holds another value" };
        lines.push(claim("commitment", format_args!("{root:x} {note}")));
    }
    lines
}

/// The full self-check, as it is made before a proof leaves an engine, and what it saw of credited
/// entropy and admission. spec: verification §17, admission §7
fn rules_checks(
    response: &MiningResponseRef<'_>,
    proof: &ProofRef<'_>,
    against: &Against,
) -> Vec<Line> {
    let active = against.v3_active && proof.version >= 3;
    let expected = Expected {
        header_prefix: None,
        chain: Chain::assumed(active, response.difficulty.into()),
        registry: Registry::Absent,
        // Verified on a line of its own.
        vdf: Vdf::Skip,
    };
    // Without a share target a share is held against everything but its threshold.
    let any = Target::MAX;
    let purpose = match (response.is_audit(), proof.is_solution) {
        (true, _) => Purpose::Audit,
        (false, true) => Purpose::Solution,
        (false, false) => Purpose::Share(against.share_target.as_ref().unwrap_or(&any)),
    };
    let mut workspace = Workspace::new();
    let mut scratch = workspace.scratch(proof, Some(&expected.chain));
    let passed = match selfcheck(proof, &expected, purpose, &mut scratch) {
        Ok(passed) => passed,
        Err(failed) => return vec![check("rules", false, failed)],
    };
    let Params { floor_bits, free_bits, .. } = expected.chain.params;
    let limits = format_args!("at least {floor_bits}, free from {free_bits}");
    let credit = format!("{:.2} bits ({limits}): tier {}", passed.credit.bits(), passed.tier);
    let mut lines = vec![Line {
        name: "credited entropy",
        value: credit,
        passed: active.then_some(passed.tier != Tier::Invalid),
    }];
    if let Some(nonce) = extract(proof.extra_flags).filter(|_| active) {
        lines.push(check("admission", true, format_args!("nonce {nonce:x} solves its puzzle")));
    }
    lines.push(check(
        "rules",
        true,
        format_args!(
            "{} checks, reuse score {:.2} of 57.72",
            Check::ALL.len(),
            reuse(passed.reuse_score)
        ),
    ));
    lines
}

/// A reuse score in units of 2^-32 as a number.
#[allow(clippy::cast_precision_loss)] // shown with two decimals
pub(crate) fn reuse(score: u64) -> f64 {
    score as f64 / 4_294_967_296.0
}
