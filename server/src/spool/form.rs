//! The stored form of a message: the envelope's few fields and the proof in the core's compact form,
//! a fifth of the size, or the message itself. The compact form is taken only when it gives back the
//! message byte for byte, which is tried before anything is stored: a message in another writer's
//! layout, or one with trailing bytes, is stored as it is. spec: proof-encoding §5.1

use serde::{Deserialize, Serialize};
use tensorpow_core::archive;
use tensorpow_core::proof::{Encode, MiningResponseRef};

/// Which form a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// The message.
    Raw,
    /// Envelope and compact proof.
    Compact,
}

impl Form {
    /// `raw` or `compact`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Compact => "compact",
        }
    }
}

/// A stored body gives no message.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The envelope is cut or bent.
    #[error("the envelope of the stored proof cannot be read")]
    Envelope,
    /// The proof cannot be decoded.
    #[error(transparent)]
    Archive(#[from] archive::DecodeError),
    /// The message cannot be written.
    #[error("the stored proof makes no message: {0}")]
    Message(String),
}

/// The fields of a `MiningResponse` beside its proof.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<'a> {
    req_id: u32,
    nonce: u32,
    adjusted_bits: u32,
    pow_blob_hash: &'a [u8],
    difficulty: u32,
    completion_id: &'a [u8],
}

/// The body to store for a message whose content is `response`.
#[must_use]
pub fn pack(message: &[u8], response: &MiningResponseRef<'_>) -> (Form, Vec<u8>) {
    match compact(response)
        .filter(|body| unpack(Form::Compact, body).is_ok_and(|restored| restored == message))
    {
        Some(body) => (Form::Compact, body),
        None => (Form::Raw, message.to_vec()),
    }
}

/// Envelope and compact proof; `None` where there is no proof or no block may carry it.
fn compact(response: &MiningResponseRef<'_>) -> Option<Vec<u8>> {
    let archive = archive::encode(response.pow_blob.as_ref()?).ok()?;
    let envelope = Envelope {
        req_id: response.req_id,
        nonce: response.nonce,
        adjusted_bits: response.adjusted_bits,
        pow_blob_hash: response.pow_blob_hash,
        difficulty: response.difficulty,
        completion_id: response.completion_id,
    };
    let mut body = postcard::to_stdvec(&envelope).ok()?;
    body.extend_from_slice(&archive);
    Some(body)
}

/// The message of a stored body.
///
/// # Errors
/// [`FormError`] for a body that was damaged.
pub fn unpack(form: Form, body: &[u8]) -> Result<Vec<u8>, FormError> {
    if form == Form::Raw {
        return Ok(body.to_vec());
    }
    let (envelope, archive) =
        postcard::take_from_bytes::<Envelope<'_>>(body).map_err(|_| FormError::Envelope)?;
    let proof = archive::decode(archive)?;
    let response = MiningResponseRef {
        req_id: envelope.req_id,
        nonce: envelope.nonce,
        adjusted_bits: envelope.adjusted_bits,
        pow_blob_hash: envelope.pow_blob_hash,
        difficulty: envelope.difficulty,
        pow_blob: Some(proof.as_ref()),
        completion_id: envelope.completion_id,
    };
    response.encode_to_vec().map_err(|error| FormError::Message(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: &[u8] = include_bytes!("../../tests/proofs/full_v1.tpwa");

    fn message() -> Vec<u8> {
        let proof = archive::decode(PROOF).unwrap();
        MiningResponseRef {
            req_id: 7,
            nonce: 5,
            adjusted_bits: 0x1d00_ffff,
            pow_blob_hash: &[9; 32],
            difficulty: u32::MAX,
            pow_blob: Some(proof.as_ref()),
            completion_id: b"chatcmpl-\xff",
        }
        .encode_to_vec()
        .unwrap()
    }

    fn packed(message: &[u8]) -> (Form, Vec<u8>) {
        pack(message, &MiningResponseRef::read(message).unwrap())
    }

    #[test]
    fn a_message_of_ours_shrinks_and_comes_back_byte_for_byte() {
        let message = message();
        let (form, body) = packed(&message);
        assert_eq!(form, Form::Compact);
        assert!(body.len() * 3 < message.len(), "{} of {}", body.len(), message.len());
        assert_eq!(unpack(form, &body).unwrap(), message);
    }

    #[test]
    fn a_message_that_would_change_is_stored_as_it_is() {
        let mut trailing = message();
        trailing.extend_from_slice(&[0; 8]);
        let mut no_proof = Vec::new();
        no_proof
            .extend(MiningResponseRef { req_id: 1, ..Default::default() }.encode_to_vec().unwrap());
        for message in [trailing, no_proof] {
            let (form, body) = packed(&message);
            assert_eq!((form, &body), (Form::Raw, &message));
            assert_eq!(unpack(form, &body).unwrap(), message);
        }
    }

    #[test]
    fn a_damaged_body_is_refused() {
        let (form, body) = packed(&message());
        for cut in [0, 3, 60, body.len() - 1] {
            assert!(unpack(form, &body[..cut]).is_err(), "{cut}");
        }
        for at in (0..body.len()).step_by(997).filter(|at| *at > 60) {
            let mut bent = body.clone();
            bent[at] ^= 1;
            assert!(unpack(form, &bent).is_err(), "byte {at}");
        }
    }
}
