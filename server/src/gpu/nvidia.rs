//! NVIDIA's management library, which comes with the driver and is loaded when it is asked for.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// The library as the driver installs it; without the number it comes with the developer's files.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Opens the library.
pub(super) fn open() -> Result<Nvml, NvmlError> {
    let numbered = Nvml::builder().lib_path(LIBRARY.as_ref()).init();
    numbered.or_else(|_| Nvml::init())
}
