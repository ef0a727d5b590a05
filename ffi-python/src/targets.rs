//! Targets as Python integers, which have no byte order to mistake; their compact form; what a
//! model's difficulty does to them; and the 76 bytes of a header that a job hands out.

use pyo3::Borrowed;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt};
use tensorpow_core::header;
use tensorpow_core::target::{self, CompactTarget, Difficulty, Normalizer, Target};
use tensorpow_core::units::{BlockHash, Digest, HeaderHash, HeaderPrefix, MerkleRoot};

use crate::arrays::exactly;
use crate::fault::guarded;

/// A target on its way from or to Python.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number(pub(crate) Target);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if !object.is_instance_of::<PyInt>() {
            return Err(PyTypeError::new_err("a target is an int"));
        }
        let bytes = object
            .call_method1("to_bytes", (32, "big"))
            .map_err(|_| PyValueError::new_err("a target is at least 0 and below 2**256"))?;
        let bytes: [u8; 32] = bytes.extract()?;
        Ok(Self(Target::from_be_bytes(bytes)))
    }
}

impl<'py> IntoPyObject<'py> for Number {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = PyBytes::new(py, &self.0.to_be_bytes());
        py.get_type::<PyInt>().call_method1("from_bytes", (bytes, "big"))
    }
}

/// A refusal in the words of its rule.
fn refused(why: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(why.to_string())
}

/// The target of a compact form, which must be valid on the networks.
#[pyfunction]
pub(crate) fn compact_to_target(bits: u32) -> PyResult<Number> {
    let target = guarded(|| CompactTarget::from_bits(bits).derive(&Target::POW_LIMIT_TENSOR))?;
    target.map(Number).map_err(refused)
}

/// The compact form of a target, rounded down.
#[pyfunction]
pub(crate) fn target_to_compact(target: Number) -> PyResult<u32> {
    guarded(|| target.0.compact().to_bits())
}

/// The thresholds of a job after the model adjustment.
#[pyclass(frozen, module = "tensorpow.targets")]
#[derive(Debug)]
pub(crate) struct Adjusted(target::Adjusted);

#[pymethods]
impl Adjusted {
    #[getter]
    fn bits(&self) -> u32 {
        self.0.bits.to_bits()
    }

    #[getter]
    fn target(&self) -> Number {
        Number(self.0.target)
    }

    #[getter]
    fn max_target(&self) -> Number {
        Number(self.0.max_target)
    }
}

/// The block target of a job with a model.
#[pyfunction]
#[pyo3(signature = (bits, difficulty, normalizer = 1_000_000))]
pub(crate) fn adjust_for_model(bits: u32, difficulty: i64, normalizer: u64) -> PyResult<Adjusted> {
    let (bits, d) = (CompactTarget::from_bits(bits), Difficulty::new(difficulty).map_err(refused)?);
    let (n, limit) = (Normalizer(normalizer), Target::POW_LIMIT_TENSOR);
    guarded(|| target::adjust_for_model(bits, d, n, &limit))?.map(Adjusted).map_err(refused)
}

/// The share threshold of a broker's base target with a model.
#[pyfunction]
#[pyo3(signature = (base, difficulty, normalizer = 1_000_000))]
pub(crate) fn share_target(base: Number, difficulty: i64, normalizer: u64) -> PyResult<Number> {
    let d = Difficulty::new(difficulty).map_err(refused)?;
    let scaled = guarded(|| target::share_target(&base.0, d, Normalizer(normalizer)))?;
    scaled.map(Number).map_err(refused)
}

/// The fields of a header prefix.
#[pyclass(frozen, module = "tensorpow.targets")]
#[derive(Debug)]
pub(crate) struct HeaderFields(header::HeaderFields);

#[pymethods]
impl HeaderFields {
    #[getter]
    fn version(&self) -> u32 {
        self.0.version
    }

    #[getter]
    fn parent(&self) -> &[u8] {
        self.0.parent.as_bytes()
    }

    #[getter]
    fn merkle_root(&self) -> &[u8] {
        self.0.merkle_root.as_bytes()
    }

    #[getter]
    fn time(&self) -> u32 {
        self.0.time
    }

    #[getter]
    fn bits(&self) -> u32 {
        self.0.bits.to_bits()
    }
}

fn read_prefix(prefix: &[u8]) -> PyResult<HeaderPrefix> {
    exactly(prefix, "prefix").map(HeaderPrefix::from_bytes)
}

/// Lays the fields out as a header does.
#[pyfunction]
pub(crate) fn header_prefix<'py>(
    py: Python<'py>,
    version: u32,
    parent: PyBackedBytes,
    merkle_root: PyBackedBytes,
    time: u32,
    bits: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    let fields = header::HeaderFields {
        version,
        parent: BlockHash::from_bytes(exactly(&parent, "parent")?),
        merkle_root: MerkleRoot::from_bytes(exactly(&merkle_root, "merkle_root")?),
        time,
        bits: CompactTarget::from_bits(bits),
    };
    Ok(PyBytes::new(py, HeaderPrefix::from_fields(&fields).as_bytes()))
}

/// Takes a header prefix apart.
#[pyfunction]
pub(crate) fn header_fields(prefix: PyBackedBytes) -> PyResult<HeaderFields> {
    Ok(HeaderFields(read_prefix(&prefix)?.fields()))
}

/// The same prefix with another compact target.
#[pyfunction]
pub(crate) fn with_bits(
    py: Python<'_>,
    prefix: PyBackedBytes,
    bits: u32,
) -> PyResult<Bound<'_, PyBytes>> {
    let changed = read_prefix(&prefix)?.with_bits(CompactTarget::from_bits(bits));
    Ok(PyBytes::new(py, changed.as_bytes()))
}

/// The hash of the header that a closing digest completes.
#[pyfunction]
pub(crate) fn header_hash(
    py: Python<'_>,
    prefix: PyBackedBytes,
    digest: PyBackedBytes,
) -> PyResult<Bound<'_, PyBytes>> {
    let digest = Digest::from_bytes(exactly(&digest, "digest")?);
    let hash = header::header_hash(&read_prefix(&prefix)?, digest.nonce_bytes());
    Ok(PyBytes::new(py, hash.as_bytes()))
}

/// The header test.
#[pyfunction]
pub(crate) fn is_met_by(target: Number, header_hash: PyBackedBytes) -> PyResult<bool> {
    let hash = HeaderHash::from_bytes(exactly(&header_hash, "header_hash")?);
    Ok(target.0.is_met_by(&hash))
}
