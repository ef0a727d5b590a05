//! Reading proofs from files and standard input, in any form that is around. What a file holds is
//! found out from its bytes, never from its name.

use super::json_form;
use std::fmt;
use std::io::Read;
use tensorpow_core::archive::{self, MAGIC};
use tensorpow_core::proof::{
    FlatError, MiningResponseRef, Proof, ProofRef, RequestRef, TooLong, ValidationRequestRef,
};

/// Largest input read. A proof has at most 1 000 000 bytes; its JSON form is the longest.
pub(super) const MAX_INPUT: u64 = 16 << 20;
/// The name that means standard input.
const STDIN: &str = "-";

/// Why an input gives no proof.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The input is longer than any proof in any form.
    #[error("is longer than {} MiB, which no form of a proof is", MAX_INPUT >> 20)]
    TooLarge,
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// The text of a JSON form.
    #[error("is no proof in JSON: {0}")]
    Json(serde_json::Error),
    /// The compact form.
    #[error("is no compact proof: {0}")]
    Compact(archive::DecodeError),
    /// Bytes that are no form of a proof.
    #[error("holds no proof: neither JSON, hex nor a compact proof, and as a FlatBuffer {0}")]
    Flat(FlatError),
    /// A message without a proof.
    #[error("is a FlatBuffer without a proof in it")]
    NoProof,
    /// A proof that no block may carry.
    #[error("holds a proof that is too long: {0}")]
    TooLong(TooLong),
}

/// What was read.
#[derive(Debug)]
pub(super) struct Input {
    /// The name given on the command line.
    pub(super) name: String,
    /// Bytes read.
    pub(super) len: usize,
    /// The proof was written as hex digits.
    pub(super) as_hex: bool,
    /// The form.
    pub(super) form: Form,
    /// The proof.
    pub(super) proof: Proof,
}

/// The form a proof came in.
#[derive(Debug)]
pub(super) enum Form {
    /// A FlatBuffer of the proof alone.
    Flat,
    /// A mining result.
    MiningResponse(Message),
    /// A verifier's request.
    ValidationRequest {
        /// Registered difficulty where version 3 is active, else 0.
        difficulty: i64,
    },
    /// Our JSON.
    Json,
    /// The compact form.
    Compact,
}

/// What a mining result says beside its proof.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) req_id: u32,
    pub(super) nonce: u32,
    pub(super) adjusted_bits: u32,
    pub(super) pow_blob_hash: Vec<u8>,
    pub(super) difficulty: u32,
    pub(super) completion_id: Vec<u8>,
}

impl Message {
    /// The message again, with its proof.
    pub(super) fn with<'a>(&'a self, proof: ProofRef<'a>) -> MiningResponseRef<'a> {
        MiningResponseRef {
            req_id: self.req_id,
            nonce: self.nonce,
            adjusted_bits: self.adjusted_bits,
            pow_blob_hash: &self.pow_blob_hash,
            difficulty: self.difficulty,
            pow_blob: Some(proof),
            completion_id: &self.completion_id,
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Flat => "a proof as FlatBuffer",
            Form::MiningResponse(_) => "a mining result as FlatBuffer",
            Form::ValidationRequest { .. } => "a validation request as FlatBuffer",
            Form::Json => "a proof as JSON",
            Form::Compact => "a compact proof",
        })?;
        let hex = if self.as_hex { " in hex" } else { "" };
        write!(f, "{hex}, {} bytes", self.len)
    }
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(name: &str) -> Result<Input, InputError> {
    let mut bytes = Vec::new();
    let limited =
        |source: &mut dyn Read, bytes: &mut Vec<u8>| source.take(MAX_INPUT + 1).read_to_end(bytes);
    if name == STDIN {
        limited(&mut std::io::stdin().lock(), &mut bytes)?;
    } else {
        limited(&mut std::fs::File::open(name)?, &mut bytes)?;
    }
    if bytes.len() as u64 > MAX_INPUT {
        return Err(InputError::TooLarge);
    }
    let unhexed = unhex(&bytes);
    let (form, proof) = recognise(unhexed.as_deref().unwrap_or(&bytes))?;
    let (name, len, as_hex) = (name.to_owned(), bytes.len(), unhexed.is_some());
    Ok(Input { name, len, as_hex, form, proof })
}

/// The bytes of a text of hex digits, with blanks around and between and `0x` in front if need be.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    let digits: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    if digits.is_empty() { None } else { hex::decode(digits).ok() }
}

/// Finds out what the bytes are.
fn recognise(bytes: &[u8]) -> Result<(Form, Proof), InputError> {
    if bytes.is_empty() {
        return Err(InputError::Empty);
    }
    // All versions of the compact form: one that is not known shall be named.
    if bytes.starts_with(&MAGIC[..MAGIC.len() - 1]) {
        let proof = archive::decode(bytes).map_err(InputError::Compact)?;
        return Ok((Form::Compact, proof));
    }
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return json_form::read(bytes).map(|proof| (Form::Json, proof)).map_err(InputError::Json);
    }
    let (form, proof) = flat(bytes)?;
    Ok((form, Proof::try_from(&proof).map_err(InputError::TooLong)?))
}

/// Messages of the network name no type, and one may read as another whose fields happen to fit:
/// the first reading that makes a proof with a window or a header counts.
fn flat(bytes: &[u8]) -> Result<(Form, ProofRef<'_>), InputError> {
    let alone = ProofRef::read(bytes);
    let request = ValidationRequestRef::read(bytes).ok().and_then(|request| request.request);
    let request = match request {
        Some(RequestRef::Block(block)) => {
            let form = Form::ValidationRequest { difficulty: block.difficulty };
            block.pow_blob.map(|proof| (form, proof))
        }
        _ => None,
    };
    let response = MiningResponseRef::read(bytes).ok().and_then(|response| {
        let message = Message {
            req_id: response.req_id,
            nonce: response.nonce,
            adjusted_bits: response.adjusted_bits,
            pow_blob_hash: response.pow_blob_hash.to_vec(),
            difficulty: response.difficulty,
            completion_id: response.completion_id.to_vec(),
        };
        response.pow_blob.map(|proof| (Form::MiningResponse(message), proof))
    });
    let readings = [alone.ok().map(|proof| (Form::Flat, proof)), response, request];
    let says_something =
        |proof: &ProofRef<'_>| !proof.chosen_tokens.is_empty() || proof.header_prefix.len() == 76;
    match readings.into_iter().flatten().find(|(_, proof)| says_something(proof)) {
        Some(found) => Ok(found),
        None => Err(alone.err().map_or(InputError::NoProof, InputError::Flat)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::proof::{BlockValidationRef, Encode as _};

    fn proof() -> Proof {
        Proof { version: 2, chosen_tokens: vec![7, 8], hash: vec![1; 32], ..Proof::default() }
    }

    #[test]
    fn every_message_is_told_from_the_others() {
        let proof = proof();
        let alone = proof.as_ref().encode_to_vec().unwrap();
        assert!(matches!(recognise(&alone).unwrap().0, Form::Flat));
        let response = MiningResponseRef {
            req_id: 5,
            pow_blob: Some(proof.as_ref()),
            pow_blob_hash: &[3; 32],
            ..MiningResponseRef::default()
        };
        let (form, read) = recognise(&response.encode_to_vec().unwrap()).unwrap();
        assert!(matches!(form, Form::MiningResponse(Message { req_id: 5, .. })), "{form:?}");
        assert_eq!(read.chosen_tokens, [7, 8]);
        let request = ValidationRequestRef {
            hash_id: &[1; 32],
            validation_type: 0,
            request: Some(RequestRef::Block(BlockValidationRef {
                prev_block_hash: &[2; 32],
                pow_blob: Some(proof.as_ref()),
                difficulty: 9,
                ..BlockValidationRef::default()
            })),
        };
        let (form, _) = recognise(&request.encode_to_vec().unwrap()).unwrap();
        assert!(matches!(form, Form::ValidationRequest { difficulty: 9 }), "{form:?}");
    }

    #[test]
    fn what_is_no_proof_is_refused_with_a_reason() {
        let reason = |bytes: &[u8]| recognise(bytes).unwrap_err().to_string();
        assert_eq!(reason(b""), "is empty");
        assert!(reason(b"hello, world").contains("as a FlatBuffer"), "{}", reason(b"hello, world"));
        assert!(reason(b" {}").contains("is no proof in JSON"));
        assert!(reason(b"TPWA\x07").contains("version 7"));
        let empty = Proof::default().as_ref().encode_to_vec().unwrap();
        assert_eq!(reason(&empty), "is a FlatBuffer without a proof in it");
    }

    #[test]
    fn hex_may_be_wrapped() {
        assert_eq!(unhex(b" 0x00 ff\n10\n"), Some(vec![0, 255, 16]));
        assert_eq!(unhex(b"0"), None);
        assert_eq!(unhex(b""), None);
        assert_eq!(unhex(b"{}"), None);
    }
}
