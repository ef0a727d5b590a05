//! Both ledgers side by side: what the engine made, what became of it in the worker's spool, what the
//! broker says about it.

use crate::broker::Broker;
use crate::engine::Engine;
use crate::worker::Worker;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};
use tensorpow_server::spool::{DeliveryState, Selection, Spool, SpoolSettings};

/// Why a broker may refuse what was right when it was found: the tip moved in between, or a
/// repetition after a lost connection.
const TOO_LATE: [&str; 5] =
    ["lease_inactive", "stale", "unknown_req_id", "duplicate_share", "already_submitted"];
/// Why a worker may give up a window: the tip has moved, or its lease is over.
const DEAD: [&str; 3] = ["stale_parent", "lease_cancelled", "no_lease"];

/// What the worker knows of a window.
#[derive(Debug)]
struct Kept {
    /// Delivered, as far as the worker can tell.
    sent: bool,
    /// Given up for this reason.
    dead: Option<String>,
    parent: Option<[u8; 32]>,
}

/// What became of every window.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    made: usize,
    accepted: usize,
    too_late: usize,
    dead: BTreeMap<String, usize>,
    repeated: usize,
    wrong: Vec<String>,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, accepted, too_late, dead, repeated, wrong } = self;
        write!(
            f,
            "made {made}: accepted {accepted}, refused as too late {too_late}, dead letters {dead:?}; sent again {repeated}; wrong {}",
            wrong.len()
        )
    }
}

impl Balance {
    pub(crate) fn check(&self) {
        assert!(self.wrong.is_empty(), "{} are wrong: {:#?}", self.wrong.len(), self.wrong);
        let dead: usize = self.dead.values().sum();
        assert_eq!(self.made, self.accepted + self.too_late + dead, "{self}");
        assert!(self.made > 20 && self.accepted > 10, "{self}");
    }
}

/// Waits until the worker has nothing left to deliver.
pub(crate) async fn settle(worker: &Worker, broker: &Broker, engine: &Engine) {
    broker.wait_for_worker().await;
    let started = Instant::now();
    loop {
        let spool = worker.spool().await;
        let made = engine.made().len() as u64;
        if spool.entries >= made && spool.open == 0 {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{made} made, {spool:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The spool of a worker that has ended.
fn kept(folder: &Path) -> HashMap<String, Vec<Kept>> {
    let spool = Spool::open(SpoolSettings::in_folder(folder.to_owned())).unwrap();
    let listed = spool.view().unwrap().list(&Selection::default(), usize::MAX).unwrap();
    let mut kept: HashMap<String, Vec<Kept>> = HashMap::new();
    for entry in listed {
        let hash = entry.entry.digest.map(hex::encode).unwrap_or_default();
        let delivery = entry.deliveries.first().map(|(_, delivery)| delivery);
        let state = delivery.map(|delivery| delivery.state);
        let dead = (state == Some(DeliveryState::Dead))
            .then(|| delivery.map(|delivery| delivery.reason.clone()).unwrap_or_default());
        let sent = state == Some(DeliveryState::Confirmed);
        kept.entry(hash).or_default().push(Kept { sent, dead, parent: entry.entry.parent });
    }
    kept
}

/// Compares the ledgers; the worker's is in this folder.
pub(crate) fn draw(spool: &Path, broker: &Broker, engine: &Engine) -> Balance {
    let mut balance = Balance::default();
    let kept = kept(spool);
    let mut judged: HashMap<String, Vec<Value>> = HashMap::new();
    for kind in ["share", "solution"] {
        for entry in broker.books.ledger().entries(Some(kind), 0) {
            let hash = entry["hash"].as_str().unwrap_or_default().to_owned();
            judged.entry(hash).or_default().push(entry);
        }
    }
    let tip = broker.books.chain().tip().hash;
    let made = engine.made();
    balance.made = made.len();
    for window in &made {
        let mut wrong = |what: &str| balance.wrong.push(format!("{what}: {window:?}"));
        let entries = judged.remove(&window.hash).unwrap_or_default();
        let accepted = entries.iter().filter(|entry| entry["verdict"] == "accepted").count();
        let refused = entries.iter().filter(|entry| entry["verdict"] == "refused");
        for reason in refused.filter_map(|entry| entry["reason"].as_str()) {
            if !TOO_LATE.contains(&reason) {
                wrong(&format!("refused as {reason}"));
            }
        }
        let kind = if window.is_solution { "solution" } else { "share" };
        if entries.iter().any(|entry| entry["kind"] != kind) {
            wrong("sent as something else");
        }
        balance.repeated += entries.len().saturating_sub(1);
        let found = match kept.get(&window.hash).map(Vec::as_slice) {
            Some([one]) => one,
            other => {
                wrong(&format!("in the spool {} times", other.map_or(0, <[_]>::len)));
                continue;
            }
        };
        match (accepted, found.sent, &found.dead) {
            (2.., ..) => wrong("credited twice"),
            // What arrived before the connection broke may be dead for the worker.
            (1, ..) => balance.accepted += 1,
            (0, true, _) if entries.is_empty() => wrong("sent, but the broker never saw it"),
            (0, true, _) => balance.too_late += 1,
            (0, false, Some(reason)) if !DEAD.contains(&&**reason) => {
                wrong(&format!("given up as {reason}"));
            }
            (0, false, Some(_)) if found.parent == Some(*tip.as_bytes()) => {
                wrong("given up though its parent is the tip");
            }
            (0, false, Some(reason)) => *balance.dead.entry(reason.clone()).or_default() += 1,
            (0, false, None) => wrong("still to be delivered"),
        }
    }
    for hash in judged.keys() {
        balance.wrong.push(format!("the broker has {hash}, which nobody made"));
    }
    balance
}
