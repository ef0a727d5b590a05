//! A worker and the development broker under every fault there is, while users and the broker keep
//! the engine busy. Every window that was made is followed through both ledgers: the worker's spool
//! and the broker's. None may be lost, none credited twice. The worker is a process of its own, `tensorpow
//! serve`, which is killed and started again in the middle, and whose memory has to stay what it is.
//!
//! It takes about a minute; `TENSORPOW_SOAK_SECONDS=1200` makes it as long as it should be before
//! a release.

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balance;
mod broker;
mod engine;
#[allow(dead_code)] // headers are of no interest here
#[path = "../faults/http.rs"]
mod http;
mod memory;
#[allow(dead_code)] // windows are taken as they come
#[path = "../proxy/miner.rs"]
mod miner;
mod phases;
#[allow(dead_code)] // addresses are enough here
#[path = "../proxy/ports.rs"]
mod ports;
mod work;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

/// As long as the test lasts when nobody asks for more.
const SHORT: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_share_is_lost_or_doubled_whatever_the_broker_does() {
    if std::env::var_os("TENSORPOW_LOG").is_some() {
        tensorpow_server::log::plain();
    }
    let wanted = std::env::var("TENSORPOW_SOAK_SECONDS").map_or(SHORT, |text| {
        Duration::from_secs(text.parse().expect("TENSORPOW_SOAK_SECONDS is a number"))
    });
    let mut broker = broker::Broker::open().await;
    let engine = engine::Engine::start().await;
    let worker = Arc::new(worker::Worker::new(&engine, &broker));
    worker.start().await;
    engine.push_to(&worker.collector());
    broker.wait_for_worker().await;
    let busy = work::Work::begin(&worker, &broker);
    let started = Instant::now();
    let mut restarted = false;
    loop {
        phases::all(&mut broker, &worker).await;
        println!(
            "{:4.0} s: worker {} kB, windows {}, {:?}",
            started.elapsed().as_secs_f64(),
            worker.resident_kb().unwrap_or(0),
            engine.made().len(),
            broker.books.ledger().counts()
        );
        if restarted && started.elapsed() >= wanted {
            break;
        }
        if !restarted && started.elapsed() >= wanted / 2 {
            phases::worker_restarted(&mut broker, &worker, &engine).await;
            restarted = true;
        }
    }
    let jobs = busy.end().await;
    balance::settle(&worker, &broker, &engine).await;
    let lasted = started.elapsed();
    worker.stop();
    let balance = balance::draw(&worker.spool_folder(), &broker, &engine);
    println!("{balance}\njobs of the broker: {jobs:?}");
    balance.check();
    assert!(jobs.ended > 0 && jobs.wrong.is_empty(), "{jobs:?}");
    let violations = broker.books.ledger().entries(Some("violation"), 0);
    assert!(violations.is_empty(), "{violations:?}");
    memory::check(&worker.samples(), &engine.made(), lasted);
}
