//! What keeps the engine busy: users of the worker, who never notice the broker's troubles, and the
//! broker's own jobs, which end with its connections.

use crate::broker::{Broker, MODEL_NAME};
use crate::worker::Worker;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tensorpow_server::devnet::broker::Books;
use tensorpow_server::devnet::broker::jobs::{JobEvent, Order, dispatch};
use tensorpow_server::http::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Between two requests of a user.
const PAUSE: Duration = Duration::from_millis(150);

/// Windows that may wait for the broker before no more are asked for: what a debug build makes faster
/// than it is judged would never be delivered, solutions least of all.
const BACKLOG: usize = 4;

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
    pub(crate) fn begin(worker: &Worker, broker: &Broker) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let users = (0..2)
            .map(|_| tokio::spawn(user(worker.address, worker.app.clone(), stop.clone())))
            .collect();
        let jobs = tokio::spawn(give_jobs(broker.books.clone(), worker.app.clone(), stop.clone()));
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

fn is_behind(app: &App) -> bool {
    app.outbox.as_ref().is_some_and(|outbox| outbox.waiting() >= BACKLOG)
}

/// Whatever the broker does, a user gets an answer.
async fn user(worker: SocketAddr, app: Arc<App>, stop: Arc<AtomicBool>) {
    let body = format!(r#"{{"model":"{MODEL_NAME}","prompt":"hi"}}"#);
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    while !stop.load(Ordering::SeqCst) {
        if is_behind(&app) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let mut stream = TcpStream::connect(worker).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer))
            .await
            .expect("an answer in time")
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn give_jobs(books: Arc<Books>, app: Arc<App>, stop: Arc<AtomicBool>) -> Jobs {
    let mut jobs = Jobs::default();
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        if is_behind(&app) {
            continue;
        }
        let Ok(mut job) = dispatch(&books, Order::chat(MODEL_NAME, "hi", 256)) else { continue };
        let mut text = String::new();
        while let Some(event) = job.events.recv().await {
            match event {
                JobEvent::Text(piece) => text += &piece,
                JobEvent::End(_) if text == "A window was made." => jobs.ended += 1,
                JobEvent::End(_) => jobs.wrong.push(format!("the answer was {text:?}")),
                // A half-open or slow broker hears nothing in time.
                JobEvent::Failed(why) if why.contains("left") || why.contains("no ACK") => {
                    jobs.cut += 1;
                }
                JobEvent::Failed(why) => jobs.wrong.push(why),
                _ => jobs.wrong.push("an unknown event".to_owned()),
            }
        }
    }
    jobs
}
