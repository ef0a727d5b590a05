//! The measurements, each for the engine alone, for nginx and for the proxy.

use super::Args;
use super::client::{Connection, request};
use super::servers::{Engine, MODEL, Server};
use mock_engine::Settings;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error>>;

const CHAT: &str = "/v1/chat/completions";

/// About 0.6 kB, as a client would send it.
fn chat(stream: bool, marker: Option<u64>) -> String {
    let text = "Tell me about the lighthouse keeper who collects lost messages. ".repeat(6);
    let marker = marker.map(|marker| format!(",\"marker\":{marker}")).unwrap_or_default();
    format!(
        "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"max_tokens\":64,\"temperature\":0.7,\"top_p\":0.9,\"top_k\":40,\"stream\":{stream}{marker}}}"
    )
}

/// Sorted times.
struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = ((self.0.len() as f64 * share) as usize).min(last);
        self.0.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// Somebody under load.
struct Target<'a> {
    name: &'static str,
    address: SocketAddr,
    server: Option<&'a Server>,
}

/// An engine with everything in front of it.
struct Stage {
    engine: Engine,
    servers: Vec<Server>,
}

impl Stage {
    async fn set(args: &Args, settings: Settings) -> Outcome<Self> {
        let engine = Engine::start(settings)?;
        let mut servers: Vec<Server> =
            Server::nginx(&args.nginx, engine.mock.address)?.into_iter().collect();
        servers.push(Server::proxy(&args.proxy, engine.mock.address)?);
        let stage = Self { engine, servers };
        for server in &stage.servers {
            until_it_serves(server).await?;
        }
        Ok(stage)
    }

    fn targets(&self) -> Vec<Target<'_>> {
        let engine = Target { name: "direct", address: self.engine.mock.address, server: None };
        let servers = self.servers.iter().map(|server| Target {
            name: server.name,
            address: server.address,
            server: Some(server),
        });
        std::iter::once(engine).chain(servers).collect()
    }
}

/// Waits until a server answers, and the proxy until it mines.
async fn until_it_serves(server: &Server) -> Outcome<()> {
    let asked = request(CHAT, &chat(false, None));
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Ok(mut connection) = Connection::open(server.address).await else { continue };
        connection.send(&asked).await?;
        if connection.receive(|| {}).await.is_ok_and(|status| status == 200) {
            // The first VDF proof takes a moment.
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Ok(());
        }
    }
    Err(format!("{} does not serve", server.name).into())
}

pub(super) async fn all(args: &Args) -> Outcome<()> {
    println!("| measurement | server | result |\n| --- | --- | --- |");
    if args.wants("max") {
        maxima(args).await?;
    }
    if args.wants("rate") {
        rates(args).await?;
    }
    if args.wants("stream") {
        paced(args).await?;
    }
    if args.wants("held") {
        held(args).await?;
    }
    if args.wants("abort") {
        aborts(args).await?;
    }
    Ok(())
}

fn row(measurement: &str, server: &str, result: &str) {
    println!("| {measurement} | {server} | {result} |");
}

/// Closed loop: every connection sends its next request when the last is answered.
async fn saturate(
    target: SocketAddr,
    connections: usize,
    time: Duration,
    asked: Vec<u8>,
) -> Outcome<(u64, Times, u64)> {
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asked: Arc<[u8]> = asked.into();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (stop, failed, asked) = (stop.clone(), failed.clone(), asked.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            let Ok(mut connection) = Connection::open(target).await else {
                failed.fetch_add(1, Ordering::Relaxed);
                return times;
            };
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let answer = match connection.send(&asked).await {
                    Ok(()) => connection.receive(|| {}).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(200) => times.push(started.elapsed()),
                    _ => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        match Connection::open(target).await {
                            Ok(fresh) => connection = fresh,
                            Err(_) => break,
                        }
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
    let count = u64::try_from(all.len())?;
    Ok((count, Times::new(all), failed.load(Ordering::Relaxed)))
}

async fn maxima(args: &Args) -> Outcome<()> {
    let stage = Stage::set(args, Settings { keep: 0, ..Settings::default() }).await?;
    let mined = request(CHAT, &chat(false, None));
    let passed = request("/v1/embeddings", &chat(false, None));
    let parts = [
        ("maximum, fresh", &mined, false),
        ("maximum, pass-through", &passed, false),
        ("maximum, sustained", &mined, true),
    ];
    for (name, asked, after_a_while) in parts {
        for target in stage.targets() {
            if after_a_while {
                let time = Duration::from_secs(args.sustained);
                saturate(target.address, args.connections, time, asked.clone()).await?;
            }
            let cpu = target.server.map(Server::cpu);
            let (count, times, failed) =
                saturate(target.address, args.connections, args.time(), asked.clone()).await?;
            let mut result = format!(
                "{:.0} req/s, p50 {:.2} ms, p99 {:.2} ms",
                count as f64 / args.time().as_secs_f64(),
                times.at(0.5),
                times.at(0.99)
            );
            if let (Some(before), Some(server)) = (cpu, target.server) {
                let used = server.cpu().saturating_sub(before);
                result +=
                    &format!(", CPU {:.1} us a request", used.as_secs_f64() * 1e6 / count as f64);
            }
            if failed > 0 {
                result += &format!(", {failed} FAILED");
            }
            row(name, target.name, &result);
        }
    }
    Ok(())
}

/// Open loop: requests leave on schedule, whatever the answers do.
async fn at_rate(target: SocketAddr, rate: u64, time: Duration, asked: Vec<u8>) -> Outcome<Times> {
    const CONNECTIONS: u64 = 32;
    let asked: Arc<[u8]> = asked.into();
    let mut tasks = JoinSet::new();
    let start = Instant::now() + Duration::from_millis(200);
    let gap = Duration::from_nanos(1_000_000_000 / rate);
    for lane in 0..CONNECTIONS {
        let asked = asked.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            let Ok(mut connection) = Connection::open(target).await else { return times };
            let mut number = lane;
            loop {
                let due = start + gap * u32::try_from(number).unwrap_or(u32::MAX);
                if due >= start + time {
                    return times;
                }
                tokio::time::sleep_until(due.into()).await;
                // From the send; from the schedule when the client itself is late.
                let now = Instant::now();
                let late = now.saturating_duration_since(due) > Duration::from_micros(2500);
                let from = if late { due } else { now };
                if connection.send(&asked).await.is_err()
                    || connection.receive(|| {}).await.is_err()
                {
                    return times;
                }
                times.push(from.elapsed());
                number += CONNECTIONS;
            }
        });
    }
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times?);
    }
    Ok(Times::new(all))
}

async fn rates(args: &Args) -> Outcome<()> {
    let stage = Stage::set(args, Settings { keep: 0, ..Settings::default() }).await?;
    let mut direct = (0.0, 0.0);
    for target in stage.targets() {
        let asked = request(CHAT, &chat(false, None));
        let times = at_rate(target.address, 1000, args.time(), asked).await?;
        let (p50, p99) = (times.at(0.5), times.at(0.99));
        if target.server.is_none() {
            direct = (p50, p99);
        }
        let result = format!(
            "p50 {p50:.3} ms (+{:.3}), p99 {p99:.3} ms (+{:.3}), {} answers",
            p50 - direct.0,
            p99 - direct.1,
            times.0.len()
        );
        row("1 000 req/s", target.name, &result);
    }
    Ok(())
}

async fn paced(args: &Args) -> Outcome<()> {
    let settings = Settings { pace: Duration::from_millis(5), keep: 0, ..Settings::default() };
    let stage = Stage::set(args, settings).await?;
    let mut direct = 0.0;
    for target in stage.targets() {
        let asked = request(CHAT, &chat(true, None));
        let cpu = target.server.map(Server::cpu);
        let (count, times, failed) = saturate(target.address, 256, args.time(), asked).await?;
        if target.server.is_none() {
            direct = times.at(0.5);
        }
        let mut result = format!(
            "p50 {:.1} ms (+{:.1}), {failed} failed",
            times.at(0.5),
            times.at(0.5) - direct
        );
        if let (Some(before), Some(server)) = (cpu, target.server) {
            let used = server.cpu().saturating_sub(before);
            result +=
                &format!(", CPU {:.2} ms a stream", used.as_secs_f64() * 1e3 / count.max(1) as f64);
        }
        row("256 streams, 5 ms chunks", target.name, &result);
    }
    Ok(())
}

/// Many streams at a time: each must bring pieces again and again, not all at the end.
async fn held(args: &Args) -> Outcome<()> {
    let settings = Settings { pace: Duration::from_secs(1), keep: 0, chunks: 64 };
    let stage = Stage::set(args, settings).await?;
    for target in stage.targets() {
        let before = target.server.map(Server::memory);
        let pieces: Arc<Vec<AtomicU64>> =
            Arc::new((0..args.streams).map(|_| AtomicU64::new(0)).collect());
        let mut tasks = JoinSet::new();
        for number in 0..args.streams {
            let pieces = pieces.clone();
            let address = target.address;
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(2) * u32::try_from(number).unwrap_or(0))
                    .await;
                let Ok(mut connection) = Connection::open(address).await else { return };
                if connection.send(&request(CHAT, &chat(true, None))).await.is_err() {
                    return;
                }
                while connection.piece().await.is_ok() {
                    if let Some(count) = pieces.get(number) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        tokio::time::sleep(
            Duration::from_millis(2) * u32::try_from(args.streams)? + Duration::from_secs(12),
        )
        .await;
        let streaming = pieces.iter().filter(|count| count.load(Ordering::Relaxed) >= 5).count();
        let mut result = format!("{streaming} of {} really stream", args.streams);
        if let (Some(before), Some(server)) = (before, target.server) {
            let grown = server.memory().saturating_sub(before);
            let each = grown as f64 / args.streams as f64 / 1024.0;
            result += &format!(", {each:.1} kB a stream");
        }
        tasks.shutdown().await;
        row("streams held open", target.name, &result);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

/// Clients that leave in the middle of a stream: when the engine notices.
async fn aborts(args: &Args) -> Outcome<()> {
    let settings = Settings { pace: Duration::from_millis(20), keep: 0, chunks: 500 };
    let stage = Stage::set(args, settings).await?;
    let records = stage.engine.mock.records.clone();
    let mut marker = 0;
    for target in stage.targets() {
        let mut times = Vec::new();
        let idle = records.connections();
        for _ in 0..args.abandoned.div_ceil(50) {
            let mut tasks = JoinSet::new();
            for _ in 0..50 {
                marker += 1;
                let (number, address) = (marker, target.address);
                tasks.spawn(async move {
                    let mut connection = Connection::open(address).await.ok()?;
                    connection.send(&request(CHAT, &chat(true, Some(number)))).await.ok()?;
                    connection.piece().await.ok()?;
                    tokio::time::sleep(Duration::from_millis(100 + number % 40)).await;
                    let left = Instant::now();
                    drop(connection);
                    Some((number, left))
                });
            }
            let mut left = Vec::new();
            while let Some(one) = tasks.join_next().await {
                left.extend(one?);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            times.extend(left.into_iter().filter_map(|(number, left)| {
                Some(records.left_at(number)?.saturating_duration_since(left))
            }));
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let behind = records.connections().saturating_sub(idle);
        let times = Times::new(times);
        let result = format!(
            "{} of {} aborted, p50 {:.2} ms, p99 {:.2} ms, {behind} engine connections left behind",
            times.0.len(),
            args.abandoned.div_ceil(50) * 50,
            times.at(0.5),
            times.at(0.99),
        );
        row("abandoned streams", target.name, &result);
    }
    Ok(())
}
