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
