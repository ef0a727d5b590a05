//! The broker: its books stay, its doors can be killed and opened again.

use crate::ports::free_addresses;
use clap::Parser;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_server::config::DevnetArgs;
use tensorpow_server::devnet::broker::misbehave::Fault;
use tensorpow_server::devnet::broker::{Books, BrokerSettings, DevBroker, Timing};

pub(crate) const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";
pub(crate) const MODEL_NAME: &str = "org/tiny";

/// Longest wait for the worker: its longest backoff after the faults here, jitter and a slow
/// machine included.
const RETURN: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    chain: DevnetArgs,
}

pub(crate) struct Broker {
    pub(crate) books: Arc<Books>,
    doors: Option<DevBroker>,
    address: std::net::SocketAddr,
}

impl Broker {
    pub(crate) async fn open() -> Self {
        // About every sixteenth window is a block.
        let chain = Flags::parse_from([
            "x",
            "--model",
            MODEL,
            "--block-bits",
            "0x200fffff",
            "--proof-version",
            "2",
        ]);
        let settings = BrokerSettings {
            heartbeat_sec: 1,
            timing: Timing {
                review: Duration::from_millis(100),
                slow_reader: Duration::from_millis(300),
                late: Duration::from_secs(3),
                ..Timing::default()
            },
            ..BrokerSettings::default()
        };
        let books = Books::new(chain.chain.into_settings().unwrap(), settings).unwrap();
        let [address] = free_addresses();
        let doors = DevBroker::open(books.clone(), address.parse().unwrap(), None).await.unwrap();
        Self { books, address: doors.address(), doors: Some(doors) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.address)
    }

    pub(crate) async fn kill(&mut self) {
        self.doors.take().expect("it is open").kill().await;
    }

    pub(crate) async fn restart(&mut self) {
        let doors = DevBroker::open(self.books.clone(), self.address, None).await;
        self.doors = Some(doors.expect("the port is free again"));
    }

    pub(crate) fn misbehave(&self, faults: &[Fault]) {
        self.books.faults().set(faults.iter().copied());
    }

    /// Waits until something is so; how long that took.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        while !so() {
            let counts = self.books.ledger().counts();
            assert!(started.elapsed() < RETURN, "timed out waiting until {what}: {counts:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    }

    /// Switches on a fault that is a burst of frames, and waits until they are sent.
    pub(crate) async fn burst(&self, fault: Fault) {
        let ledger = self.books.ledger();
        let before = ledger.count("burst");
        self.misbehave(&[fault]);
        self.until("the burst is sent", || ledger.count("burst") > before).await;
    }

    /// Cuts the connection there is.
    pub(crate) async fn cut(&self) {
        self.misbehave(&[Fault::Drop]);
        self.until("the worker is cut off", || self.books.registered().is_empty()).await;
    }

    /// Waits until a worker is registered; how long that took.
    pub(crate) async fn wait_for_worker(&self) -> Duration {
        self.until("the worker is back", || !self.books.registered().is_empty()).await
    }
}
