//! `tensorpow devnet broker`: its flags, what it prints at the start, and the prompts it was given.

use super::jobs::{self, JobEvent, Order};
use super::misbehave::Fault;
use super::{Books, BrokerError, BrokerSettings, DevBroker, token};
use crate::devnet::chain::ChainSettings;
use crate::mining::network::Network;
use clap::Args;
use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Where the development broker is, and how it misbehaves.
#[derive(Debug, Clone, Args)]
pub struct DevBrokerArgs {
    /// Address workers connect to
    #[arg(long, default_value = "127.0.0.1:8003", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Address of its controls: GET /status, /ledger, POST /dispatch, /proof, /tip, /misbehave
    #[arg(long, default_value = "127.0.0.1:8004", value_name = "ADDR")]
    pub http: SocketAddr,
    /// What its tokens are made from; the same secret takes the same tokens. Without it the tokens
    /// are new at every start
    #[arg(long, value_name = "TEXT")]
    pub secret: Option<String>,
    /// Challenge every worker with this secret, which it has as CHALLENGE_SECRET
    #[arg(long, value_name = "TEXT")]
    pub challenge_secret: Option<String>,
    /// Seconds between heartbeats
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300), value_name = "SECONDS")]
    pub heartbeat: u64,
    /// Leases of one worker at most
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub max_parallel: usize,
    /// Name of the network in leases; workers must list it
    #[arg(long, default_value = "tensor", value_name = "NAME")]
    pub network: String,
    /// Seconds between blocks that somebody else finds; without it there are none
    #[arg(long, value_name = "SECONDS")]
    pub tip_every: Option<f64>,
    /// Append the ledger to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Give this prompt to the first worker that registers and print the answer; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Tokens of the answer to a prompt at most
    #[arg(long, default_value_t = super::http::MAX_TOKENS, value_name = "N")]
    pub max_tokens: u32,
    /// Misbehave in these ways from the start; GET /misbehave on the controls lists them
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub misbehave: Vec<Fault>,
}

impl DevBrokerArgs {
    fn settings(&self) -> BrokerSettings {
        // A time that makes no sense becomes the shortest one.
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        BrokerSettings {
            secret: self.secret.clone().unwrap_or_else(token::fresh_secret),
            challenge_secret: self.challenge_secret.clone(),
            heartbeat_sec: self.heartbeat,
            max_parallel: self.max_parallel,
            network: self.network.clone(),
            tip_every: self.tip_every.map(seconds),
            ledger: self.ledger.clone(),
            faults: self.misbehave.clone(),
            ..BrokerSettings::default()
        }
    }
}

/// Runs the broker until `stop`.
///
/// # Errors
/// [`BrokerError`] when an address is taken or the ledger's file cannot be opened.
pub async fn run(
    chain: ChainSettings,
    args: DevBrokerArgs,
    stop: impl Future<Output = ()>,
) -> Result<(), BrokerError> {
    let books = Books::new(chain, args.settings())?;
    let broker = DevBroker::open(books.clone(), args.listen, Some(args.http)).await?;
    introduce(&broker);
    let work = async {
        for prompt in &args.prompt {
            answer(&books, prompt, args.max_tokens).await;
        }
        narrate(&books).await;
    };
    tokio::select! {
        () = work => {}
        () = stop => {}
    }
    println!("\nCounts: {}", serde_json::json!(books.ledger().counts()));
    Ok(())
}

fn introduce(broker: &DevBroker) {
    let books = broker.books();
    let model = &books.chain.settings().model.id;
    println!("Broker     {}", broker.url());
    if let Some(http) = broker.http() {
        println!("Controls   http://{http}");
    }
    println!("Model      {model}");
    println!("\nA worker for it:\n");
    println!("  export WORKER_MODE=broker BROKER_WS_URL={}", broker.url());
    println!("  export PROVIDER_JWT_TOKEN={}", books.provider_token("devnet-worker"));
    // It is what a worker mines for unless it is told otherwise.
    if books.settings.network != Network::Tensor.as_str() {
        println!("  export MINING_NETWORKS={}", books.settings.network);
    }
    println!("  tensorpow serve --engine http://127.0.0.1:8080\n");
    println!("or X_WORKER_TOKEN={} in place of the JWT.\n", books.tokens.worker_token());
}

/// Waits for a worker, gives it a prompt and prints its answer.
async fn answer(books: &Arc<Books>, prompt: &str, max_tokens: u32) {
    let mut ledger = books.ledger.listen();
    let order = Order::chat(books.chain.settings().model.id.name(), prompt, max_tokens);
    let mut job = loop {
        match jobs::dispatch(books, order.clone()) {
            Ok(job) => break job,
            // Whoever registers is in the ledger.
            Err(jobs::NoWorker) => drop(ledger.recv().await),
        }
    };
    println!("\n> {prompt}\n");
    while let Some(event) = job.events.recv().await {
        match event {
            JobEvent::Text(text) => {
                print!("{text}");
                // What cannot be shown now is shown with the next piece.
                let _ = std::io::stdout().flush();
            }
            JobEvent::End(frame) => println!("\n\nCompletion {}", frame["completion_id"]),
            JobEvent::Failed(why) => println!("\n\nThe job failed: {why}"),
        }
    }
}

/// One line per judgement and per registration.
async fn narrate(books: &Books) {
    let mut ledger = books.ledger.listen();
    loop {
        match ledger.recv().await {
            Ok(entry) => {
                if let Some(line) = line(&entry) {
                    println!("{line}");
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// An entry in one line for people, if they would want to know.
pub(crate) fn line(entry: &Value) -> Option<String> {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let kind = text("kind");
    match &*kind {
        "share" | "solution" => {
            let why = match entry["verdict"] == "refused" {
                true => format!(" ({}: {})", text("reason"), text("detail")),
                false => String::new(),
            };
            Some(format!("{kind} {} {}{why}", text("hash"), text("verdict")))
        }
        "job" => {
            let id = entry["completion_id"].as_str().unwrap_or("without a completion");
            Some(format!("job {} {} {id}", text("job_id"), text("outcome")))
        }
        "hello" => Some(match entry.get("no_leases") {
            Some(why) => format!("worker {} registered, gets no leases: {why}", text("worker")),
            None => format!("worker {} registered", text("worker")),
        }),
        "violation" => Some(format!("worker {} broke a rule: {}", text("worker"), text("what"))),
        "declined" => Some(format!("lease declined: {}", text("error"))),
        "connection" if entry["verdict"] == "refused" => {
            Some(format!("connection refused: {}", text("reason")))
        }
        "disconnected" => Some(format!("connection over: {}", text("why"))),
        _ => None,
    }
}
