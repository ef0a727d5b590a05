//! `tensorpow quickstart`: the whole chain on one machine in one command. A development chain and
//! the proxy run in this process, a patched llama-server as its child; a prompt goes through, the
//! reply is printed, and the proof of the same forward pass is shown with every check. Nothing is
//! left running unless that was asked for.

mod another_miner;
mod broker;
mod child;
mod client;
mod stage;

use crate::config::ConfigError;
use crate::devnet::broker::{BrokerError, DevBroker};
use crate::devnet::vdf::DEFAULT_TICKS;
use crate::http::App;
use crate::http::engine::Health;
use crate::mining::model::{ModelId, ModelIdError};
use crate::mining::sink::Verdict;
use crate::outbox::Judged;
use crate::report::{self, Against};
use crate::service::StartError;
use child::{EngineProcess, SpawnError};
use clap::Args;
use client::{Client, ClientError};
use stage::Stage;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::units::WINDOW;
use tokio::sync::{broadcast, oneshot};

/// Requests with `ignore_eos` that are sent after the reply, at most, until a window completes.
const MAX_FILLERS: usize = 3;
/// How long a finished window may take to arrive and be judged.
const PROOF_PATH: Duration = Duration::from_secs(5);

/// Flags of `quickstart`.
#[derive(Debug, Clone, Args)]
pub struct QuickstartArgs {
    /// The patched llama-server
    #[arg(long, value_name = "PATH")]
    pub llama_server: PathBuf,
    /// The model as a GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// Name the model is registered and served under; its commit is the first 40 digits of the
    /// file's SHA-256
    #[arg(long, default_value = "HuggingFaceTB/SmolLM2-135M-Instruct", value_name = "NAME")]
    pub model_name: String,
    /// What to ask
    #[arg(
        long,
        default_value = "Tell me the story of a lighthouse keeper who collects lost messages.",
        value_name = "TEXT"
    )]
    pub prompt: String,
    /// Tokens of the reply at most; 256 make a window
    #[arg(long, default_value_t = 320, value_name = "N")]
    pub max_tokens: u32,
    /// Threads of the engine; more than one only on cores nobody shares
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: u32,
    /// Address of the OpenAI API; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Proof version to mine; 3 with an admission nonce in every window
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub proof_version: u8,
    /// Squarings behind the VDF proof of each parent block
    #[arg(
        long,
        default_value_t = DEFAULT_TICKS,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N"
    )]
    pub vdf_ticks: u32,
    /// Seconds to wait for the engine to load, and then for the first share
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub patience: u64,
    /// Put a development broker in between: the prompt is its job, and it credits what is found
    #[arg(long)]
    pub broker: bool,
    /// Keep everything running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Why the quickstart ended without showing a valid proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuickstartError {
    /// A file is missing or unreadable.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The model name cannot be registered.
    #[error(transparent)]
    ModelName(#[from] ModelIdError),
    /// The settings are unsafe or malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The proxy did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The engine ended by itself.
    #[error("the engine ended with {0}")]
    EngineEnded(ExitStatus),
    /// The engine does not get ready.
    #[error("the engine was not ready after {0} s")]
    EngineNotReady(u64),
    /// The VDF prover does not finish.
    #[error("the VDF of the first block was not proved after {0} s; try a smaller --vdf-ticks")]
    NoVdf(u64),
    /// A request through the proxy failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The request was served, but not mined.
    #[error("the proxy did not mine the request: {0}")]
    NotMined(String),
    /// The worker does not come to its broker.
    #[error("the worker was not registered with its broker after {0} s")]
    NotRegistered(u64),
    /// A job of the broker failed.
    #[error("the broker's job failed: {0}")]
    Job(String),
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The chain refused a proof.
    #[error("the development chain refused the proof: {0}")]
    Refused(String),
    /// No proof arrived.
    #[error("the engine left no proof; is the llama-server patched?")]
    NoShare,
    /// The proof does not hold.
    #[error("the proof failed a check")]
    BadProof,
    /// A proof that is known to hold was rejected.
    #[error("the proof of another miner was rejected: {0}")]
    AnotherMiner(String),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// No free port, no runtime: the machine is at its limits.
    #[error("{0}")]
    System(std::io::Error),
}

/// Runs the quickstart; `stop` is Ctrl-C or SIGTERM. The engine is stopped on every way out.
///
/// # Errors
/// [`QuickstartError`]; the end of the engine's log has been printed then.
pub async fn run(
    args: QuickstartArgs,
    stop: impl Future<Output = ()>,
) -> Result<(), QuickstartError> {
    let stage = Stage::set(&args).await?;
    let mut engine = stage.engine;
    let (quit, quitting) = oneshot::channel::<()>();
    let judgements = stage.service.judgements();
    let scene = Scene {
        client: Client::new(stage.service.address()),
        app: stage.service.app().clone(),
        address: stage.service.address(),
        against: stage.against,
        model: stage.model,
        broker: stage.broker,
        shown: AtomicBool::new(false),
        args,
    };
    let proxy = stage.service.spawn(async move {
        // A dropped sender means the same.
        let _ = quitting.await;
    });
    let outcome = tokio::select! {
        outcome = scene.play(&mut engine, judgements) => outcome,
        // With the proof on the screen being told to stop is the regular end.
        () = stop => match scene.shown.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(QuickstartError::Interrupted),
        },
    };
    if let Err(error) = &outcome
        && !matches!(error, QuickstartError::Interrupted)
    {
        eprintln!("\nThe end of the engine's log:\n{}", engine.log_tail());
    }
    println!("\nStopping the engine and the proxy.");
    engine.stop().await;
    drop(quit);
    // The proxy drains within its own deadline; a panic in it has been reported already.
    let _ = proxy.await;
    outcome
}

/// Everything the run needs once it is on stage.
struct Scene {
    args: QuickstartArgs,
    client: Client,
    app: Arc<App>,
    address: SocketAddr,
    model: ModelId,
    against: Against,
    /// Who gives out the work, with `--broker`.
    broker: Option<DevBroker>,
    /// The proof has been shown and holds.
    shown: AtomicBool,
}

impl Scene {
    /// From the engine's start to the shown proof; with `--keep` for ever after.
    async fn play(
        &self,
        engine: &mut EngineProcess,
        mut judgements: broadcast::Receiver<Judged>,
    ) -> Result<(), QuickstartError> {
        let story = async {
            self.wait_for_engine().await?;
            self.wait_for_vdf().await?;
            let judged = match &self.broker {
                Some(broker) => self.work_for(broker.books(), &mut judgements).await?,
                None => {
                    let reply_tokens = self.chat().await?;
                    self.first_share(reply_tokens, &mut judgements).await?
                }
            };
            self.show(&judged)?;
            self.shown.store(true, Ordering::Relaxed);
            self.say_goodbye();
            if self.args.keep {
                self.narrate(&mut judgements).await;
            }
            Ok(())
        };
        tokio::select! {
            outcome = story => outcome,
            status = engine.ended() => match status {
                Ok(status) => Err(QuickstartError::EngineEnded(status)),
                Err(error) => Err(QuickstartError::System(error)),
            },
        }
    }

    async fn wait_for_engine(&self) -> Result<(), QuickstartError> {
        let started = Instant::now();
        let patience = Duration::from_secs(self.args.patience);
        let mut said = 0;
        while self.app.engines.default().health() != Health::Up {
            if started.elapsed() > patience {
                return Err(QuickstartError::EngineNotReady(self.args.patience));
            }
            if started.elapsed().as_secs() / 5 > said {
                said = started.elapsed().as_secs() / 5;
                println!("           loading the model, {} s", started.elapsed().as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("           ready after {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Without its parent's VDF proof a request would be served unmined.
    async fn wait_for_vdf(&self) -> Result<(), QuickstartError> {
        let started = Instant::now();
        loop {
            if let Some(vdf) = self.app.context.load().vdf() {
                println!("VDF        {} squarings proved for the tip", vdf.tick.0);
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(self.args.patience) {
                return Err(QuickstartError::NoVdf(self.args.patience));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The prompt through the proxy, as any OpenAI client sends it; the reply as it comes. Returns
    /// the number of its tokens.
    async fn chat(&self) -> Result<u64, QuickstartError> {
        println!("\n> {}\n", self.args.prompt);
        let body = serde_json::json!({
            "model": self.model.name(),
            "messages": [{ "role": "user", "content": self.args.prompt }],
            "max_tokens": self.args.max_tokens,
            "stream": true,
        });
        let answer = self
            .client
            .stream_chat(&body, |text| {
                print!("{text}");
                // What cannot be shown now is shown with the next piece.
                let _ = std::io::stdout().flush();
            })
            .await?;
        println!("\n\nCompletion {} ({})", answer.completion_id, answer.mining);
        match answer.mining.as_str() {
            "mined" => Ok(answer.tokens),
            _ => Err(QuickstartError::NotMined(answer.mining)),
        }
    }

    /// The first window that is judged. A reply may end before its 256th token: then requests that
    /// ignore the end of the text fill a window.
    async fn first_share(
        &self,
        reply_tokens: u64,
        judgements: &mut broadcast::Receiver<Judged>,
    ) -> Result<Judged, QuickstartError> {
        let patience = Duration::from_secs(self.args.patience);
        let found = async {
            if reply_tokens >= WINDOW as u64 {
                if let Some(judged) = soon(judgements).await? {
                    return Ok(judged);
                }
            } else {
                println!(
                    "The reply has {reply_tokens} tokens, a window needs {WINDOW}: filling one."
                );
            }
            for filler in 1..=MAX_FILLERS {
                let body = serde_json::json!({
                    "model": self.model.name(),
                    "prompt": format!("{} ({filler})", self.args.prompt),
                    "max_tokens": WINDOW,
                    "ignore_eos": true,
                });
                self.client.complete(&body).await?;
                if let Some(judged) = soon(judgements).await? {
                    return Ok(judged);
                }
                println!("No proof has arrived yet ({filler} of {MAX_FILLERS} windows filled).");
            }
            Err(QuickstartError::NoShare)
        };
        let judged =
            tokio::time::timeout(patience, found).await.map_err(|_| QuickstartError::NoShare)??;
        match &judged.verdict {
            Verdict::Rejected { reason, detail } => {
                Err(QuickstartError::Refused(format!("{reason}: {detail}")))
            }
            _ => Ok(judged),
        }
    }

    fn show(&self, judged: &Judged) -> Result<(), QuickstartError> {
        let message = &judged.proof.message;
        let response = MiningResponseRef::read(message).map_err(|_| QuickstartError::BadProof)?;
        let report = report::of_proof(&response, &self.against);
        let verdict = match &judged.verdict {
            // It never says so to a worker; its ledger does.
            Verdict::Sent => "accepted by the broker".to_owned(),
            verdict => format!("judged by the chain: {verdict}"),
        };
        println!("\nThe proof of it ({} bytes), {verdict}\n", message.len());
        println!("{report}");
        let other = another_miner::verdict().map_err(QuickstartError::AnotherMiner)?;
        println!("\nA proof of another miner, by the same rules: {other}");
        if report.passed() { Ok(()) } else { Err(QuickstartError::BadProof) }
    }

    fn say_goodbye(&self) {
        let (address, model) = (self.address, self.model.name());
        if self.args.keep {
            println!(
                "\nEverything keeps running. Ask more:\n\n  curl -N http://{address}/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'\n  curl http://{address}/v1/proof/keys\n  curl http://{address}/status\n\nCtrl-C stops it."
            );
        } else {
            let mode = if self.broker.is_some() { "MODE=broker " } else { "" };
            println!(
                "\nTo keep it running and send your own requests, add --keep (make run {mode}ARGS=--keep); Ctrl-C stops it then."
            );
        }
    }

    /// One line per judgement.
    async fn narrate(&self, judgements: &mut broadcast::Receiver<Judged>) {
        loop {
            match next(judgements).await {
                Ok(judged) => {
                    println!("{}  {}", judged.proof.completion_id, judged.verdict);
                }
                Err(_) => std::future::pending::<()>().await,
            }
        }
    }
}

/// The next judgement, if it comes soon.
async fn soon(
    judgements: &mut broadcast::Receiver<Judged>,
) -> Result<Option<Judged>, QuickstartError> {
    tokio::time::timeout(PROOF_PATH, next(judgements)).await.ok().transpose()
}

/// The next judgement; those that were missed meanwhile are skipped.
async fn next(judgements: &mut broadcast::Receiver<Judged>) -> Result<Judged, QuickstartError> {
    loop {
        match judgements.recv().await {
            Ok(judged) => return Ok(judged),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Err(QuickstartError::Interrupted),
        }
    }
}
