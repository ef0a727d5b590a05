//! Backfill at full speed leaves the way of the proofs free.

use crate::engine::Engine;
use crate::miner::{mine, push};
use crate::rig::Rig;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_are_taken_as_fast_as_without_backfill() {
    let engine = Engine::start(256).await;
    engine.set(|it| it.takes = |_| Duration::from_millis(20));
    let rig = Rig::mining(engine, "llama.cpp", |config| {
        config.workload.backfill.floor = 32;
        config.workload.backfill.spawns_per_second = 1_000.0;
    })
    .await;
    rig.wait_for("a busy engine", |rig| rig.engine.completed() > 50).await;
    let pow = rig.engine.recorded("/v1/completions")[0].pow();
    let windows: Vec<Vec<u8>> =
        (0..40).map(|seed| mine(&pow, &format!("cmpl-{seed}"), seed).message()).collect();
    let before = (rig.engine.completed(), Instant::now());
    push(&rig.collector, &windows);
    rig.wait_for("all proofs", |rig| rig.app.metrics.proofs_received() >= 40).await;
    let took = before.1.elapsed();
    println!("40 proofs beside 32 backfill requests of 20 ms: {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    rig.wait_for("backfill goes on", |rig| rig.engine.completed() > before.0 + 50).await;
}

/// The engine's id of an answer, or ours where it takes it, leads from a proof to its request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_of_backfill_are_late_by_the_time_since_its_end() {
    for kind in ["llama.cpp", "vllm"] {
        let engine = Engine::start(64).await;
        engine.set(|it| it.takes = |_| Duration::from_millis(20));
        let rig = Rig::mining(engine, kind, |_| {}).await;
        let ended = "tensorpow_backfill_requests_total{outcome=\"complete\"";
        wait_for_line(&rig, ended, |count| count >= 12.0).await;
        let path = if kind == "vllm" { "/v1/responses" } else { "/v1/completions" };
        let asked = rig.engine.recorded(path);
        let first = asked.iter().find(|one| one.path == path).expect("a backfill request");
        let id = first.json()["request_id"].as_str().unwrap().to_owned();
        push(&rig.collector, &[mine(&first.pow(), &id, 1).message()]);
        let labels = "{model=\"org/tiny\",class=\"backfill\",engine=";
        let count = format!("tensorpow_proof_latency_seconds_count{labels}");
        wait_for_line(&rig, &count, |count| count >= 1.0).await;
        let sum = format!("tensorpow_proof_latency_seconds_sum{labels}");
        wait_for_line(&rig, &sum, |seconds| seconds > 0.0).await;
        rig.stop().await;
    }
}

/// Waits until the first line of the metrics that begins so has such a value.
async fn wait_for_line(rig: &Rig, start: &str, holds: impl Fn(f64) -> bool) {
    let began = Instant::now();
    loop {
        let text = rig.metrics().await;
        let line = text.lines().find(|line| line.starts_with(start));
        let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
        if value.is_some_and(&holds) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{start} is {value:?} in\n{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
