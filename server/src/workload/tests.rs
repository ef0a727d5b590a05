//! The workload as `/status` and `/metrics` show it.

use super::*;
use crate::config::Config;
use crate::config::layers::Layers;
use crate::gpu::gauges::Reading;
use crate::metrics::Gauges;
use crate::mining::model::Models;
use crate::mining::payload::{PayloadSettings, PowForm};
use tensorpow_core::target::Normalizer;

fn workload(meter: Meter) -> (Workload, Arc<Metrics>) {
    let config = Config::load(&Layers::default()).unwrap();
    let metrics = Arc::new(Metrics::new());
    let engines = Arc::new(Engines::new(&config.engine, metrics.busy()));
    let settings = PayloadSettings {
        engine: EngineKind::Vllm,
        form: PowForm::Object,
        proof_version: 3,
        normalizer: Normalizer::DEFAULT,
        share_normalizer: Normalizer::DEFAULT,
    };
    let context = Arc::new(ContextCell::new(Models::default(), settings));
    let of = (config.workload, engines, context, metrics.clone());
    let workload = Workload::new(of.0, of.1, of.2, of.3, None, Vec::new(), Arc::default()).unwrap();
    (workload.metered_by(meter), metrics)
}

#[tokio::test]
async fn the_books_say_where_their_energy_comes_from() {
    let meter = Meter::default();
    let (workload, metrics) = workload(meter.clone());
    let shown = || {
        workload.refresh_metrics();
        let text = metrics.render(&Gauges::default()).unwrap();
        let hours = |line: &&str| line.contains("figure=\"kilowatt_hours\"");
        text.lines().filter(hours).map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |source: &str, value: &str| {
        vec![format!(
            "tensorpow_economics{{figure=\"kilowatt_hours\",energy_source=\"{source}\"}} {value}"
        )]
    };
    assert_eq!(shown(), line("configured", "0.0"));
    let status = workload.status();
    assert_eq!(status["economics"]["energy_source"], "configured");
    assert_eq!(status["economics"]["idle_source"], "requests");
    assert_eq!(status["autoscale"], json!({ "reason": "steady", "gpu_busy": null }));

    let (power, utilisation) = (Some(7_200.0), Some(0.75));
    let card = Reading { power, utilisation, ..Reading::default() };
    let now = Instant::now();
    meter.add(std::slice::from_ref(&card), now.checked_sub(Duration::from_secs(50)).unwrap());
    meter.add(&[card], now);
    assert_eq!(shown(), line("nvml", "0.1"), "and no longer the other one");
    let status = workload.status();
    assert_eq!(status["economics"]["energy_source"], "nvml");
    assert_eq!(status["economics"]["idle_source"], "nvml");
    assert_eq!(status["economics"]["idle_ratio"], 0.25);
    assert_eq!(status["autoscale"]["gpu_busy"], 0.75);
}
