//! The JSON form of a proof, for people and scripts: fields by their names, bytes in hex, floats
//! exact. Reading what was written gives the same proof, bit for bit.
//!
//! A float is a number when it is finite. It is written as the f64 of the same value, so any reader
//! of JSON gets it back exactly; infinities and NaNs are their bit pattern, as in `"0x7fc00000"`.
//! A text that is not UTF-8 is its bytes, as in `{"hex": "ff00"}`.

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeStruct as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tensorpow_core::proof::{Proof, convert};

/// The value of the member `format`.
const FORMAT: &str = "tensorpow-proof/1";

/// A proof as JSON.
///
/// # Errors
/// As for [`serde_json::to_string_pretty`]; a proof always has a JSON form.
pub(super) fn write(proof: &Proof) -> serde_json::Result<String> {
    serde_json::to_string(&Document::of(proof)).map(|text| text + "\n")
}

/// The proof of a JSON text.
///
/// # Errors
/// When the text is not JSON or not of this form.
pub(super) fn read(text: &[u8]) -> serde_json::Result<Proof> {
    let document: Document = serde_json::from_slice(text)?;
    match document.format.as_str() {
        FORMAT => Ok(document.into_proof()),
        other => Err(serde_json::Error::custom(format_args!(
            "member \"format\" is {other:?}, this program reads {FORMAT:?}"
        ))),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u8,
    tick: u64,
    timestamp: u64,
    target: Bytes,
    vdf: Bytes,
    hash: Bytes,
    block_hash: Bytes,
    header_prefix: Bytes,
    is_solution: bool,
    model_identifier: Text,
    compute_precision: Text,
    ipfs_cid: Text,
    extra_flags: Text,
    temperature: Float,
    top_p: Float,
    top_k: u32,
    repetition_penalty: Float,
    chosen_tokens: Vec<u32>,
    chosen_probs: Vec<Float>,
    sampling_u: Vec<Float>,
    softmax_normalizers: Vec<Float>,
    prompt_tokens: Vec<u32>,
    pad_mask: Bytes,
    topk_logits: Vec<Vec<Float>>,
    topk_indices: Vec<Vec<u32>>,
    logsumexp_stats: Vec<Vec<Float>>,
}

impl Document {
    fn of(proof: &Proof) -> Self {
        let proof = proof.clone();
        let floats = |list: Vec<f32>| list.into_iter().map(Float).collect::<Vec<_>>();
        let rows = |rows: Vec<Vec<f32>>| rows.into_iter().map(floats).collect();
        Self {
            format: FORMAT.to_owned(),
            version: proof.version,
            tick: proof.tick,
            timestamp: proof.timestamp,
            target: Bytes(proof.target),
            vdf: Bytes(proof.vdf),
            hash: Bytes(proof.hash),
            block_hash: Bytes(proof.block_hash),
            header_prefix: Bytes(proof.header_prefix),
            is_solution: proof.is_solution,
            model_identifier: Text(proof.model_identifier),
            compute_precision: Text(proof.compute_precision),
            ipfs_cid: Text(proof.ipfs_cid),
            extra_flags: Text(proof.extra_flags),
            temperature: Float(proof.temperature),
            top_p: Float(proof.top_p),
            top_k: proof.top_k,
            repetition_penalty: Float(proof.repetition_penalty),
            chosen_tokens: proof.chosen_tokens,
            chosen_probs: floats(proof.chosen_probs),
            sampling_u: floats(proof.sampling_u),
            softmax_normalizers: floats(proof.softmax_normalizers),
            prompt_tokens: proof.prompt_tokens,
            pad_mask: Bytes(proof.pad_mask),
            topk_logits: rows(proof.topk_logits),
            topk_indices: proof.topk_indices,
            logsumexp_stats: rows(proof.logsumexp_stats),
        }
    }

    fn into_proof(self) -> Proof {
        let floats = |list: Vec<Float>| list.into_iter().map(|float| float.0).collect::<Vec<_>>();
        let rows = |rows: Vec<Vec<Float>>| rows.into_iter().map(floats).collect();
        Proof {
            version: self.version,
            tick: self.tick,
            timestamp: self.timestamp,
            target: self.target.0,
            vdf: self.vdf.0,
            hash: self.hash.0,
            block_hash: self.block_hash.0,
            header_prefix: self.header_prefix.0,
            is_solution: self.is_solution,
            model_identifier: self.model_identifier.0,
            compute_precision: self.compute_precision.0,
            ipfs_cid: self.ipfs_cid.0,
            extra_flags: self.extra_flags.0,
            temperature: self.temperature.0,
            top_p: self.top_p.0,
            top_k: self.top_k,
            repetition_penalty: self.repetition_penalty.0,
            chosen_tokens: self.chosen_tokens,
            chosen_probs: floats(self.chosen_probs),
            sampling_u: floats(self.sampling_u),
            softmax_normalizers: floats(self.softmax_normalizers),
            prompt_tokens: self.prompt_tokens,
            pad_mask: self.pad_mask.0,
            topk_logits: rows(self.topk_logits),
            topk_indices: self.topk_indices,
            logsumexp_stats: rows(self.logsumexp_stats),
        }
    }
}

/// Bytes in hex.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// Text, or the hex of bytes that are none.
struct Text(Vec<u8>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut bytes = serializer.serialize_struct("Text", 1)?;
        bytes.serialize_field("hex", &hex::encode(&self.0))?;
        bytes.end()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes { hex: Bytes },
        }
        Form::deserialize(deserializer).map(|form| match form {
            Form::Text(text) => Self(text.into_bytes()),
            Form::Bytes { hex } => Self(hex.0),
        })
    }
}

/// A float, exact.
#[derive(Clone, Copy)]
struct Float(f32);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            return serializer.serialize_f64(self.0.into());
        }
        serializer.serialize_str(&format!("{:#010x}", self.0.to_bits()))
    }
}

impl<'de> Deserialize<'de> for Float {
    /// From the text itself: exact, and nothing is built of what is no float.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let bits = text.strip_prefix("\"0x").and_then(|text| text.strip_suffix('"'));
        let float = match bits.filter(|digits| digits.len() == 8 && !digits.contains('+')) {
            Some(digits) => u32::from_str_radix(digits, 16).ok().map(f32::from_bits),
            None => text.parse().ok().map(convert::float),
        };
        float.map(Self).ok_or_else(|| {
            let start: String = text.chars().take(20).collect();
            D::Error::custom(format_args!(
                "{start} is neither a number nor the bit pattern of a float such as \"0x7fc00000\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Proof, b: &Proof) -> bool {
        let bytes = tensorpow_core::proof::canonical::canonical_to_vec;
        bytes(&a.as_ref()).unwrap() == bytes(&b.as_ref()).unwrap()
    }

    #[test]
    fn every_float_and_every_text_comes_back() {
        let bits: Vec<u32> =
            (0..=u32::MAX).step_by(65_521).chain([0x8000_0000, 1, 0x7f80_0001]).collect();
        let proof = Proof {
            tick: u64::MAX,
            sampling_u: bits.into_iter().map(f32::from_bits).collect(),
            model_identifier: b"name@\xff\0".to_vec(),
            extra_flags: "{\"é\": \"\0\"}".as_bytes().to_vec(),
            pad_mask: vec![0, 1, 2],
            temperature: -0.0,
            topk_logits: vec![vec![], vec![f32::INFINITY]],
            ..Proof::default()
        };
        let text = write(&proof).unwrap();
        assert!(same(&read(text.as_bytes()).unwrap(), &proof));
    }

    #[test]
    fn other_json_is_refused_with_a_reason() {
        let good = write(&Proof::default()).unwrap();
        let reason =
            |from: &str, to: &str| read(good.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(reason("proof/1", "proof/9").contains("this program reads"));
        assert!(reason("\"tick\":0", "\"tock\":0").contains("unknown field `tock`"));
        assert!(reason("\"tick\":0", "\"tick\":-1").contains("invalid value"));
        assert!(reason("\"temperature\":0.0", "\"temperature\":\"1\"").contains("bit pattern"));
        assert!(reason("\"vdf\":\"\"", "\"vdf\":\"0\"").contains("Odd number"));
    }
}
