//! `tensorpow proof diff`: the fields in which two proofs differ, with the first place and the
//! values there. Two proofs without a difference have the same commitment, whatever form they came
//! in.

use super::input;
use super::{Outcome, ProofCommandError, print, print_json};
use clap::Args;
use serde_json::json;
use tensorpow_core::proof::{ProofRef, Rows, Words};

/// Flags of `proof diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// One proof, in any form; `-` is standard input
    #[arg(value_name = "A")]
    a: String,
    /// The other
    #[arg(value_name = "B")]
    b: String,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// A field that differs.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    field: &'static str,
    /// The first place that differs, for lists; rows are named as in `7[3]`.
    at: Option<String>,
    /// How many places differ.
    count: usize,
    a: String,
    b: String,
}

pub(super) fn run(args: &DiffArgs) -> Result<Outcome, ProofCommandError> {
    if args.a == "-" && args.b == "-" {
        return Err(ProofCommandError::Usage("standard input holds only one of the proofs"));
    }
    let read = |name: &str| input::read(name).map_err(|e| ProofCommandError::input(name, e));
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let differences = differences(&a.proof.as_ref(), &b.proof.as_ref());
    if args.json {
        let fields: Vec<_> = differences
            .iter()
            .map(|d| json!({ "field": d.field, "at": d.at, "count": d.count, "a": d.a, "b": d.b }))
            .collect();
        print_json(&json!({ "same": fields.is_empty(), "differences": fields }))?;
    } else if differences.is_empty() {
        print("the proofs are the same\n")?;
    }
    if !args.json {
        for d in &differences {
            let place = match (&d.at, d.count) {
                (None, _) => String::new(),
                (Some(at), 1) => format!(" at {at}"),
                (Some(at), count) => format!(" first at {at} of {count} places"),
            };
            print(&format!("{}{place}: {} | {}\n", d.field, d.a, d.b))?;
        }
    }
    Ok(if differences.is_empty() { Outcome::Good } else { Outcome::Bad })
}

/// The differences, in the order of the fields.
fn differences(a: &ProofRef<'_>, b: &ProofRef<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    macro_rules! each {
        ($compare:ident: $($field:ident)*) => {
            $(found.extend($compare(stringify!($field), a.$field, b.$field));)*
        };
    }
    each!(values: version tick timestamp);
    each!(bytes: target vdf hash block_hash header_prefix);
    each!(values: is_solution);
    each!(texts: model_identifier compute_precision ipfs_cid extra_flags);
    each!(floats: temperature top_p);
    each!(values: top_k);
    each!(floats: repetition_penalty);
    each!(ids: chosen_tokens);
    each!(float_lists: chosen_probs sampling_u softmax_normalizers);
    each!(ids: prompt_tokens);
    let masks = [a.pad_mask, b.pad_mask].map(|mask| mask.iter().collect::<Vec<u8>>());
    found.extend(bytes("pad_mask", &masks[0], &masks[1]));
    each!(float_rows: topk_logits);
    each!(id_rows: topk_indices);
    each!(float_rows: logsumexp_stats);
    found
}

fn values<T: PartialEq + ToString>(field: &'static str, a: T, b: T) -> Option<Difference> {
    let differ = a != b;
    differ.then(|| Difference { field, at: None, count: 1, a: a.to_string(), b: b.to_string() })
}

/// Floats by their bits, which are what is hashed; shown with them where their text is the same.
fn floats(field: &'static str, a: f32, b: f32) -> Option<Difference> {
    (a.to_bits() != b.to_bits()).then(|| Difference {
        field,
        at: None,
        count: 1,
        a: float(a.to_bits()),
        b: float(b.to_bits()),
    })
}

fn float(bits: u32) -> String {
    format!("{} ({bits:08x})", f32::from_bits(bits))
}

fn texts(field: &'static str, a: &[u8], b: &[u8]) -> Option<Difference> {
    let shown = |text: &[u8]| format!("{:?}", String::from_utf8_lossy(text));
    (a != b).then(|| Difference { field, at: None, count: 1, a: shown(a), b: shown(b) })
}

/// Where two lists differ: the first place, and how many there are; what one has beyond the other's
/// end counts.
fn places<T: PartialEq>(
    a: impl ExactSizeIterator<Item = T>,
    b: impl ExactSizeIterator<Item = T>,
) -> Option<(usize, usize)> {
    let (len_a, len_b) = (a.len(), b.len());
    let common = len_a.min(len_b);
    let differing: Vec<usize> =
        a.zip(b).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
    let count = differing.len() + len_a.max(len_b) - common;
    let first = differing.first().copied().unwrap_or(common);
    (count > 0).then_some((first, count))
}

fn bytes(field: &'static str, a: &[u8], b: &[u8]) -> Option<Difference> {
    let (at, count) = places(a.iter(), b.iter())?;
    // From the first difference on, a few bytes.
    let shown = |bytes: &[u8]| match bytes.get(at..) {
        Some([]) | None => format!("ends after {} bytes", bytes.len()),
        Some(rest) if rest.len() > 8 => format!("{}…", hex::encode(&rest[..8])),
        Some(rest) => hex::encode(rest),
    };
    Some(Difference { field, at: Some(at.to_string()), count, a: shown(a), b: shown(b) })
}

fn words(
    field: &'static str,
    (a, b): (Words<'_>, Words<'_>),
    show: fn(u32) -> String,
) -> Option<Difference> {
    let (at, count) = places(a.iter(), b.iter())?;
    let shown = |words: Words<'_>| match words.get(at) {
        Some(word) => show(word),
        None => format!("ends after {} entries", words.len()),
    };
    Some(Difference { field, at: Some(at.to_string()), count, a: shown(a), b: shown(b) })
}

fn ids(field: &'static str, a: Words<'_>, b: Words<'_>) -> Option<Difference> {
    words(field, (a, b), |id| id.to_string())
}

fn float_lists(field: &'static str, a: Words<'_>, b: Words<'_>) -> Option<Difference> {
    words(field, (a, b), float)
}

/// The first row that differs, and the number of words that do in all rows.
fn rows(
    field: &'static str,
    (a, b): (Rows<'_>, Rows<'_>),
    show: fn(u32) -> String,
) -> Option<Difference> {
    let mut found: Option<Difference> = None;
    for row in 0..a.len().min(b.len()) {
        let Some(here) = words(field, (a.row(row), b.row(row)), show) else { continue };
        match &mut found {
            Some(first) => first.count += here.count,
            None => {
                let at = here.at.as_ref().map(|column| format!("{row}[{column}]"));
                found = Some(Difference { at, ..here });
            }
        }
    }
    if found.is_none() && a.len() != b.len() {
        let shown = |rows: Rows<'_>| format!("{} rows", rows.len());
        let (at, count) = (a.len().min(b.len()), a.len().abs_diff(b.len()));
        found =
            Some(Difference { field, at: Some(at.to_string()), count, a: shown(a), b: shown(b) });
    }
    found
}

fn float_rows(field: &'static str, a: Rows<'_>, b: Rows<'_>) -> Option<Difference> {
    rows(field, (a, b), float)
}

fn id_rows(field: &'static str, a: Rows<'_>, b: Rows<'_>) -> Option<Difference> {
    rows(field, (a, b), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::proof::Proof;

    fn only(a: &Proof, b: &Proof) -> Difference {
        let mut found = differences(&a.as_ref(), &b.as_ref());
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn every_kind_of_field_is_compared_by_its_bits() {
        let a = Proof {
            tick: 7,
            vdf: vec![1, 2, 3],
            temperature: 0.0,
            chosen_tokens: vec![5, 6],
            pad_mask: vec![0, 2],
            topk_logits: vec![vec![1.0], vec![2.0, f32::NAN]],
            ..Proof::default()
        };
        assert!(differences(&a.as_ref(), &a.clone().as_ref()).is_empty());
        let tick = only(&a, &Proof { tick: 8, ..a.clone() });
        assert_eq!((tick.field, tick.a.as_str(), tick.b.as_str()), ("tick", "7", "8"));
        let vdf = only(&a, &Proof { vdf: vec![1, 9], ..a.clone() });
        assert_eq!((vdf.at.as_deref(), vdf.count, vdf.b.as_str()), (Some("1"), 2, "09"));
        let sign = only(&a, &Proof { temperature: -0.0, ..a.clone() });
        assert_eq!(sign.b, "-0 (80000000)");
        let tokens = only(&a, &Proof { chosen_tokens: vec![5], ..a.clone() });
        assert_eq!((tokens.at.as_deref(), tokens.b.as_str()), (Some("1"), "ends after 1 entries"));
        let mask = only(&a, &Proof { pad_mask: vec![0, 1], ..a.clone() });
        assert_eq!((mask.a.as_str(), mask.b.as_str()), ("02", "01"));
        let rows = vec![vec![1.0], vec![3.0, f32::NAN]];
        let logits = only(&a, &Proof { topk_logits: rows, ..a.clone() });
        assert_eq!((logits.at.as_deref(), logits.count), (Some("1[0]"), 1));
        let fewer = only(&a, &Proof { topk_logits: vec![vec![1.0]], ..a.clone() });
        assert_eq!((fewer.at.as_deref(), fewer.b.as_str()), (Some("1"), "1 rows"));
    }
}
