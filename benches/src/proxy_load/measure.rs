//! The measurements, each for the engine alone, for nginx and for the proxy, in turn.

use super::client::Connection;
use super::load::{Answers, Times, at_rate, chat, passed_through, saturate, stream};
use super::servers::Server;
use super::stage::{Stage, Target};
use super::{Args, Outcome};
use mock_engine::Records;
use mock_engine::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// One number for one target.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// Of whom.
    pub target: &'static str,
    /// The number, in the unit that its name says.
    pub value: f64,
}

/// All numbers so far.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    fn note(&mut self, what: &'static str, target: &'static str, value: f64) {
        println!("{what}, {target}: {value:.3}");
        self.0.push(Figure { what, target, value });
    }

    /// The median of the rounds; `None` for what was not measured.
    pub fn get(&self, what: &str, target: &str) -> Option<f64> {
        let of = |figure: &&Figure| figure.what == what && figure.target == target;
        let mut values: Vec<f64> = self.0.iter().filter(of).map(|figure| figure.value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// A proxy's CPU time around a load.
struct Clock<'a>(Option<(&'a Server, Duration)>);

impl<'a> Clock<'a> {
    fn start(target: &Target<'a>) -> Self {
        Self(target.server.map(|server| (server, server.cpu())))
    }

    /// Microseconds an answer.
    fn each(self, answers: &Answers) -> Option<f64> {
        let (server, before) = self.0?;
        let used = server.cpu().saturating_sub(before);
        Some(used.as_secs_f64() * 1e6 / answers.times.count().max(1) as f64)
    }
}

/// Requests a second, as many as go: on the mined route and on one that is passed through, fresh
/// and after a time of load.
pub async fn maxima(args: &Args, figures: &mut Figures) -> Outcome<()> {
    let stage = Stage::set(args, Settings::default()).await?;
    let (mined, passed) = (chat(false, None), passed_through());
    for _ in 0..args.rounds {
        for target in stage.targets() {
            let kind = ["max", "max p50", "max p99", "max CPU", "max failed"];
            maximum(args, &stage, &target, &mined, kind, figures).await?;
            let kind = ["pass", "pass p50", "pass p99", "pass CPU", "pass failed"];
            maximum(args, &stage, &target, &passed, kind, figures).await?;
        }
    }
    for target in stage.targets() {
        let load = Duration::from_secs(args.sustained);
        saturate(target.address, args.connections, load, &mined).await?;
        for _ in 0..args.rounds {
            let kind = ["later", "later p50", "later p99", "later CPU", "later failed"];
            maximum(args, &stage, &target, &mined, kind, figures).await?;
        }
    }
    Ok(())
}

async fn maximum(
    args: &Args,
    stage: &Stage,
    target: &Target<'_>,
    asked: &[u8],
    [most, p50, p99, cpu, failed]: [&'static str; 5],
    figures: &mut Figures,
) -> Outcome<()> {
    let records = &stage.engine.mock.records;
    let (served, mined) = (records.served(), records.mined());
    let clock = Clock::start(target);
    let answers = saturate(target.address, args.connections, args.time(), asked).await?;
    let name = target.name;
    figures.note(most, name, answers.times.count() as f64 / args.time().as_secs_f64());
    figures.note(p50, name, answers.times.at(0.5));
    figures.note(p99, name, answers.times.at(0.99));
    figures.note(failed, name, answers.failed as f64);
    if let Some(each) = clock.each(&answers) {
        figures.note(cpu, name, each);
    }
    if name == Server::PROXY && most != "pass" {
        let (served, mined) = (records.served() - served, records.mined() - mined);
        figures.note("mined share", name, mined as f64 / served.max(1) as f64);
    }
    Ok(())
}

/// What each adds to a request at a moderate rate.
pub async fn rates(args: &Args, figures: &mut Figures) -> Outcome<()> {
    let stage = Stage::set(args, Settings::default()).await?;
    let asked = chat(false, None);
    for _ in 0..args.rounds {
        for target in stage.targets() {
            let clock = Clock::start(&target);
            let answers = at_rate(target.address, args.rate, args.time(), &asked).await?;
            figures.note("rate p50", target.name, answers.times.at(0.5));
            figures.note("rate p99", target.name, answers.times.at(0.99));
            figures.note("rate failed", target.name, answers.failed as f64);
            if let Some(each) = clock.each(&answers) {
                figures.note("rate CPU", target.name, each);
            }
        }
    }
    Ok(())
}

/// 256 streams with a chunk every 5 ms: how long a chunk takes from engine to client.
pub async fn paced(args: &Args, figures: &mut Figures) -> Outcome<()> {
    let settings = Settings { pace: Duration::from_millis(5), stamps: true, ..Settings::default() };
    let stage = Stage::set(args, settings).await?;
    for _ in 0..args.rounds {
        for target in stage.targets() {
            let clock = Clock::start(&target);
            let answers = stream(target.address, 256, args.time()).await?;
            figures.note("paced p50", target.name, answers.times.at(0.5));
            figures.note("paced p99", target.name, answers.times.at(0.99));
            figures.note("paced failed", target.name, answers.failed as f64);
            if let Some(each) = clock.each(&answers) {
                figures.note("paced CPU", target.name, each);
            }
        }
    }
    Ok(())
}

/// Many streams at a time: each must bring pieces again and again, not all at the end.
pub async fn held(args: &Args, figures: &mut Figures) -> Outcome<()> {
    const APART: Duration = Duration::from_millis(2);
    let settings = Settings { pace: Duration::from_secs(1), ..Settings::default() };
    let stage = Stage::set(args, settings).await?;
    for target in stage.targets() {
        let before = target.server.map(Server::memory);
        let pieces: Arc<Vec<AtomicU64>> =
            Arc::new((0..args.streams).map(|_| AtomicU64::new(0)).collect());
        let mut tasks = JoinSet::new();
        for number in 0..args.streams {
            let (pieces, address) = (pieces.clone(), target.address);
            let wait = APART * u32::try_from(number)?;
            tasks.spawn(async move {
                tokio::time::sleep(wait).await;
                let Ok(mut connection) = Connection::open(address).await else { return };
                if connection.send(&chat(true, None)).await.is_err() {
                    return;
                }
                // The head is no piece of the stream.
                let _ = connection.piece().await;
                while connection.piece().await.is_ok() {
                    if let Some(count) = pieces.get(number) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let opened = APART * u32::try_from(args.streams)?;
        tokio::time::sleep(opened + Duration::from_secs(12)).await;
        let streaming = pieces.iter().filter(|count| count.load(Ordering::Relaxed) >= 5).count();
        figures.note("held", target.name, streaming as f64);
        if let (Some(before), Some(server)) = (before, target.server) {
            let grown = server.memory().saturating_sub(before);
            let each = grown as f64 / args.streams as f64 / 1024.0;
            figures.note("held kB", target.name, each);
        }
        tasks.shutdown().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

/// Clients that leave in the middle of a stream: when the engine notices, and what stays behind.
pub async fn aborts(args: &Args, figures: &mut Figures) -> Outcome<()> {
    const WAVE: usize = 50;
    let settings = Settings { pace: Duration::from_millis(20), chunks: 500, ..Settings::default() };
    let stage = Stage::set(args, settings).await?;
    let records = &stage.engine.mock.records;
    let mut marker = 0;
    for target in stage.targets() {
        // Connections that wait for the next request go within seconds.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let idle = watch_connections(records).await.1;
        let mut times = Vec::new();
        for _ in 0..args.abandoned.div_ceil(WAVE) {
            let left = abandon(&target, WAVE, &mut marker).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            times.extend(left.into_iter().filter_map(|(number, left)| {
                Some(records.left_at(number)?.saturating_duration_since(left))
            }));
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let times = Times::new(times);
        figures.note("aborted", target.name, times.count() as f64);
        figures.note("abort p50", target.name, times.at(0.5));
        figures.note("abort p99", target.name, times.at(0.99));
        let behind = watch_connections(records).await.0.saturating_sub(idle);
        figures.note("left behind", target.name, behind as f64);
    }
    Ok(())
}

/// The least and the most connections of a few seconds: whoever asks the engine for its health opens
/// and closes one now and then.
async fn watch_connections(records: &Records) -> (u64, u64) {
    let (mut least, mut most) = (u64::MAX, 0);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = records.connections();
        (least, most) = (least.min(now), most.max(now));
    }
    (least, most)
}

/// Begins streams and leaves each after a tenth of a second; when, by its marker.
async fn abandon(
    target: &Target<'_>,
    streams: usize,
    marker: &mut u64,
) -> Outcome<Vec<(u64, Instant)>> {
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        *marker += 1;
        let (number, address) = (*marker, target.address);
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await.ok()?;
            connection.send(&chat(true, Some(number))).await.ok()?;
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
    Ok(left)
}
