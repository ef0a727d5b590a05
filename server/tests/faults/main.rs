//! kill -9 of proxy, engine and node at random moments under a load of streaming clients. At the end
//! no acknowledged proof is lost, none was handed to the node twice as new, and users have seen errors
//! only for requests that were in flight on a killed engine or proxy, or found no proxy to connect to.
//!
//! All three are processes: the worker (`tensorpow serve --node`), a stand-in of the node (`tensorpow
//! devnet node`), and this program itself as the engine ([`engine`]), which mines real windows.
//! `TENSORPOW_FAULTS` says how often something is killed, `TENSORPOW_FAULTS_SEED` what and when,
//! `TENSORPOW_FAULTS_FOLDER` where logs and spool are kept.

// Without the libtest harness Clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod engine;
mod http;
mod load;
// Shared with another test, which uses all of it.
#[allow(dead_code)]
#[path = "../proxy/miner.rs"]
mod miner;
#[allow(dead_code)] // as there
#[path = "../proxy/ports.rs"]
mod ports;
mod world;

use load::Load;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use world::{Part, World};

const CLIENTS: usize = 12;
/// The world is left alone at the end for so long: everything must be well again.
const CALM: Duration = Duration::from_secs(5);

fn main() {
    if std::env::var_os(engine::LISTEN).is_some() {
        return engine::run();
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("TENSORPOW_FAULTS").unwrap_or(12);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("TENSORPOW_FAULTS_SEED").unwrap_or(now.as_secs());
    println!("{kills} kills, TENSORPOW_FAULTS_SEED={seed}");
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("TENSORPOW_FAULTS_FOLDER").map(std::path::PathBuf::from);
    let folder = kept.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(World::start(folder), kills, Dice(seed)));
}

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    async fn wait(&mut self, at_most: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(at_most))).await;
    }
}

async fn run(mut world: World, kills: u64, mut dice: Dice) {
    let started = Instant::now();
    world.until_it_mines().await;
    let load = Load::start(world.address(), CLIENTS);
    let mut killed = [0; Part::ALL.len()];
    for round in 1..=kills {
        dice.wait(2000).await;
        let part = Part::ALL[usize::try_from(dice.below(3)).unwrap()];
        killed[part as usize] += 1;
        world.kill(part);
        dice.wait(400).await;
        world.restart(part).await;
        if round % 10 == 0 || round == kills {
            let seen = load.seen();
            println!(
                "{:4.0} s: {round} kills, {} answers, {} errors, {} proofs served",
                started.elapsed().as_secs_f64(),
                seen.complete.load(Ordering::Relaxed),
                seen.failures.lock().unwrap().len(),
                seen.served.lock().unwrap().len(),
            );
        }
    }
    world.until_it_mines().await;
    tokio::time::sleep(CALM).await;
    let seen = load.stop().await;
    world.end_mining();
    world.until_delivered().await;
    world.end();
    let [proxy, engine, node] = killed;
    println!(
        "{kills} kills in {:.0} s: proxy {proxy}, engine {engine}, node {node}",
        started.elapsed().as_secs_f64()
    );
    account::settle(&world, &seen);
}
