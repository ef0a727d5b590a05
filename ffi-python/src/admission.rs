//! The admission of version-3 windows: the nonce in `extra_flags` and the puzzle's numbers. Whether
//! a nonce solves a proof's puzzle is asked of the proof.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use tensorpow_core::admission::{self, PuzzleParams};
use tensorpow_core::proof::{PadMask, Words};
use tensorpow_core::units::AdmissionNonce;

use crate::arrays::{exactly, token_ids};
use crate::fault::guarded;

/// The nonce that `extra_flags` claims.
#[pyfunction]
pub(crate) fn admission_extract(
    py: Python<'_>,
    extra_flags: PyBackedBytes,
) -> PyResult<Option<Bound<'_, PyBytes>>> {
    let nonce = guarded(|| admission::extract(&extra_flags))?;
    Ok(nonce.map(|nonce| PyBytes::new(py, nonce.as_bytes())))
}

/// `extra_flags` with the nonce in it.
#[pyfunction]
pub(crate) fn admission_merge(
    py: Python<'_>,
    extra_flags: PyBackedBytes,
    nonce: PyBackedBytes,
) -> PyResult<Bound<'_, PyBytes>> {
    let nonce = AdmissionNonce::from_bytes(exactly(&nonce, "nonce")?);
    let merged = guarded(|| admission::merge_to_vec(&extra_flags, &nonce))?;
    let merged = merged.map_err(|why| PyValueError::new_err(why.to_string()))?;
    Ok(PyBytes::new(py, &merged))
}

/// How many tries a model's difficulty stands for.
#[pyfunction]
pub(crate) fn admission_expected_tries(difficulty: i64) -> PyResult<u64> {
    let tries = guarded(|| admission::expected_tries(difficulty, &PuzzleParams::NETWORK))?;
    tries.map_err(|why| PyValueError::new_err(why.to_string()))
}

/// The hash that binds a puzzle to everything before its window.
#[pyfunction]
#[pyo3(signature = (tokens, mask = None))]
pub(crate) fn admission_prompt_commitment<'py>(
    tokens: &Bound<'py, PyAny>,
    mask: Option<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let ids = token_ids(tokens)?;
    let mask = mask.as_deref().map(PadMask::Bytes);
    let commitment = guarded(|| admission::prompt_commitment(Words::Native(&ids), mask))?;
    let commitment = commitment.map_err(|why| PyValueError::new_err(why.to_string()))?;
    Ok(PyBytes::new(tokens.py(), commitment.as_bytes()))
}
