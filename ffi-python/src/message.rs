//! What a mining result says beside its proof.

use pyo3::prelude::*;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};

/// The fields of a `MiningResponse` without its proof.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug, Clone)]
pub(crate) struct MiningResponse {
    #[pyo3(get)]
    req_id: u32,
    #[pyo3(get)]
    nonce: u32,
    #[pyo3(get)]
    adjusted_bits: u32,
    #[pyo3(get)]
    difficulty: u32,
    pow_blob_hash: Vec<u8>,
    completion_id: Vec<u8>,
}

#[pymethods]
impl MiningResponse {
    #[getter]
    fn pow_blob_hash(&self) -> &[u8] {
        &self.pow_blob_hash
    }

    #[getter]
    fn completion_id(&self) -> String {
        String::from_utf8_lossy(&self.completion_id).into_owned()
    }
}

impl MiningResponse {
    pub(crate) fn of(message: &MiningResponseRef<'_>) -> Self {
        Self {
            req_id: message.req_id,
            nonce: message.nonce,
            adjusted_bits: message.adjusted_bits,
            difficulty: message.difficulty,
            pow_blob_hash: message.pow_blob_hash.to_vec(),
            completion_id: message.completion_id.to_vec(),
        }
    }

    /// The message again, with its proof.
    pub(crate) fn with<'a>(&'a self, proof: ProofRef<'a>) -> MiningResponseRef<'a> {
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
