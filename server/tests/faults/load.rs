//! Clients that ask for one stream after the other and remember what they saw: whole answers, errors
//! and when, and the proofs that the proxy served them.

use crate::engine::{MINES, PIECES, hash};
use crate::http::{Answer, get, post};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BODY: &str =
    r#"{"model":"org/tiny","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
/// A client that was not served waits so long.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a proof is asked for, and the pause before.
const ASKED: (usize, Duration) = (20, Duration::from_millis(100));

/// A request that brought no whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) what: String,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) complete: AtomicU64,
    pub(crate) mined: AtomicU64,
    pub(crate) failures: Mutex<Vec<Failure>>,
    /// Hashes of the proofs that were served, by completion id.
    pub(crate) served: Mutex<BTreeMap<String, String>>,
    stop: AtomicBool,
}

/// Running clients.
pub(crate) struct Load {
    seen: Arc<Seen>,
    clients: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(address: &str, clients: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let mut running = JoinSet::new();
        for _ in 0..clients {
            running.spawn(client(address.to_owned(), seen.clone()));
        }
        Self { seen, clients: running }
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Lets the last requests finish.
    pub(crate) async fn stop(mut self) -> Arc<Seen> {
        self.seen.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.seen
    }
}

async fn client(address: String, seen: Arc<Seen>) {
    let mut asking = JoinSet::new();
    while !seen.stop.load(Ordering::Relaxed) {
        while asking.try_join_next().is_some() {}
        let from = Instant::now();
        match post(&address, "/v1/chat/completions", BODY).await.and_then(whole) {
            Ok((id, answer)) => {
                seen.complete.fetch_add(1, Ordering::Relaxed);
                if answer.header("x-tensorpow-mining") == Some("mined") {
                    seen.mined.fetch_add(1, Ordering::Relaxed);
                }
                if answer.header(MINES) == Some("yes") {
                    asking.spawn(fetch_proof(address.clone(), id, seen.clone()));
                }
            }
            Err(what) => {
                let failure = Failure { from, to: Instant::now(), what };
                seen.failures.lock().unwrap().push(failure);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    asking.join_all().await;
}

/// The completion id of an answer with all its pieces. One that looks whole and is not fails the
/// test at once.
fn whole(answer: Answer) -> Result<(String, Answer), String> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status != 200 {
        return Err(format!("{}: {text}", answer.status));
    }
    let pieces = text.matches("\"piece\":").count();
    assert_eq!((pieces, text.ends_with("data: [DONE]\n\n")), (PIECES, true), "{text}");
    let id = text.split('"').nth(3).unwrap().to_owned();
    Ok((id, answer))
}

/// A proof that was served is acknowledged.
async fn fetch_proof(address: String, id: String, seen: Arc<Seen>) {
    for _ in 0..ASKED.0 {
        tokio::time::sleep(ASKED.1).await;
        if let Ok(answer) = get(&address, &format!("/v1/proof/{id}")).await
            && answer.status == 200
        {
            seen.served.lock().unwrap().insert(id, hash(&answer.body));
            return;
        }
    }
}
