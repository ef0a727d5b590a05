//! The traces of `sampler.json`: whole sequences over generated logits. Each runs through the
//! plain sampler; where the row and `k` are such that the fast path takes them, also through
//! `window::Sequence`, step for step with the same expectations.

use crate::report::{Report, same};
use crate::sampler::{float, floats, ids};
use crate::source::{array, bits32, bytes, flag, get, list, text, uint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::classify::{self, Tier};
use tensorpow_core::context::Context;
use tensorpow_core::evidence::Evidence;
use tensorpow_core::plain::{self, TopK};
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::row::{Grid, Row};
use tensorpow_core::sampler::{Choice, Params};
use tensorpow_core::select::RowScratch;
use tensorpow_core::target::Target;
use tensorpow_core::units::{AdmissionNonce, Digest, Draw, HeaderPrefix, Tick};
use tensorpow_core::window::{Label, Sequence, Window};

pub fn run(traces: &Value, report: &mut Report) {
    for trace in traces.as_array().expect("traces is a list") {
        report.group(&format!("traces.{}", text(trace, "name")), |group| {
            for sequence in list(trace, "sequences") {
                let seq = uint(sequence, "seq");
                let result = run_sequence(uint(trace, "window_size"), trace, sequence);
                group.case(format!("sequence {seq}"), result);
            }
        });
    }
}

/// Runs a sequence with the window size of its trace; the sizes are compiled in.
fn run_sequence(window: u64, trace: &Value, sequence: &Value) -> Result<(), String> {
    macro_rules! sizes {
        ($($size:literal)*) => {
            match window {
                $($size => Run::<$size>::new(trace, sequence).and_then(|mut run| run.check()),)*
                other => Err(format!("no window of {other} tokens is compiled in")),
            }
        };
    }
    sizes!(2 4 6 8 10 12 14 16 18 20 24 28 30 32 40 48 50 56 60 64 80 96 100 128 160 192 200 256)
}

/// SplitMix64's finalizer and the generator of `spec: sampler §15`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

struct Logits<'a> {
    trace: &'a Value,
    seed: u64,
    seq: u64,
    vocab: u64,
    snap: Snap,
}

impl Logits<'_> {
    fn row(&self, position: u64) -> Vec<f32> {
        const G: u64 = 0x9E37_79B9_7F4A_7C15;
        let next = |h: u64, n: u64| mix(h.wrapping_add(G.wrapping_mul(n + 1)));
        let h = next(next(self.seed, self.seq), position);
        let value: fn(u64) -> f64 = match text(get(self.trace, "logits"), "map") {
            "u24" => |x| ((x >> 40) as f64 - 8_388_608.0) * 2f64.powi(-20),
            "grid" => |x| ((x >> 57) as f64 - 64.0) * 0.125,
            "sq24" => |x| ((x >> 40) as f64).powi(2) * 2f64.powi(-44),
            "cube" => |x| ((x >> 48) as f64).powi(3) * 2f64.powi(-43),
            other => panic!("unknown logits map {other}"),
        };
        let mut row: Vec<f32> = (0..self.vocab).map(|id| value(next(h, id)) as f32).collect();
        for change in self.trace.get("override_all").and_then(Value::as_array).into_iter().flatten()
        {
            let id = change[0].as_u64().expect("id") as usize;
            row[id] = f32::from_bits(bits32(change[1].as_str().expect("bits")));
        }
        row.iter_mut().for_each(|l| *l = self.snap.apply(*l));
        row
    }
}

/// One sequence of a trace, by the plain path and, where it applies, by the fast one.
struct Run<'a, const W: usize> {
    trace: &'a Value,
    sequence: &'a Value,
    expected: &'a Value,
    logits: Logits<'a>,
    params: Params,
    rule: TopK,
    hasher: StepHasher,
    context: Context<W>,
    archive: Vec<u32>,
    fast: Option<(Sequence<W>, Box<Window<W>>)>,
}

impl<'a, const W: usize> Run<'a, W> {
    fn new(trace: &'a Value, sequence: &'a Value) -> Result<Self, String> {
        let payload = get(sequence, "payload");
        let params = get(sequence, "params");
        let number = |key: &str| get(params, key).as_f64().expect("a number") as f32;
        let params = Params {
            temperature: number("temperature"),
            top_k: u32::try_from(uint(params, "top_k")).expect("u32"),
            top_p: number("top_p"),
        };
        let (rule, snap) = match text(trace, "backend") {
            "torch" => (TopK::Clamped, Snap::None),
            "cpp" => (TopK::Plain, Snap::for_label(text(trace, "precision"))),
            other => return Err(format!("unknown backend {other}")),
        };
        let prefix = bytes(payload, "header_prefix");
        let header = if prefix.is_empty() { bytes(payload, "block_hash") } else { prefix };
        let hasher = StepHasher::new(&header, &bytes(payload, "vdf"), Tick(uint(payload, "tick")));
        let prompt = ids(list(sequence, "prompt"));
        let seq = uint(sequence, "seq");
        let vocab = uint(trace, "vocab");
        let expected = get(get(trace, "expected"), &seq.to_string());
        let seed = u64::from_str_radix(text(get(trace, "logits"), "seed"), 16).expect("hex seed");
        // The fast path takes at least 50 logits and k ≤ 50; the torch rule clamps to that.
        let k_fits = rule == TopK::Clamped || u64::from(params.top_k) < vocab.min(51);
        let fast = (vocab >= 50 && k_fits).then(|| {
            let label = Label::new(text(trace, "precision")).expect("short label");
            let grid = Grid::Snapped(Snap::None); // the generator has snapped already
            let width = vocab as usize;
            let sequence = Sequence::new(hasher.clone(), label, grid, params, width, &prompt);
            (sequence, Box::new(Window::new()))
        });
        Ok(Self {
            trace,
            sequence,
            expected,
            logits: Logits { trace, seed, seq, vocab, snap },
            params,
            rule,
            hasher,
            context: Context::of_prompt(&prompt),
            archive: prompt,
            fast,
        })
    }

    /// The nonce of the window that step `n` belongs to.
    fn nonce(&self, n: usize) -> Option<AdmissionNonce> {
        let nonces = self.sequence.get("admission_nonces")?.as_array()?;
        Some(AdmissionNonce::from_bytes(array(nonces.get(n / W)?.as_str()?)))
    }

    fn check(&mut self) -> Result<(), String> {
        let steps = list(self.expected, "steps");
        let mut windows = list(self.expected, "windows").iter();
        for (n, step) in steps.iter().enumerate() {
            self.step(n, step).map_err(|why| format!("step {n}: {why}"))?;
            if (n + 1) % W == 0 {
                let window = windows.next().ok_or("a window nobody expected")?;
                self.window(n / W, window).map_err(|why| format!("window {}: {why}", n / W))?;
            }
        }
        same("windows left over", windows.count(), 0)
    }

    fn step(&mut self, n: usize, expected: &Value) -> Result<(), String> {
        let precision = text(self.trace, "precision").as_bytes();
        let nonce = self.nonce(n);
        let j = u32::try_from(n % W).expect("small");
        let digest = self.hasher.step(j, &self.context, precision, nonce.as_ref());
        let draw = Draw::from_digest(&digest);
        let row = self.logits.row(n as u64);
        let kept = plain::survivors(&row, self.params, self.rule);
        let choice = plain::choose(&kept, draw).ok_or("no survivor")?;
        let (logits, slots, stats) = plain::evidence(&row, self.params.temperature);

        same("j", u64::from(j), uint(expected, "j"))?;
        same("digest", digest, Digest::from_bytes(array(text(expected, "digest"))))?;
        same("u", draw.get().to_bits(), float(get(expected, "u")).to_bits())?;
        check_choice(choice, expected)?;
        check_evidence(&logits, &slots, &stats, expected)?;
        if let Some(ids_kept) = expected.get("survivors").and_then(Value::as_array) {
            same("survivors", kept.iter().map(|s| s.0).collect(), ids(ids_kept))?;
        }
        self.fast_step(j, &row, nonce, expected).map_err(|why| format!("fast path: {why}"))?;
        self.context.push(choice.token);
        self.archive.push(choice.token);
        Ok(())
    }

    fn fast_step(
        &mut self,
        j: u32,
        row: &[f32],
        nonce: Option<AdmissionNonce>,
        expected: &Value,
    ) -> Result<(), String> {
        let Some((sequence, window)) = &mut self.fast else { return Ok(()) };
        if j == 0 {
            window.clear();
            window.set_nonce(nonce).map_err(|e| e.to_string())?;
        }
        let mut scratch = Box::new(RowScratch::new());
        let mut row = Row::without_policy(row, &mut scratch).ok_or("row too short")?;
        let elsewhere = Evidence::of(&mut row, self.params.temperature);
        let by_evidence = (sequence.clone(), window.clone());
        let step = sequence.step_row(&mut row, window).map_err(|e| e.to_string())?;
        // What is not finite never becomes evidence of a mined row.
        if row.logits().all(f32::is_finite) {
            let (mut sequence, mut window) = by_evidence;
            let other = sequence.step_evidence(&elsewhere, &mut window);
            same("step by evidence", other.map_err(|e| e.to_string())?, step)?;
        }
        same("j", step.j, j)?;
        let at = j as usize;
        let choice = Choice {
            token: step.token,
            upper_edge: window.upper_edges()[at],
            normalizer: window.normalizers()[at],
        };
        check_choice(choice, expected)?;
        check_evidence(
            &window.evidence_logits()[at * 70..],
            &window.evidence_ids()[at * 70..],
            &window.stats()[at * 6..],
            expected,
        )
    }

    fn window(&mut self, index: usize, expected: &Value) -> Result<(), String> {
        let payload = get(self.sequence, "payload");
        let precision = text(self.trace, "precision").as_bytes();
        let nonce = self.nonce(index * W);
        let (prompt, tokens) = self.archive.split_at(self.archive.len() - W);
        let digest = self.hasher.closing(tokens, precision, nonce.as_ref());
        if let Some((sequence, window)) = &self.fast {
            same("fast digest", sequence.closer().digest(window), Some(digest))?;
        }
        let prefix = HeaderPrefix::from_bytes(array(text(payload, "header_prefix")));
        let target = Target::from_hex_padded(text(payload, "target")).map_err(|e| e.to_string())?;
        let share = match payload.get("share_target").and_then(Value::as_str) {
            None | Some("") => None,
            Some(share) => Some(Target::from_hex_padded(share).map_err(|e| e.to_string())?),
        };
        let verdict = classify::judge(&prefix, &digest, &target, share.as_ref());
        same("index", index as u64, uint(expected, "index"))?;
        same("digest", digest, Digest::from_bytes(array(text(expected, "final_digest"))))?;
        same("nonce", u64::from(verdict.nonce), uint(expected, "nonce"))?;
        let raw: [u8; 32] = array(text(expected, "header_hash_raw"));
        same("header hash", *verdict.header_hash.as_bytes(), raw)?;
        if let Some(theirs) = expected.get("chosen_tokens_sha256").and_then(Value::as_str) {
            same("tokens", sha256_ids(tokens), array(theirs))?;
        }
        // The reference's C++ library repeats the first prompt here; ours is always the archive.
        if text(self.trace, "name") != "llama_small_windows" || index == 0 {
            if let Some(theirs) = expected.get("prompt_tokens_len").and_then(Value::as_u64) {
                same("prompt length", prompt.len() as u64, theirs)?;
            }
            if let Some(theirs) = expected.get("prompt_tokens_sha256").and_then(Value::as_str) {
                same("prompt", sha256_ids(prompt), array(theirs))?;
            }
        }
        if let Some(bits) = expected.get("adjusted_bits").and_then(Value::as_u64) {
            same("adjusted bits", u64::from(target.compact().to_bits()), bits)?;
        }
        if expected.get("error").is_some_and(|e| !e.is_null()) {
            return Ok(()); // ours decides such a sequence at its start
        }
        let audit = payload.get("audit_emit").is_some_and(|a| a.as_bool() == Some(true));
        let submitted = self.submitted(classify::tier(&verdict, audit));
        let theirs: Vec<&str> =
            list(expected, "submitted").iter().map(|s| s.as_str().expect("text")).collect();
        same("submitted", submitted, theirs)
    }

    /// What a tier becomes in the trace's egress mode. spec: sampler §9.1, §9.2
    fn submitted(&self, tier: Tier) -> Vec<&'static str> {
        let proxied = self.trace.get("proxy_enable").is_some() && flag(self.trace, "proxy_enable");
        match (tier, text(self.trace, "egress_mode")) {
            (Tier::Solution, _) => vec!["solution"],
            (Tier::Audit, _) => vec!["audit"],
            (Tier::Share, "broker") => vec!["share"],
            (Tier::Share | Tier::Nothing, _) if proxied => vec!["audit"],
            (Tier::Share, _) => vec!["share-noop"],
            (Tier::Nothing, _) => vec![],
        }
    }
}

fn check_choice(choice: Choice, expected: &Value) -> Result<(), String> {
    same("token", u64::from(choice.token), uint(expected, "token"))?;
    near("prob", choice.upper_edge, float(get(expected, "prob")), 1e-6)?;
    near("log_z", choice.normalizer, float(get(expected, "log_z")), 5e-6)
}

fn check_evidence(
    logits: &[f32],
    slots: &[u32],
    stats: &[f32],
    expected: &Value,
) -> Result<(), String> {
    let (logits, slots) = (&logits[..70], &slots[..70]);
    if let Some(theirs) = expected.get("topk_logits").and_then(Value::as_array) {
        let bits = |row: &[f32]| row.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
        same("topk_logits", bits(logits), bits(&floats(theirs)))?;
        same("topk_indices", slots.to_vec(), ids(list(expected, "topk_indices")))?;
    }
    let mut hash = Sha256::new();
    logits.iter().for_each(|l| hash.update(l.to_le_bytes()));
    slots.iter().for_each(|id| hash.update(id.to_le_bytes()));
    let evidence: [u8; 32] = hash.finalize().into();
    same("evidence", evidence, array(text(expected, "evidence_sha256")))?;
    for (i, theirs) in
        expected.get("stats").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        near(&format!("stat {i}"), stats[i], float(theirs), 5e-6)?;
    }
    Ok(())
}

fn near(what: &str, ours: f32, theirs: f32, tolerance: f64) -> Result<(), String> {
    if ours == theirs || (f64::from(ours) - f64::from(theirs)).abs() <= tolerance {
        Ok(())
    } else {
        Err(format!("{what}: ours {ours}, expected {theirs}"))
    }
}

fn sha256_ids(ids: &[u32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    hash.finalize().into()
}
