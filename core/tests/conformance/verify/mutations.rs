//! The changes that turn a base proof into a case.

use super::proofs::{floats, ids, words};
use crate::source::{bits32, list, text, uint, unhex};
use serde_json::Value;
use tensorpow_core::proof::Proof;

/// A field of a proof by its type.
enum Field<'a> {
    Byte(&'a mut u8),
    Flag(&'a mut bool),
    Long(&'a mut u64),
    Word(&'a mut u32),
    Float(&'a mut f32),
    Bytes(&'a mut Vec<u8>),
    Words(&'a mut Vec<u32>),
    Floats(&'a mut Vec<f32>),
    WordRows(&'a mut Vec<Vec<u32>>),
    FloatRows(&'a mut Vec<Vec<f32>>),
}

fn field<'a>(proof: &'a mut Proof, name: &str) -> Field<'a> {
    match name {
        "version" => Field::Byte(&mut proof.version),
        "tick" => Field::Long(&mut proof.tick),
        "timestamp" => Field::Long(&mut proof.timestamp),
        "target" => Field::Bytes(&mut proof.target),
        "vdf" => Field::Bytes(&mut proof.vdf),
        "hash" => Field::Bytes(&mut proof.hash),
        "block_hash" => Field::Bytes(&mut proof.block_hash),
        "header_prefix" => Field::Bytes(&mut proof.header_prefix),
        "is_solution" => Field::Flag(&mut proof.is_solution),
        "model_identifier" => Field::Bytes(&mut proof.model_identifier),
        "compute_precision" => Field::Bytes(&mut proof.compute_precision),
        "ipfs_cid" => Field::Bytes(&mut proof.ipfs_cid),
        "extra_flags" => Field::Bytes(&mut proof.extra_flags),
        "temperature" => Field::Float(&mut proof.temperature),
        "top_p" => Field::Float(&mut proof.top_p),
        "top_k" => Field::Word(&mut proof.top_k),
        "repetition_penalty" => Field::Float(&mut proof.repetition_penalty),
        "chosen_tokens" => Field::Words(&mut proof.chosen_tokens),
        "chosen_probs" => Field::Floats(&mut proof.chosen_probs),
        "sampling_u" => Field::Floats(&mut proof.sampling_u),
        "softmax_normalizers" => Field::Floats(&mut proof.softmax_normalizers),
        "prompt_tokens" => Field::Words(&mut proof.prompt_tokens),
        "pad_mask" => Field::Bytes(&mut proof.pad_mask),
        "topk_logits" => Field::FloatRows(&mut proof.topk_logits),
        "topk_indices" => Field::WordRows(&mut proof.topk_indices),
        "logsumexp_stats" => Field::FloatRows(&mut proof.logsumexp_stats),
        unknown => panic!("unknown field {unknown}"),
    }
}

/// Applies one mutation.
pub fn apply(proof: &mut Proof, mutation: &Value) {
    let op = text(mutation, "op");
    if op == "greedy_rows" {
        return greedy_rows(proof);
    }
    let name = text(mutation, "field");
    let field = field(proof, name);
    match op {
        "set" => set(field, mutation),
        "set_at" => set_at(field, at(mutation, "index"), mutation),
        "set_row" => set_row(field, at(mutation, "index"), mutation),
        "set_cell" => {
            let (row, column) = (at(mutation, "index"), at(mutation, "col"));
            match field {
                Field::FloatRows(rows) => rows[row][column] = float(mutation),
                Field::WordRows(rows) => rows[row][column] = integer(mutation),
                _ => panic!("{name} has no cells"),
            }
        }
        "resize" => resize(field, at(mutation, "len")),
        "xor" => match field {
            Field::Bytes(bytes) => {
                bytes[at(mutation, "index")] ^= u8::try_from(uint(mutation, "mask")).expect("u8");
            }
            _ => panic!("{name} has no bytes"),
        },
        unknown => panic!("unknown mutation {unknown}"),
    }
}

fn at(mutation: &Value, key: &str) -> usize {
    usize::try_from(uint(mutation, key)).expect("an index")
}

fn float(mutation: &Value) -> f32 {
    f32::from_bits(bits32(text(mutation, "f32")))
}

fn integer(mutation: &Value) -> u32 {
    u32::try_from(uint(mutation, "int")).expect("a u32")
}

fn set(field: Field<'_>, mutation: &Value) {
    match field {
        Field::Byte(byte) => *byte = u8::try_from(uint(mutation, "int")).expect("u8"),
        Field::Flag(flag) => *flag = uint(mutation, "int") != 0,
        Field::Long(long) => *long = uint(mutation, "int"),
        Field::Word(word) => *word = integer(mutation),
        Field::Float(value) => *value = float(mutation),
        Field::Bytes(bytes) => {
            *bytes = match ["hex", "utf8hex"].iter().find_map(|key| mutation.get(*key)) {
                Some(hex) => unhex(hex.as_str().expect("hex")),
                None => text(mutation, "str").as_bytes().to_vec(),
            }
        }
        Field::Words(list_) => *list_ = ids(list(mutation, "u32")),
        Field::Floats(list) => *list = floats(text(mutation, "f32le")),
        Field::WordRows(_) | Field::FloatRows(_) => panic!("a matrix is set row by row"),
    }
}

fn set_at(field: Field<'_>, index: usize, mutation: &Value) {
    match field {
        Field::Words(list) => list[index] = integer(mutation),
        Field::Floats(list) => list[index] = float(mutation),
        Field::Bytes(bytes) => bytes[index] = u8::try_from(uint(mutation, "int")).expect("u8"),
        _ => panic!("set_at wants a list"),
    }
}

fn set_row(field: Field<'_>, index: usize, mutation: &Value) {
    match field {
        Field::WordRows(rows) => rows[index] = words(text(mutation, "u32le")),
        Field::FloatRows(rows) => rows[index] = floats(text(mutation, "f32le")),
        _ => panic!("set_row wants a matrix"),
    }
}

/// Truncates, or repeats the last element; bytes grow by zeros.
fn resize(field: Field<'_>, len: usize) {
    fn extend<T: Clone + Default>(list: &mut Vec<T>, len: usize) {
        list.resize(len, list.last().cloned().unwrap_or_default());
    }
    match field {
        Field::Bytes(bytes) => bytes.resize(len, 0),
        Field::Words(list) => extend(list, len),
        Field::Floats(list) => extend(list, len),
        Field::WordRows(rows) => extend(rows, len),
        Field::FloatRows(rows) => extend(rows, len),
        _ => panic!("resize wants a list"),
    }
}

/// Every row becomes the chosen token and the row's other ids, cut to the shortest; the chosen
/// token gets all the mass.
fn greedy_rows(proof: &mut Proof) {
    let rows: Vec<Vec<u32>> = proof
        .chosen_tokens
        .iter()
        .zip(&proof.topk_indices)
        .map(|(chosen, row)| {
            let others = row.iter().copied().filter(|id| id != chosen);
            std::iter::once(*chosen).chain(others).collect()
        })
        .collect();
    let width = rows.iter().map(Vec::len).min().expect("rows");
    let mut logits = vec![-100.0_f32; width];
    logits[0] = 100.0;
    proof.topk_logits = vec![logits; rows.len()];
    proof.topk_indices = rows.into_iter().map(|row| row[..width].to_vec()).collect();
}
