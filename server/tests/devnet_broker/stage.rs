//! A broker for one test, with its ledger, and proofs for its leases.

use crate::client::{Client, PATIENCE, connect};
use crate::miner::{Mined, mine_tier};
use clap::Parser;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::units::{BlockHash, HeaderPrefix};
use tensorpow_server::config::DevnetArgs;
use tensorpow_server::devnet::broker::{Books, BrokerSettings, DevBroker, Timing};
use tensorpow_server::devnet::chain::ChainSettings;

pub(crate) const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";
/// The share target of a chain that takes every share.
pub(crate) const EVERY: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[derive(Debug, Parser)]
struct ChainFlags {
    #[command(flatten)]
    chain: DevnetArgs,
}

pub(crate) fn chain_settings() -> ChainSettings {
    let flags = ["x", "--model", MODEL, "--seed", "7", "--vdf-ticks", "64", "--proof-version", "2"];
    ChainFlags::parse_from(flags).chain.into_settings().unwrap()
}

/// A broker with short heartbeats.
pub(crate) fn settings() -> BrokerSettings {
    BrokerSettings {
        secret: "test".to_owned(),
        heartbeat_sec: 1,
        timing: Timing { review: Duration::from_millis(50), ..Timing::default() },
        ..BrokerSettings::default()
    }
}

pub(crate) struct Stage {
    pub(crate) books: Arc<Books>,
    pub(crate) broker: DevBroker,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: BrokerSettings) -> Self {
        let books = Books::new(chain_settings(), settings).unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let broker = DevBroker::open(books.clone(), loopback, Some(loopback)).await.unwrap();
        Self { books, broker }
    }

    /// A connection with a good token.
    pub(crate) async fn connect(&self) -> Client {
        let token = format!("Bearer {}", self.books.provider_token("test"));
        connect(self.broker.address(), "/v1/ws", Some(("authorization", token))).await.unwrap()
    }

    /// A registered worker, and its first lease.
    pub(crate) async fn miner(&self, worker: &str) -> (Client, Value) {
        let mut client = self.connect().await;
        client.register(worker).await;
        let lease = client.wait_for("MINE_REQUEST").await;
        (client, lease)
    }

    /// Waits until the ledger has this many entries of a name as in its counts.
    pub(crate) async fn counted(&self, name: &str, times: u64) {
        let started = Instant::now();
        while self.books.ledger().count(name) < times {
            assert!(
                started.elapsed() < PATIENCE,
                "{times} of {name} in {:?}",
                self.books.ledger().counts()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.books.ledger().count(name), times, "{name}");
    }

    /// Why results were refused.
    pub(crate) fn refusals(&self, kind: &str) -> Vec<String> {
        let entries = self.books.ledger().entries(Some(kind), 0);
        let refused = entries.iter().filter(|entry| entry["verdict"] == "refused");
        refused.map(|entry| entry["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// A real window for a lease.
    pub(crate) async fn mined(&self, lease: &Value, completion: &str, is_solution: bool) -> Mined {
        let payload = self.payload(lease).await;
        let completion = completion.to_owned();
        tokio::task::spawn_blocking(move || mine_tier(&payload, &completion, is_solution))
            .await
            .unwrap()
    }

    /// What a proxy hands its engine for a lease.
    async fn payload(&self, lease: &Value) -> Value {
        let template = &lease["template"];
        let prefix: [u8; HeaderPrefix::LEN] =
            hex::decode(template["header_prefix"].as_str().unwrap()).unwrap().try_into().unwrap();
        let prefix = HeaderPrefix::from_bytes(prefix);
        assert_eq!(prefix.parent().display().to_string(), template["block_hash"]);
        assert_eq!(prefix.bits().to_bits(), template["bits"].as_u64().unwrap() as u32);
        let vdf = self.vdf(prefix.parent()).await;
        json!({
            "header_prefix": template["header_prefix"],
            "vdf": hex::encode(vdf.blob.as_bytes()),
            "tick": vdf.tick.0,
            "target": template["target"],
            "compute_precision": "bf16",
            "proof_version": 2,
            "model_identifier": MODEL,
            "ipfs_cid": "QmDefault",
            "request_id": template["request_id"],
            "difficulty": 1_000_000,
        })
    }

    async fn vdf(&self, parent: BlockHash) -> tensorpow_server::mining::vdf::VdfState {
        let started = Instant::now();
        loop {
            if let Some(state) = self.books.chain().vdf().latest(&parent) {
                return state;
            }
            assert!(started.elapsed() < PATIENCE, "no VDF proof");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
