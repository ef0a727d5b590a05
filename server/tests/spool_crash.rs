//! kill -9 at random moments while proofs come in and go out: no proof that was acknowledged is
//! lost, none is handed over twice as new, and in the end nothing is left undelivered.
//!
//! This program is its own victim: with [`FOLDER`] set it is the proxy that gets killed. How often is
//! said by `TENSORPOW_CRASHES`.

// Without the libtest harness Clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Shared with another test, which uses all of it.
#[allow(dead_code)]
#[path = "spool/stage.rs"]
mod stage;

use async_trait::async_trait;
use futures_util::stream::{StreamExt, iter};
use stage::{context, share};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tensorpow_server::cache::CacheLimits;
use tensorpow_server::intake::{Intake, Taken};
use tensorpow_server::metrics::Metrics;
use tensorpow_server::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use tensorpow_server::outbox::Outbox;
use tensorpow_server::spool::{Selection, Spool, SpoolSettings};
use tensorpow_server::store::ProofStore;

const FOLDER: &str = "TENSORPOW_CRASH_FOLDER";
const FIRST: &str = "TENSORPOW_CRASH_FIRST";
const DRAIN: &str = "drain";

fn main() {
    match std::env::var_os(FOLDER) {
        Some(folder) => victim(Path::new(&folder), &std::env::var(FIRST).unwrap()),
        None => kill_again_and_again(),
    }
}

/// One line that survives the process: the system has it when this returns.
fn note(log: &File, line: &str) {
    (&*log).write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn log(folder: &Path, name: &str) -> File {
    OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap()
}

/// Notes every proof that arrives, then accepts it, refuses it, or was not there at all.
struct Sink {
    log: File,
    always_there: bool,
}

#[async_trait]
impl ProofSink for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }

    async fn submit(&self, proof: &ReceivedProof, attempt: Attempt) -> Verdict {
        if !self.always_there && proof.nonce % 50 == 1 && attempt.number == 1 {
            return Verdict::Unavailable { detail: "away".to_owned() };
        }
        let kind = if attempt.repeat { "repeat" } else { "new" };
        note(&self.log, &format!("{} {kind}", proof.nonce));
        tokio::time::sleep(Duration::from_micros(u64::from(proof.nonce % 7) * 300)).await;
        match proof.nonce % 10 {
            0 => Verdict::Rejected { reason: "unlucky", detail: String::new() },
            _ => Verdict::Share,
        }
    }
}

fn victim(folder: &Path, first: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let spool = Spool::open(SpoolSettings::in_folder(folder.join("spool"))).unwrap();
        let (context, metrics) = (context(Some(1)), Arc::new(Metrics::new()));
        let store = Arc::new(ProofStore::new(CacheLimits::default(), spool.clone()));
        let sink = Arc::new(Sink { log: log(folder, "sent.log"), always_there: first == DRAIN });
        let outbox = Outbox::open(sink, spool, context.clone(), metrics.clone()).await;
        let outbox = Arc::new(outbox);
        let running = tokio::spawn(outbox.clone().run());
        let intake = Intake::new(store, context, metrics, Some(outbox.clone()));
        if first == DRAIN {
            outbox.close();
            return running.await.unwrap();
        }
        let (acks, first) = (log(folder, "acks.log"), first.parse::<u32>().unwrap());
        let proofs = iter(first..first + 1_000_000);
        let (intake, acks) = (&intake, &acks);
        proofs
            .for_each_concurrent(16, |number| async move {
                let taken = intake.take(share(number, &format!("cmpl-{number}"))).await;
                assert!(matches!(taken, Taken::Stored(_)), "{taken:?}");
                note(acks, &number.to_string());
            })
            .await;
    });
}

fn random(below: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (u64::from(now.subsec_nanos()) / 7 + now.as_secs()) % below
}

fn spawn(folder: &Path, first: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .env(FOLDER, folder)
        .env(FIRST, first)
        .spawn()
        .unwrap()
}

fn lines(folder: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn kill_again_and_again() {
    let crashes = std::env::var("TENSORPOW_CRASHES").map_or(20, |n| n.parse::<u32>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let started = Instant::now();
    for round in 0..crashes {
        let mut child = spawn(folder, &(round * 1_000_000).to_string());
        std::thread::sleep(Duration::from_millis(20 + random(500)));
        assert!(child.try_wait().unwrap().is_none(), "the victim ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(spawn(folder, DRAIN).wait().unwrap().success());

    let acknowledged: BTreeSet<u32> =
        lines(folder, "acks.log").iter().map(|line| line.parse().unwrap()).collect();
    let mut sent: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for line in lines(folder, "sent.log") {
        let (number, kind) = line.split_once(' ').unwrap();
        let counts = sent.entry(number.parse().unwrap()).or_default();
        if kind == "new" { counts.0 += 1 } else { counts.1 += 1 }
    }
    let spool = Spool::open(SpoolSettings::in_folder(folder.join("spool"))).unwrap();
    let view = spool.view().unwrap();
    let listed = view.list(&Selection::default(), usize::MAX).unwrap();
    let mut stored = BTreeSet::new();
    for listed in &listed {
        let number = listed.entry.nonce;
        assert!(stored.insert(number), "proof {number} is stored twice");
        let open = listed.deliveries.iter().any(|(_, delivery)| delivery.state.is_open());
        assert!(!open, "proof {number} is not settled: {:?}", listed.deliveries);
        let message = view.message(listed.seq, &listed.entry).unwrap();
        assert_eq!(message, share(number, &format!("cmpl-{number}")), "proof {number} has changed");
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    for number in &acknowledged {
        assert!(stored.contains(number), "acknowledged proof {number} is lost");
        assert!(sent.contains_key(number), "acknowledged proof {number} was never delivered");
    }
    for (number, (new, _)) in &sent {
        assert!(*new <= 1, "proof {number} was handed over {new} times as new");
    }
    println!(
        "{crashes} kills in {:.0} s: {} proofs acknowledged, {} stored, {} delivered, {} repetitions",
        started.elapsed().as_secs_f64(),
        acknowledged.len(),
        stored.len(),
        sent.len(),
        sent.values().map(|(_, repeats)| repeats).sum::<u32>(),
    );
}
