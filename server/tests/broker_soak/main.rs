//! A worker and the development broker under every fault there is, while users and the broker keep
//! the engine busy. Every window that was made is followed through both ledgers: the worker's spool
//! and the broker's. None may be lost, none credited twice.
//!
//! It takes less than a minute; `TENSORPOW_SOAK_SECONDS=1200` makes it as long as it should be before
//! a release.

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balance;
mod broker;
mod engine;
#[allow(dead_code)] // windows are taken as they come
#[path = "../proxy/miner.rs"]
mod miner;
mod phases;
mod work;
mod worker;

use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_share_is_lost_or_doubled_whatever_the_broker_does() {
    if std::env::var_os("TENSORPOW_LOG").is_some() {
        tensorpow_server::log::plain();
    }
    let wanted = std::env::var("TENSORPOW_SOAK_SECONDS")
        .ok()
        .map(|text| Duration::from_secs(text.parse().expect("TENSORPOW_SOAK_SECONDS is a number")));
    let mut broker = broker::Broker::open().await;
    let engine = engine::Engine::start().await;
    let worker = worker::Worker::start(&engine, &broker).await;
    engine.push_to(worker.collector());
    broker.wait_for_worker().await;
    let busy = work::Work::begin(&worker, &broker);
    let started = Instant::now();
    let mut memory = Vec::new();
    loop {
        phases::all(&mut broker, &worker).await;
        memory.push(resident_megabytes());
        println!(
            "{:4.0} s: {} MB, windows {}, {:?}",
            started.elapsed().as_secs_f64(),
            memory.last().unwrap(),
            engine.made().len(),
            broker.books.ledger().counts()
        );
        if started.elapsed() >= wanted.unwrap_or_default() {
            break;
        }
    }
    let jobs = busy.end().await;
    balance::settle(&worker, &broker, &engine).await;
    let balance = balance::draw(&worker, &broker, &engine).await;
    println!("{balance}\njobs of the broker: {jobs:?}");
    balance.check();
    assert!(jobs.ended > 0 && jobs.wrong.is_empty(), "{jobs:?}");
    let violations = broker.books.ledger().entries(Some("violation"), 0);
    assert!(violations.is_empty(), "{violations:?}");
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    assert!(last < first + 60, "memory grows: {memory:?}");
}

/// What this process holds: the worker, the broker and the engine together.
fn resident_megabytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096 / 1_000_000
}
