//! What keeps the engine busy: users of the worker, who never notice the broker's troubles, and the
//! broker's own jobs, which end with its connections.

use crate::broker::{Broker, MODEL_NAME};
use crate::http::post;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tensorpow_server::devnet::broker::Books;
use tensorpow_server::devnet::broker::jobs::{JobEvent, Order, dispatch};
use tokio::task::JoinHandle;

/// Between two requests of a user.
const PAUSE: Duration = Duration::from_millis(150);

/// Windows that may wait for the broker before no more are asked for: what a debug build makes faster
/// than it is judged would never be delivered, solutions least of all.
const BACKLOG: u64 = 4;

/// What became of the broker's jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) ended: usize,
    /// Failed because the connection did.
    pub(crate) cut: usize,
    /// Failed for no such reason.
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Work {
    stop: Arc<AtomicBool>,
    users: Vec<JoinHandle<()>>,
    jobs: JoinHandle<Jobs>,
}

impl Work {
    pub(crate) fn begin(worker: &Arc<Worker>, broker: &Broker) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let users = (0..2).map(|_| tokio::spawn(user(worker.clone(), stop.clone()))).collect();
        let jobs = tokio::spawn(give_jobs(broker.books.clone(), worker.clone(), stop.clone()));
        Self { stop, users, jobs }
    }

    pub(crate) async fn end(self) -> Jobs {
        self.stop.store(true, Ordering::SeqCst);
        for user in self.users {
            user.await.expect("every user was served");
        }
        self.jobs.await.unwrap()
    }
}

/// Whatever the broker does, a user gets an answer while there is a worker.
async fn user(worker: Arc<Worker>, stop: Arc<AtomicBool>) {
    let body = format!(r#"{{"model":"{MODEL_NAME}","prompt":"hi"}}"#);
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        if worker.is_behind(BACKLOG).await {
            continue;
        }
        let life = worker.life();
        let asked = post(worker.address(), "/v1/completions", &body);
        let answer =
            tokio::time::timeout(Duration::from_secs(30), asked).await.expect("an answer in time");
        let is_served = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        assert!(is_served || !worker.has_lived_since(life), "{answer:?}");
    }
}

async fn give_jobs(books: Arc<Books>, worker: Arc<Worker>, stop: Arc<AtomicBool>) -> Jobs {
    let mut jobs = Jobs::default();
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        if worker.is_behind(BACKLOG).await {
            continue;
        }
        let Ok(mut job) = dispatch(&books, Order::chat(MODEL_NAME, "hi", 256)) else { continue };
        let mut text = String::new();
        while let Some(event) = job.events.recv().await {
            match event {
                JobEvent::Text(piece) => text += &piece,
                JobEvent::End(_) if text == "A window was made." => jobs.ended += 1,
                JobEvent::End(_) => jobs.wrong.push(format!("the answer was {text:?}")),
                // A half-open or slow broker hears nothing in time; a connection may end between
                // the choice of its worker and the job's frame.
                JobEvent::Failed(why)
                    if ["left", "no ACK", "no more frames"].iter().any(|it| why.contains(it)) =>
                {
                    jobs.cut += 1;
                }
                JobEvent::Failed(why) => jobs.wrong.push(why),
                _ => jobs.wrong.push("an unknown event".to_owned()),
            }
        }
    }
    jobs
}
