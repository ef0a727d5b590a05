//! The Python door of tensorpow: the extension module `tensorpow._lib`, whose names the package
//! `tensorpow` arranges. What the functions promise to Python stands in `_lib.pyi`.
//!
//! Nothing is decided here: the door reads arguments, releases the interpreter around work, keeps
//! panics inside and hands over to [`tensorpow_engine`] and [`tensorpow_core`].

mod admission;
mod arrays;
mod batch;
mod engine;
mod fault;
mod message;
mod proof;
mod sequence;
mod step;
mod targets;
mod vdf;
mod verdict;

use pyo3::prelude::*;

/// Everything that Python sees.
#[pymodule]
fn _lib(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    fault::register(module)?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<sequence::Sequence>()?;
    module.add_class::<step::StepHasher>()?;
    module.add_class::<step::Evidence>()?;
    module.add_class::<step::Choice>()?;
    module.add_class::<proof::Proof>()?;
    module.add_class::<message::MiningResponse>()?;
    module.add_class::<verdict::Verdict>()?;
    module.add_class::<vdf::Prover>()?;
    module.add_class::<vdf::Published>()?;
    module.add_class::<targets::Adjusted>()?;
    module.add_class::<targets::HeaderFields>()?;
    for function in [
        wrap_pyfunction!(step::draw, module)?,
        wrap_pyfunction!(vdf::vdf_prove, module)?,
        wrap_pyfunction!(vdf::vdf_verify, module)?,
        wrap_pyfunction!(targets::compact_to_target, module)?,
        wrap_pyfunction!(targets::target_to_compact, module)?,
        wrap_pyfunction!(targets::adjust_for_model, module)?,
        wrap_pyfunction!(targets::share_target, module)?,
        wrap_pyfunction!(targets::header_prefix, module)?,
        wrap_pyfunction!(targets::header_fields, module)?,
        wrap_pyfunction!(targets::with_bits, module)?,
        wrap_pyfunction!(targets::header_hash, module)?,
        wrap_pyfunction!(targets::is_met_by, module)?,
        wrap_pyfunction!(admission::admission_extract, module)?,
        wrap_pyfunction!(admission::admission_merge, module)?,
        wrap_pyfunction!(admission::admission_expected_tries, module)?,
        wrap_pyfunction!(admission::admission_prompt_commitment, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
