//! The step in its parts, without a sequence: digest, draw, evidence, choice. For steps that run
//! on a device, and for whoever wants to recompute a proof.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use tensorpow_core::preimage;
use tensorpow_core::row::{Grid, Row};
use tensorpow_core::sampler::{self, Params, Survivors};
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::{AdmissionNonce, Digest, Draw, EVIDENCE_SLOTS, STATS, TOP_SLOTS, Tick};

use crate::arrays::{self, exactly, token_ids};
use crate::fault::{detached, guarded};

/// Widest context that is hashed; the networks have 256.
const MOST_WINDOW: usize = 4096;

/// The constant head of a sequence's step messages.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct StepHasher(preimage::StepHasher);

#[pymethods]
impl StepHasher {
    /// Absorbs header, VDF proof and tick.
    #[new]
    fn new(header: PyBackedBytes, vdf: PyBackedBytes, tick: u64) -> PyResult<Self> {
        guarded(|| Self(preimage::StepHasher::new(&header, &vdf, Tick(tick))))
    }

    /// The digest of step `j` after the tokens of `context`.
    #[pyo3(signature = (j, context, precision, nonce = None, window = 256))]
    fn digest<'py>(
        &self,
        py: Python<'py>,
        j: u32,
        context: &Bound<'py, PyAny>,
        precision: &str,
        nonce: Option<PyBackedBytes>,
        window: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if !(1..=MOST_WINDOW).contains(&window) {
            let message = format!("a window has 1 to {MOST_WINDOW} tokens, not {window}");
            return Err(PyValueError::new_err(message));
        }
        let ids = token_ids(context)?;
        let tail = ids.get(ids.len().saturating_sub(window)..).unwrap_or_default();
        let padding = vec![0; window - tail.len()];
        let nonce = read_nonce(nonce)?;
        let digest =
            guarded(|| self.0.over(j, &[&padding, tail], precision.as_bytes(), nonce.as_ref()))?;
        Ok(PyBytes::new(py, digest.as_bytes()))
    }

    /// The digest that closes a window of these tokens.
    #[pyo3(signature = (tokens, precision, nonce = None))]
    fn closing<'py>(
        &self,
        tokens: &Bound<'py, PyAny>,
        precision: &str,
        nonce: Option<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ids = token_ids(tokens)?;
        let nonce = read_nonce(nonce)?;
        let digest = guarded(|| self.0.closing(&ids, precision.as_bytes(), nonce.as_ref()))?;
        Ok(PyBytes::new(tokens.py(), digest.as_bytes()))
    }
}

fn read_nonce(nonce: Option<PyBackedBytes>) -> PyResult<Option<AdmissionNonce>> {
    let read = |bytes: PyBackedBytes| exactly(&bytes, "nonce").map(AdmissionNonce::from_bytes);
    nonce.map(read).transpose()
}

fn read_digest(digest: &[u8]) -> PyResult<Digest> {
    exactly(digest, "digest").map(Digest::from_bytes)
}

/// The draw that a digest gives.
#[pyfunction]
pub(crate) fn draw(digest: PyBackedBytes) -> PyResult<f32> {
    Ok(Draw::from_digest(&read_digest(&digest)?).get())
}

/// The evidence of one step.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Evidence(pub(crate) tensorpow_core::evidence::Evidence);

#[pymethods]
impl Evidence {
    /// Evidence as a device computed it.
    #[new]
    fn new(
        logits: &Bound<'_, PyAny>,
        ids: &Bound<'_, PyAny>,
        stats: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self(tensorpow_core::evidence::Evidence {
            logits: some_floats::<EVIDENCE_SLOTS>(logits, "logits")?,
            ids: count("ids", token_ids(ids)?)?,
            stats: some_floats::<STATS>(stats, "stats")?,
        }))
    }

    /// The evidence of a row of raw logits.
    #[staticmethod]
    #[pyo3(signature = (logits, precision, temperature = 1.0))]
    fn of(
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        precision: Option<&str>,
        temperature: f32,
    ) -> PyResult<Self> {
        params(temperature, 1, 1.0)?;
        let grid = precision.map(grid).transpose()?;
        let row = arrays::Row::of(logits)?;
        let logits = row.logits()?;
        let taken = detached(py, || {
            let mut scratch = Box::new(RowScratch::new());
            let row = match grid {
                None => Row::without_policy(logits, &mut scratch)
                    .ok_or_else(|| format!("{} logits, {TOP_SLOTS} at least", logits.len())),
                Some(grid) => {
                    Row::prepare(logits, grid, &mut scratch).map_err(|why| why.to_string())
                }
            };
            row.map(|mut row| tensorpow_core::evidence::Evidence::of(&mut row, temperature))
        })?;
        taken.map(Self).map_err(PyValueError::new_err)
    }

    /// Raises a `ValueError` for what no row of `vocab` logits in this precision has.
    fn check(&self, vocab: usize, precision: &str) -> PyResult<()> {
        let grid = grid(precision)?;
        let checked = guarded(|| self.0.check(vocab, grid))?;
        checked.map_err(|why| PyValueError::new_err(why.to_string()))
    }

    /// The token that a digest draws.
    #[pyo3(signature = (digest, temperature = 1.0, top_k = 50, top_p = 1.0))]
    fn choose(
        &self,
        digest: PyBackedBytes,
        temperature: f32,
        top_k: u32,
        top_p: f32,
    ) -> PyResult<Choice> {
        let params = params(temperature, top_k, top_p)?;
        let draw = Draw::from_digest(&read_digest(&digest)?);
        guarded(|| {
            let top = (self.0.logits.first_chunk(), self.0.ids.first_chunk());
            let (logits, ids) =
                (top.0.unwrap_or(&[0.0; TOP_SLOTS]), top.1.unwrap_or(&[0; TOP_SLOTS]));
            Choice::from(Survivors::of(logits, ids, params).choose(draw))
        })
    }

    #[getter]
    fn logits(&self) -> Vec<f32> {
        self.0.logits.to_vec()
    }

    #[getter]
    fn ids(&self) -> Vec<u32> {
        self.0.ids.to_vec()
    }

    #[getter]
    fn stats(&self) -> Vec<f32> {
        self.0.stats.to_vec()
    }
}

/// A drawn token and what the proof records of it.
#[pyclass(frozen, get_all, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Choice {
    token: u32,
    upper_edge: f32,
    normalizer: f32,
}

impl From<sampler::Choice> for Choice {
    fn from(choice: sampler::Choice) -> Self {
        let sampler::Choice { token, upper_edge, normalizer } = choice;
        Self { token, upper_edge, normalizer }
    }
}

fn grid(label: &str) -> PyResult<Grid> {
    let unknown =
        || PyValueError::new_err(format!("precision {label:?} is none of bf16, fp16, fp8"));
    Grid::for_label(label).ok_or_else(unknown)
}

fn params(temperature: f32, top_k: u32, top_p: f32) -> PyResult<Params> {
    let good = temperature.is_finite()
        && temperature > 0.0
        && (1..=50).contains(&top_k)
        && top_p > 0.0
        && top_p <= 1.0;
    let message = "temperature is above 0, top_k from 1 to 50, top_p above 0 and at most 1";
    if good {
        Ok(Params { temperature, top_k, top_p })
    } else {
        Err(PyValueError::new_err(message))
    }
}

fn some_floats<const N: usize>(object: &Bound<'_, PyAny>, name: &str) -> PyResult<[f32; N]> {
    let list: Vec<f32> = match object.getattr_opt("tolist")? {
        Some(tolist) => tolist.call0()?.extract()?,
        None => object.extract()?,
    };
    count(name, list)
}

fn count<T, const N: usize>(name: &str, list: Vec<T>) -> PyResult<[T; N]> {
    list.try_into().map_err(|list: Vec<T>| {
        PyValueError::new_err(format!("evidence has {N} {name}, not {}", list.len()))
    })
}
