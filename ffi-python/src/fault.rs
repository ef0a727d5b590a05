//! What goes wrong, as Python exceptions: one type for each kind, labels where counters have them,
//! and the guard that turns a panic of ours into a `RuntimeError`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;

create_exception!(tensorpow, Error, PyException, "Everything this package raises of its own.");
create_exception!(tensorpow, NotMined, Error, "The request is served without mining.");
create_exception!(tensorpow, Stopped, Error, "The sequence stopped mining; its text is unharmed.");
create_exception!(tensorpow, SettingsError, Error, "The engine side cannot start.");
create_exception!(tensorpow, ProofError, Error, "The bytes are no proof, or have no such form.");
create_exception!(tensorpow, CheckFailed, Error, "A proof does not pass its self-check.");
create_exception!(tensorpow, NoVerdict, Error, "A proof cannot be judged, which is no reject.");

/// Adds the exceptions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<Error>())?;
    module.add("NotMined", py.get_type::<NotMined>())?;
    module.add("Stopped", py.get_type::<Stopped>())?;
    module.add("SettingsError", py.get_type::<SettingsError>())?;
    module.add("ProofError", py.get_type::<ProofError>())?;
    module.add("CheckFailed", py.get_type::<CheckFailed>())?;
    module.add("NoVerdict", py.get_type::<NoVerdict>())
}

/// Gives an exception the label that counters know it by.
pub(crate) fn labelled(py: Python<'_>, error: PyErr, label: &str) -> PyErr {
    match error.value(py).setattr("label", label) {
        Ok(()) => error,
        Err(why) => why,
    }
}

/// A sequence that stopped, as the exception that says so.
pub(crate) fn stopped(py: Python<'_>, why: &tensorpow_engine::Stopped) -> PyErr {
    labelled(py, Stopped::new_err(why.to_string()), why.label())
}

/// Runs a call that is over at once; a panic becomes a `RuntimeError`.
pub(crate) fn guarded<T>(body: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| internal(panic.as_ref()))
}

/// Runs a call that takes its time, while other Python threads run; a panic becomes a
/// `RuntimeError`.
pub(crate) fn detached<T: Send>(py: Python<'_>, body: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(body))).map_err(|panic| internal(panic.as_ref()))
}

fn internal(panic: &(dyn Any + Send)) -> PyErr {
    PyRuntimeError::new_err(format!("internal error: {}", words(panic)))
}

/// The words a panic carried.
fn words(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
