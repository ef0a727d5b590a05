//! The engine side of a process: settings, requests, counters, and the pool that steps batches.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{PoisonError, RwLock};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyString};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tensorpow_engine::settings::Settings;
use tensorpow_engine::{BeginRequest, Exclusions, Identity, Log, Requested};

use crate::fault::{self, detached, guarded, labelled};
use crate::sequence::Sequence;
use crate::{arrays, batch};

/// A running engine side.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Engine {
    /// None after the end. Taken without the interpreter only, so that nobody who holds the one
    /// waits for the other.
    running: RwLock<Option<tensorpow_engine::Engine>>,
    pool: ThreadPool,
    /// The process that has the threads; a fork of it has none.
    process: u32,
}

impl Engine {
    /// Runs a call on the engine while other Python threads run.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&tensorpow_engine::Engine) -> T + Send,
    ) -> PyResult<T> {
        self.check_process()?;
        let outcome = detached(py, || {
            let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(body)
        })?;
        outcome.ok_or_else(|| PyRuntimeError::new_err("the engine is closed"))
    }

    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    /// Refuses what would wait for ever for a thread that the fork left behind.
    fn check_process(&self) -> PyResult<()> {
        if self.is_forked() {
            let message = "the engine was started before a fork; start one in this process";
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(())
    }

    /// Ends the engine, or forgets it where its threads are not.
    fn end(&self, engine: Option<tensorpow_engine::Engine>) {
        if self.is_forked() {
            std::mem::forget(engine);
        } else {
            drop(engine);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Where the interpreter is gone already, nobody is kept waiting.
        let mut waiting = Some(running);
        let _ = Python::try_attach(|py| py.detach(|| self.end(waiting.take().flatten())));
        self.end(waiting.flatten());
    }
}

#[pymethods]
impl Engine {
    /// Reads the settings and starts the threads.
    #[new]
    #[pyo3(signature = (settings = None, *, engine = "", model_identifier = None,
        compute_precision = None, max_sequences = None, threads = None))]
    fn new(
        py: Python<'_>,
        settings: Option<HashMap<String, String>>,
        engine: &str,
        model_identifier: Option<String>,
        compute_precision: Option<String>,
        max_sequences: Option<usize>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let refused = |why: &dyn std::fmt::Display| fault::SettingsError::new_err(why.to_string());
        let settings = match settings {
            None => guarded(Settings::from_env)?,
            Some(values) => {
                let lookup = |name: &'static str| values.get(name).map(OsString::from);
                guarded(|| Settings::from_lookup(&lookup))?
            }
        };
        let settings = settings.map_err(|why| refused(&why))?;
        let identity = Identity {
            engine: engine.to_owned(),
            model_identifier,
            compute_precision,
            max_sequences: max_sequences.filter(|max| *max > 0),
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|at| format!("tensorpow-step-{at}"))
            .build()
            .map_err(|why| refused(&why))?;
        let started =
            detached(py, || tensorpow_engine::Engine::start(settings, identity, Log::stderr()))?;
        let running = RwLock::new(Some(started.map_err(|why| refused(&why))?));
        Ok(Self { running, pool, process: std::process::id() })
    }

    /// Begins a request that carries a payload.
    #[pyo3(signature = (pow, prompt_ids, vocab, *, completion_id = "", temperature = 1.0,
        top_k = 50, top_p = 1.0, repetition_penalty = 1.0, exclusions = 0, slot_id = 0))]
    #[allow(clippy::too_many_arguments)] // keyword arguments in Python
    fn begin(
        &self,
        py: Python<'_>,
        pow: &Bound<'_, PyAny>,
        prompt_ids: &Bound<'_, PyAny>,
        vocab: usize,
        completion_id: &str,
        temperature: f32,
        top_k: i64,
        top_p: f32,
        repetition_penalty: f32,
        exclusions: u32,
        slot_id: i32,
    ) -> PyResult<Sequence> {
        let read = json_text(pow).and_then(|json| Ok((json, arrays::token_ids(prompt_ids)?)));
        let (pow_json, prompt) = match read {
            Ok(read) => read,
            Err(why) => {
                self.run(py, |engine| engine.count_not_mined("invalid_argument"))?;
                return Err(why);
            }
        };
        let request = BeginRequest {
            pow_json: pow_json.as_bytes(),
            completion_id,
            sampling: Requested { temperature, top_k, top_p, repetition_penalty },
            exclusions: Exclusions::from_bits(exclusions),
            slot_id,
            vocab,
            prompt: &prompt,
        };
        match self.run(py, |engine| engine.begin(&request))? {
            Ok(sequence) => Ok(Sequence::new(sequence, vocab)),
            Err(why) => Err(labelled(py, fault::NotMined::new_err(why.to_string()), why.label())),
        }
    }

    /// One step of many sequences at once.
    #[pyo3(signature = (sequences, logits, rows = None))]
    fn sample_batch(
        &self,
        py: Python<'_>,
        sequences: Vec<PyRef<'_, Sequence>>,
        logits: &Bound<'_, PyAny>,
        rows: Option<Vec<usize>>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        self.check_process()?;
        batch::sample(py, &self.pool, &sequences, logits, rows)
    }

    /// One step of many sequences, on evidence that a device took.
    fn record_batch(
        &self,
        py: Python<'_>,
        sequences: Vec<PyRef<'_, Sequence>>,
        logits: &Bound<'_, PyAny>,
        ids: &Bound<'_, PyAny>,
        stats: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        self.check_process()?;
        let evidence = arrays::evidence(logits, ids, stats)?;
        batch::record(py, &self.pool, &sequences, &evidence)
    }

    /// Everything that is counted, in the Prometheus text format.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        self.run(py, tensorpow_engine::Engine::metrics)
    }

    /// Closes finished windows and sends their proofs, for a second at most.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            self.end(self.running.write().unwrap_or_else(PoisonError::into_inner).take());
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}

/// The payload as JSON text: as it came, or written from a dictionary.
fn json_text(pow: &Bound<'_, PyAny>) -> PyResult<PyBackedStr> {
    if pow.is_instance_of::<PyString>() {
        return pow.extract();
    }
    if !pow.is_instance_of::<PyDict>() {
        let message = format!("pow is a dict or JSON text, not {}", pow.get_type().name()?);
        return Err(PyTypeError::new_err(message));
    }
    let text = PyModule::import(pow.py(), "json")?.call_method1("dumps", (pow,))?;
    text.extract()
}
