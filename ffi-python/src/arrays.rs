//! Arrays as Python hands them over: logits without a copy from NumPy arrays, from tensors on the
//! CPU by DLPack and from plain buffers; token ids from any of these or a sequence of integers;
//! byte strings of a fixed length.

use numpy::ndarray::Dimension;
use numpy::{
    PyArray, PyArray2, PyArrayMethods, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyMemoryView, PyModule};
use tensorpow_core::evidence::Evidence;

/// One row of logits, borrowed from its owner.
pub(crate) struct Row<'py>(PyReadonlyArray1<'py, f32>);

impl<'py> Row<'py> {
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        floats(object, 1).map(Self)
    }

    pub(crate) fn logits(&self) -> PyResult<&[f32]> {
        self.0.as_slice().map_err(|_| PyValueError::new_err("the logits are not contiguous"))
    }
}

/// Rows of logits, borrowed from their owner. The rows need not follow each other, but each is
/// contiguous: a view without the padding of a vocabulary is one.
pub(crate) struct Rows<'py>(PyReadonlyArray2<'py, f32>);

impl<'py> Rows<'py> {
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        floats(object, 2).map(Self)
    }

    pub(crate) fn rows(&self) -> PyResult<Vec<&[f32]>> {
        let rows = self.0.as_array();
        let slices = rows.into_outer_iter().map(|row| row.to_slice());
        let scattered = || PyValueError::new_err("the rows of the logits are not contiguous");
        slices.map(|slice| slice.ok_or_else(scattered)).collect()
    }
}

/// The evidence of many rows: a row of each array for each of them.
pub(crate) fn evidence(
    logits: &Bound<'_, PyAny>,
    ids: &Bound<'_, PyAny>,
    stats: &Bound<'_, PyAny>,
) -> PyResult<Vec<Evidence>> {
    let (logits, stats) = (Rows::of(logits)?, Rows::of(stats)?);
    let ids: PyReadonlyArray2<'_, i32> = in_place(ids)?
        .cast_into::<PyArray2<i32>>()
        .map_err(|_| PyTypeError::new_err("ids are int32 in 2 dimensions"))?
        .try_readonly()?;
    let (logits, ids, stats) = (logits.rows()?, ids.as_array(), stats.rows()?);
    if logits.len() != ids.nrows() || logits.len() != stats.len() {
        let counts = format!("{}, {} and {}", logits.len(), ids.nrows(), stats.len());
        return Err(PyValueError::new_err(format!("{counts} rows of logits, ids and statistics")));
    }
    let rows = logits.into_iter().zip(ids.outer_iter()).zip(stats);
    let read = rows.map(|((logits, ids), stats)| {
        // A negative id is none and fails the check of the evidence.
        let ids: Vec<u32> = ids.iter().map(|id| u32::from_ne_bytes(id.to_ne_bytes())).collect();
        Ok(Evidence {
            logits: wide(logits, "logits")?,
            ids: wide(&ids, "ids")?,
            stats: wide(stats, "statistics")?,
        })
    });
    read.collect()
}

fn wide<T: Copy, const N: usize>(row: &[T], name: &str) -> PyResult<[T; N]> {
    row.try_into()
        .map_err(|_| PyValueError::new_err(format!("evidence has {N} {name}, not {}", row.len())))
}

/// An array of f32 in `dimensions`, aligned, in the memory of its owner.
fn floats<'py, D: Dimension>(
    object: &Bound<'py, PyAny>,
    dimensions: usize,
) -> PyResult<PyReadonlyArray<'py, f32, D>> {
    let array = in_place(object)?;
    let Ok(floats) = array.cast::<PyArray<f32, D>>() else {
        let found = array.cast::<PyUntypedArray>()?;
        let message = format!(
            "logits are float32 in {dimensions} dimensions, not {} in {}",
            found.dtype(),
            found.ndim()
        );
        return Err(PyTypeError::new_err(message));
    };
    let aligned =
        floats.strides().iter().all(|stride| stride % 4 == 0) && floats.data().is_aligned();
    if !aligned {
        return Err(PyValueError::new_err("the logits are not aligned to four bytes"));
    }
    floats.try_readonly().map_err(Into::into)
}

/// A NumPy array over the memory of the object.
fn in_place<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = object.py();
    let numpy = NUMPY.get_or_try_init(py, || PyModule::import(py, "numpy").map(Bound::unbind))?;
    let numpy = numpy.bind(py);
    if object.is_instance_of::<PyUntypedArray>() {
        Ok(object.clone())
    } else if object.hasattr("__dlpack__")? {
        numpy.call_method1("from_dlpack", (object,))
    } else {
        numpy.call_method1("asarray", (PyMemoryView::from(object)?,))
    }
}

/// Token ids. A negative one stays what it is in 32 bits: a placeholder for what is not text.
pub(crate) fn token_ids(object: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let ids: Vec<i64> = match object.getattr_opt("tolist")? {
        Some(tolist) => tolist.call0()?.extract()?,
        None => object.extract()?,
    };
    let narrow = |(at, id): (usize, i64)| {
        let signed = i32::try_from(id).map(|id| u32::from_ne_bytes(id.to_ne_bytes()));
        signed.or_else(|_| u32::try_from(id)).map_err(|_| {
            PyValueError::new_err(format!("entry {at} is {id}, which is no token id of 32 bits"))
        })
    };
    ids.into_iter().enumerate().map(narrow).collect()
}

/// Exactly `N` bytes.
pub(crate) fn exactly<const N: usize>(bytes: &[u8], name: &str) -> PyResult<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("{name} has {N} bytes, not {}", bytes.len())))
}
