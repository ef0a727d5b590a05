//! The quickstart with a compute broker in between: the prompt comes to the worker as the broker's
//! job, and what the worker finds goes back to the broker, which replays every window before it
//! credits it. Both are in this process and know each other by a URL and a token only.

use super::{PROOF_PATH, QuickstartError, Scene, soon};
use crate::devnet::broker::jobs::{self, JobEvent, Order};
use crate::devnet::broker::{Books, audit, command};
use crate::outbox::Judged;
use serde_json::Value;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::WINDOW;
use tokio::sync::broadcast;

/// Block target of a chain behind a broker: about every second window is a block, since both a share
/// and a block are to be seen.
pub(super) const BLOCK_BITS: CompactTarget = CompactTarget::from_bits(0x207f_ffff);
/// Windows that are filled at most until there is a share and a block. Fewer do not suffice once in
/// four thousand times.
const MAX_WINDOWS: usize = 12;

impl Scene {
    /// The prompt as a job, then jobs that fill windows until a share and a block were accepted.
    /// Returns what the worker sent first of what was accepted.
    pub(super) async fn work_for(
        &self,
        books: &Arc<Books>,
        judgements: &mut broadcast::Receiver<Judged>,
    ) -> Result<Judged, QuickstartError> {
        let started = Instant::now();
        while books.registered().is_empty() {
            if started.elapsed() > Duration::from_secs(self.args.patience) {
                return Err(QuickstartError::NotRegistered(self.args.patience));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("\n> {}\n", self.args.prompt);
        let model = self.model.name();
        let order = Order::chat(model, &self.args.prompt, self.args.max_tokens);
        let completion = do_job(books, order, |text| {
            print!("{text}");
            // What cannot be shown now is shown with the next piece.
            let _ = std::io::stdout().flush();
        })
        .await?;
        println!("\n\nCompletion {completion}, a job of the broker");
        self.fill_windows(books).await?;
        println!("\nThe broker's ledger:\n");
        for entry in books.ledger().entries(None, 0) {
            if let (Some("share" | "solution" | "job"), Some(line)) =
                (entry["kind"].as_str(), command::line(&entry))
            {
                println!("  {line}");
            }
        }
        let judged = first_accepted(books, judgements).await?;
        let outcome = audit(books, None, &judged.proof.completion_id).await;
        match outcome.get("error") {
            None => println!(
                "\nAudit of {}: the worker showed its proof, {} bytes",
                judged.proof.completion_id, outcome["bytes"]
            ),
            Some(error) => println!("\nAudit of {}: {error}", judged.proof.completion_id),
        }
        Ok(judged)
    }

    async fn fill_windows(&self, books: &Arc<Books>) -> Result<(), QuickstartError> {
        let both = || {
            let ledger = books.ledger();
            ledger.count("share.accepted") > 0 && ledger.count("solution.accepted") > 0
        };
        let settled = async || {
            let until = Instant::now() + PROOF_PATH;
            let judged = judged_so_far(books);
            while !both() && judged_so_far(books) == judged && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // The reply may have filled a window.
        settled().await;
        for number in 1..=MAX_WINDOWS {
            if both() {
                return Ok(());
            }
            println!(
                "Filling a window ({number} of {MAX_WINDOWS} at most) for a share and a block."
            );
            let prompt = format!("{} ({number})", self.args.prompt);
            let window = u32::try_from(WINDOW).unwrap_or(u32::MAX);
            let mut order = Order::chat(self.model.name(), &prompt, window);
            order.payload["ignore_eos"] = true.into();
            do_job(books, order, |_| {}).await?;
            settled().await;
        }
        if both() { Ok(()) } else { Err(QuickstartError::NoShare) }
    }
}

/// Shares and solutions the broker has judged.
fn judged_so_far(books: &Books) -> u64 {
    let names = ["share.accepted", "share.refused", "solution.accepted", "solution.refused"];
    names.iter().map(|name| books.ledger().count(name)).sum()
}

/// Has a job done; returns the id of its completion.
async fn do_job(
    books: &Arc<Books>,
    order: Order,
    mut show: impl FnMut(&str),
) -> Result<String, QuickstartError> {
    let failed = |why: String| QuickstartError::Job(why);
    let mut job = jobs::dispatch(books, order).map_err(|error| failed(error.to_string()))?;
    loop {
        match job.events.recv().await {
            Some(JobEvent::Text(text)) => show(&text),
            Some(JobEvent::End(frame)) => {
                return Ok(frame["completion_id"].as_str().unwrap_or_default().to_owned());
            }
            Some(JobEvent::Failed(why)) => return Err(failed(why)),
            None => return Err(failed("it ended without a word".to_owned())),
        }
    }
}

/// What the worker knows of the first window that the broker has accepted.
async fn first_accepted(
    books: &Books,
    judgements: &mut broadcast::Receiver<Judged>,
) -> Result<Judged, QuickstartError> {
    while let Some(judged) = soon(judgements).await? {
        let digest = judged.proof.digest.map(|digest| format!("{digest:x}"));
        let accepted = |entry: &Value| {
            entry["verdict"] == "accepted" && entry["hash"].as_str() == digest.as_deref()
        };
        if digest.is_some() && books.ledger().entries(None, 0).iter().any(accepted) {
            return Ok(judged);
        }
    }
    Err(QuickstartError::NoShare)
}
