//! Two kinds of load: as much as goes (each connection asks again when it is answered), and so many
//! requests a second whatever the answers do; and what is kept of their times.

use super::Outcome;
use super::client::{Connection, request};
use super::servers::MODEL;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections of the load at a fixed rate.
const LANES: u64 = 32;
/// From here on the client itself is late, and a request counts from when it was due.
const LATE: Duration = Duration::from_micros(2500);

/// A chat completion of about 0.6 kB, as a client would send it.
pub fn chat(stream: bool, marker: Option<u64>) -> Vec<u8> {
    request("/v1/chat/completions", &body(stream, marker))
}

/// The same body for a route that nobody mines on.
pub fn passed_through() -> Vec<u8> {
    request("/v1/embeddings", &body(false, None))
}

fn body(stream: bool, marker: Option<u64>) -> String {
    let text = "Tell me about the lighthouse keeper who collects lost messages. ".repeat(6);
    let marker = marker.map(|marker| format!(",\"marker\":{marker}")).unwrap_or_default();
    format!(
        "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"max_tokens\":64,\"temperature\":0.7,\"top_p\":0.9,\"top_k\":40,\"stream\":{stream}{marker}}}"
    )
}

/// Sorted times.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts them.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of them does not exceed, in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = ((self.0.len() as f64 * share) as usize).min(last);
        self.0.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// How long each whole answer took.
    pub times: Times,
    /// Requests without one.
    pub failed: u64,
}

/// What is timed.
#[derive(Debug, Clone, Copy)]
enum Timed {
    /// A whole answer.
    Answers,
    /// Each stamped chunk of a stream, from engine to client.
    Chunks,
}

/// Every connection sends its next request when the last is answered.
pub async fn saturate(
    target: SocketAddr,
    connections: usize,
    time: Duration,
    asked: &[u8],
) -> Outcome<Answers> {
    again_and_again(target, connections, time, asked, Timed::Answers).await
}

/// Every connection takes one stream of stamped chunks after the other; the times are those of chunks
/// from engine to client.
pub async fn stream(target: SocketAddr, connections: usize, time: Duration) -> Outcome<Answers> {
    again_and_again(target, connections, time, &chat(true, None), Timed::Chunks).await
}

async fn again_and_again(
    target: SocketAddr,
    connections: usize,
    time: Duration,
    asked: &[u8],
    timed: Timed,
) -> Outcome<Answers> {
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asked: Arc<[u8]> = asked.into();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (stop, failed, asked) = (stop.clone(), failed.clone(), asked.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let answered = match timed {
                    Timed::Answers => exchange(&mut kept, target, &asked).await,
                    Timed::Chunks => take(&mut kept, target, &asked, &mut times).await,
                };
                match (answered, timed) {
                    (Ok(200), Timed::Answers) => times.push(started.elapsed()),
                    (Ok(200), Timed::Chunks) => {}
                    _ => {
                        kept = None;
                        failed.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            times
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times?);
    }
    Ok(Answers { times: Times::new(all), failed: failed.load(Ordering::Relaxed) })
}

async fn open(
    kept: &mut Option<Connection>,
    target: SocketAddr,
) -> std::io::Result<&mut Connection> {
    Ok(match kept {
        Some(connection) => connection,
        none => none.insert(Connection::open(target).await?),
    })
}

async fn take(
    kept: &mut Option<Connection>,
    target: SocketAddr,
    asked: &[u8],
    times: &mut Vec<Duration>,
) -> std::io::Result<u16> {
    let connection = open(kept, target).await?;
    connection.send(asked).await?;
    connection.receive_stamped(|time| times.push(time)).await
}

async fn exchange(
    kept: &mut Option<Connection>,
    target: SocketAddr,
    asked: &[u8],
) -> std::io::Result<u16> {
    let connection = open(kept, target).await?;
    connection.send(asked).await?;
    connection.receive(|| {}).await
}

/// Requests leave on schedule, whatever the answers do.
pub async fn at_rate(
    target: SocketAddr,
    rate: u64,
    time: Duration,
    asked: &[u8],
) -> Outcome<Answers> {
    let asked: Arc<[u8]> = asked.into();
    let mut tasks = JoinSet::new();
    let start = Instant::now() + Duration::from_millis(200);
    let gap = Duration::from_nanos(1_000_000_000 / rate);
    for lane in 0..LANES {
        let asked = asked.clone();
        tasks.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            let (mut kept, mut number) = (None, lane);
            loop {
                let due = start + gap * u32::try_from(number).unwrap_or(u32::MAX);
                if due >= start + time {
                    return (times, failed);
                }
                tokio::time::sleep_until(due.into()).await;
                let now = Instant::now();
                let from = if now.saturating_duration_since(due) > LATE { due } else { now };
                match exchange(&mut kept, target, &asked).await {
                    Ok(200) => times.push(from.elapsed()),
                    _ => {
                        kept = None;
                        failed += 1;
                    }
                }
                number += LANES;
            }
        });
    }
    let (mut all, mut failures) = (Vec::new(), 0);
    while let Some(lane) = tasks.join_next().await {
        let (times, failed) = lane?;
        all.extend(times);
        failures += failed;
    }
    Ok(Answers { times: Times::new(all), failed: failures })
}
