//! Proofs: read from any form that is around, looked at, judged, and written in another form.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use tensorpow_core::admission::{self, Memory};
use tensorpow_core::archive::{self, MAGIC};
use tensorpow_core::proof::canonical::canonical_to_vec;
use tensorpow_core::proof::{self as core_proof, Encode as _};
use tensorpow_core::units::AdmissionNonce;
use tensorpow_core::verify::{Network, Place};
use tensorpow_engine::inspect::Inspected;

use crate::arrays::exactly;
use crate::fault::{CheckFailed, NoVerdict, ProofError, detached};
use crate::message::MiningResponse;
use crate::targets::Number;
use crate::verdict::Verdict;

/// A proof.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Proof {
    proof: core_proof::Proof,
    message: Option<MiningResponse>,
}

impl Proof {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        // All versions of the compact form: one that is not known shall be named.
        if bytes.starts_with(&MAGIC[..MAGIC.len() - 1]) {
            let proof = archive::decode(bytes).map_err(|why| why.to_string())?;
            return Ok(Self { proof, message: None });
        }
        let read = Inspected::read(bytes).map_err(|why| why.to_string())?;
        if read.proof.chosen_tokens.is_empty() && read.proof.header_prefix.len() != 76 {
            return Err("the bytes are a FlatBuffer without a proof in it".to_owned());
        }
        let proof = core_proof::Proof::try_from(&read.proof).map_err(|why| why.to_string())?;
        Ok(Self { proof, message: read.response.as_ref().map(MiningResponse::of) })
    }

    fn write(&self, form: &str) -> Result<Vec<u8>, String> {
        let proof = self.proof.as_ref();
        let in_words = |why: &dyn std::fmt::Display| why.to_string();
        match form {
            "flatbuffer" => proof.encode_to_vec().map_err(|why| in_words(&why)),
            "compact" => archive::encode(&proof).map_err(|why| in_words(&why)),
            "canonical" => canonical_to_vec(&proof).map_err(|why| in_words(&why)),
            "mining_response" => match &self.message {
                Some(message) => message.with(proof).encode_to_vec().map_err(|why| in_words(&why)),
                None => Err("the proof did not come in a mining response".to_owned()),
            },
            other => Err(format!(
                "the forms are flatbuffer, mining_response, compact and canonical, not {other:?}"
            )),
        }
    }
}

#[pymethods]
impl Proof {
    /// Reads a FlatBuffer of a proof or of a mining response, or the compact form.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        detached(py, || Self::read(&data))?.map_err(ProofError::new_err)
    }

    /// Writes the proof in a form.
    #[pyo3(signature = (form = "flatbuffer"))]
    fn to_bytes<'py>(&self, py: Python<'py>, form: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, || self.write(form))?.map_err(ProofError::new_err)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The commitment the node computes, in internal order.
    fn commitment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let commitment = detached(py, || core_proof::commit(&self.proof.as_ref()))?;
        let commitment = commitment.map_err(|why| ProofError::new_err(why.to_string()))?;
        Ok(PyBytes::new(py, commitment.root.as_bytes()))
    }

    /// Judges the proof as a node does.
    #[pyo3(signature = (network = "mainnet", height = None, difficulty = None))]
    fn verify(
        &self,
        py: Python<'_>,
        network: &str,
        height: Option<u32>,
        difficulty: Option<i64>,
    ) -> PyResult<Verdict> {
        let network: Network =
            network.parse().map_err(|why: tensorpow_core::verify::UnknownNetwork| {
                PyValueError::new_err(why.to_string())
            })?;
        if let Some(negative) = difficulty.filter(|d| *d < 0) {
            return Err(PyValueError::new_err(format!("difficulty is {negative}, at least 0")));
        }
        let place = Place { network, height, difficulty };
        let verdict = detached(py, || Verdict::of(&self.proof.as_ref(), &place))?;
        verdict.map_err(|why| NoVerdict::new_err(format!("the proof {why}")))
    }

    /// Checks the proof as what it claims to be, without a chain, and reports what was seen.
    #[pyo3(signature = (share_target = None))]
    fn self_check(&self, py: Python<'_>, share_target: Option<Number>) -> PyResult<String> {
        let share = share_target.map(|number| number.0);
        let checked = detached(py, || {
            let proof = self.proof.as_ref();
            let response = self.message.as_ref().map(|message| message.with(proof));
            let verdict = Inspected { response, proof }.check(share.as_ref());
            verdict.map(|passed| passed.to_string()).map_err(|why| why.to_string())
        })?;
        checked.map_err(CheckFailed::new_err)
    }

    /// The admission nonce that `extra_flags` claims.
    #[getter]
    fn admission_nonce<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let nonce = admission::extract(&self.proof.extra_flags);
        nonce.map(|nonce| PyBytes::new(py, nonce.as_bytes()))
    }

    /// True when a nonce solves the puzzle of this proof's window.
    #[pyo3(signature = (difficulty, nonce = None))]
    fn is_admitted(
        &self,
        py: Python<'_>,
        difficulty: i64,
        nonce: Option<PyBackedBytes>,
    ) -> PyResult<bool> {
        let nonce = match nonce {
            Some(bytes) => Some(AdmissionNonce::from_bytes(exactly(&bytes, "nonce")?)),
            None => admission::extract(&self.proof.extra_flags),
        };
        let Some(nonce) = nonce else { return Ok(false) };
        let judged = detached(py, || {
            let proof = self.proof.as_ref();
            let mut memory = Memory::new();
            let mut scratch = memory.scratch(admission::message_len(&proof));
            admission::judge(&proof, &nonce, difficulty, &mut scratch)
        })?;
        judged.map_err(|why| PyValueError::new_err(why.to_string()))
    }

    /// What the mining response said beside the proof, if it came in one.
    #[getter]
    fn message(&self) -> Option<MiningResponse> {
        self.message.clone()
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> PyResult<bool> {
        // By what is hashed: two proofs are the same when their canonical bytes are.
        let (a, b) = (self.write("canonical"), other.write("canonical"));
        Ok(a.is_ok() && a == b)
    }

    fn __repr__(&self) -> String {
        let proof = &self.proof;
        format!(
            "<Proof version {} of {}, {} tokens>",
            proof.version,
            String::from_utf8_lossy(&proof.model_identifier),
            proof.chosen_tokens.len()
        )
    }
}

/// Fields as they stand, by the way Python gets them.
macro_rules! fields {
    (copied: $($copied:ident: $type:ty),*; bytes: $($bytes:ident),*; texts: $($text:ident),*;
     lists: $($list:ident: $of:ty),*;) => {
        #[pymethods]
        impl Proof {
            $(#[getter] fn $copied(&self) -> $type { self.proof.$copied })*
            $(#[getter] fn $bytes(&self) -> &[u8] { &self.proof.$bytes })*
            $(#[getter] fn $text(&self) -> String {
                String::from_utf8_lossy(&self.proof.$text).into_owned()
            })*
            $(#[getter] fn $list(&self) -> $of { self.proof.$list.clone() })*
        }
    };
}

fields! {
    copied: version: u8, tick: u64, timestamp: u64, is_solution: bool, temperature: f32, top_p: f32,
        top_k: u32, repetition_penalty: f32;
    bytes: target, vdf, hash, block_hash, header_prefix, extra_flags, pad_mask;
    texts: model_identifier, compute_precision, ipfs_cid;
    lists: chosen_tokens: Vec<u32>, chosen_probs: Vec<f32>, sampling_u: Vec<f32>,
        softmax_normalizers: Vec<f32>, prompt_tokens: Vec<u32>, topk_logits: Vec<Vec<f32>>,
        topk_indices: Vec<Vec<u32>>, logsumexp_stats: Vec<Vec<f32>>;
}
