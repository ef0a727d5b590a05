//! Proofs, a sink that does what it is told, and an intake with everything behind it.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tensorpow_core::header::HeaderFields;
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof};
use tensorpow_core::target::{CompactTarget, Normalizer};
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};
use tensorpow_server::cache::CacheLimits;
use tensorpow_server::intake::Intake;
use tensorpow_server::metrics::Metrics;
use tensorpow_server::mining::job::{Job, JobUpdate};
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::pause::Pause;
use tensorpow_server::mining::payload::{EngineKind, PayloadSettings, PowForm};
use tensorpow_server::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use tensorpow_server::mining::snapshot::ContextCell;
use tensorpow_server::outbox::Outbox;
use tensorpow_server::spool::{Delivery, Selection, Spool, SpoolSettings};
use tensorpow_server::store::ProofStore;
use tokio::sync::{Notify, Semaphore};

pub(crate) const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";
/// Request id of the job.
pub(crate) const JOB: u32 = 7;

fn prefix(parent: u8) -> HeaderPrefix {
    HeaderPrefix::from_fields(&HeaderFields {
        version: 3,
        parent: BlockHash::from_bytes([parent; 32]),
        merkle_root: MerkleRoot::from_bytes([0; 32]),
        time: 1,
        bits: CompactTarget::from_bits(0x1d00_ffff),
    })
}

/// A proof without evidence: enough for everything that does not judge it. Its number is its digest.
pub(crate) fn share(number: u32, id: &str) -> Bytes {
    message(number, id, 1, false)
}

/// A solution.
pub(crate) fn solution(number: u32, id: &str) -> Bytes {
    message(number, id, 1, true)
}

/// A proof on a parent.
pub(crate) fn message(number: u32, id: &str, parent: u8, is_solution: bool) -> Bytes {
    let mut hash = vec![0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    let proof = Proof {
        version: 2,
        tick: u64::from(number),
        hash,
        header_prefix: prefix(parent).as_bytes().to_vec(),
        is_solution,
        model_identifier: MODEL.as_bytes().to_vec(),
        ..Proof::default()
    };
    MiningResponseRef {
        req_id: JOB,
        nonce: number,
        pow_blob: Some(proof.as_ref()),
        completion_id: id.as_bytes(),
        ..Default::default()
    }
    .encode_to_vec()
    .unwrap()
    .into()
}

/// A context with a job on the parent.
pub(crate) fn context(parent: Option<u8>) -> Arc<ContextCell> {
    let models = Models::new(Some(MODEL.parse().unwrap()), []);
    let settings = PayloadSettings {
        engine: EngineKind::LlamaCpp,
        form: PowForm::Object,
        proof_version: 2,
        normalizer: Normalizer::DEFAULT,
        share_normalizer: Normalizer::DEFAULT,
    };
    let context = Arc::new(ContextCell::new(models, settings));
    if let Some(parent) = parent {
        new_job(&context, parent);
    }
    context
}

pub(crate) fn new_job(context: &ContextCell, parent: u8) {
    let prefix = prefix(parent);
    context.apply(JobUpdate::Job(Job {
        request_id: JOB,
        prefix,
        base_share_target: None,
        height: None,
    }));
}

/// A sink that notes what it gets and answers from a list, then with [`Verdict::Share`].
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) seen: Mutex<Vec<(u32, Attempt)>>,
    pub(crate) verdicts: Mutex<VecDeque<Verdict>>,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Vec<(u32, Attempt)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.seen().into_iter().map(|(number, _)| number).collect()
    }

    pub(crate) fn answering(verdicts: impl IntoIterator<Item = Verdict>) -> Arc<Self> {
        let verdicts = Mutex::new(verdicts.into_iter().collect());
        Arc::new(Self { verdicts, ..Self::default() })
    }
}

#[async_trait]
impl ProofSink for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    async fn submit(&self, proof: &ReceivedProof, attempt: Attempt) -> Verdict {
        self.seen.lock().unwrap().push((proof.nonce, attempt));
        self.verdicts.lock().unwrap().pop_front().unwrap_or(Verdict::Share)
    }
}

/// A sink at the end of a connection that comes and goes, as a broker is: what came before it waits
/// for the registration, what comes while it is open leaves at once. It takes a proof only once it is
/// allowed to.
#[derive(Debug)]
pub(crate) struct Connected {
    seen: Mutex<Vec<u32>>,
    /// Since when the connection is open, and whether it is registered.
    open: Mutex<Option<(SystemTime, bool)>>,
    changed: Notify,
    pub(crate) allowed: Semaphore,
}

impl Connected {
    /// Not connected yet.
    pub(crate) fn new(allowed: usize) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            open: Mutex::default(),
            changed: Notify::new(),
            allowed: Semaphore::new(allowed),
        })
    }

    pub(crate) fn connect(&self, registered: bool) {
        let mut open = self.open.lock().unwrap();
        let since = open.map_or_else(SystemTime::now, |(since, _)| since);
        *open = Some((since, registered));
        self.changed.notify_one();
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl ProofSink for Connected {
    fn name(&self) -> &'static str {
        "connected"
    }

    fn shares_first(&self) -> bool {
        true
    }

    fn has_waited(&self, received: Option<SystemTime>) -> bool {
        let open = *self.open.lock().unwrap();
        open.zip(received).is_none_or(|((since, _), received)| received < since)
    }

    fn is_ready_for(&self, received: Option<SystemTime>) -> bool {
        let open = *self.open.lock().unwrap();
        open.is_some_and(|(_, registered)| registered) || !self.has_waited(received)
    }

    async fn readiness_changed(&self) {
        self.changed.notified().await;
    }

    async fn submit(&self, proof: &ReceivedProof, _: Attempt) -> Verdict {
        self.seen.lock().unwrap().push(proof.nonce);
        self.allowed.acquire().await.unwrap().forget();
        Verdict::Sent
    }
}

/// An intake with everything behind it.
pub(crate) struct Stage {
    pub(crate) spool: Spool,
    pub(crate) store: Arc<ProofStore>,
    pub(crate) context: Arc<ContextCell>,
    pub(crate) pause: Arc<Pause>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) intake: Intake,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Stage {
    /// On a job whose parent is 1, delivering.
    pub(crate) async fn new(settings: SpoolSettings, sink: Arc<Recorder>) -> Self {
        let mut stage = Self::idle(settings, sink, Some(1)).await;
        stage.deliver();
        stage
    }

    /// Nothing is delivered yet.
    pub(crate) async fn idle(
        settings: SpoolSettings,
        sink: Arc<dyn ProofSink>,
        parent: Option<u8>,
    ) -> Self {
        let spool = Spool::open(settings).unwrap();
        let (context, metrics) = (context(parent), Arc::new(Metrics::new()));
        let store = Arc::new(ProofStore::new(CacheLimits::default(), spool.clone()));
        let outbox = Outbox::open(sink, spool.clone(), context.clone(), metrics.clone()).await;
        let outbox = Arc::new(outbox);
        let pause = Arc::<Pause>::default();
        let intake =
            Intake::new(store.clone(), context.clone(), metrics.clone(), Some(outbox.clone()))
                .pausing(pause.clone(), None);
        Self { spool, store, context, pause, metrics, outbox, intake, running: None }
    }

    pub(crate) fn deliver(&mut self) {
        self.running = Some(tokio::spawn(self.outbox.clone().run()));
    }

    /// The deliveries to the recorder and the intake by number of the proof.
    pub(crate) async fn deliveries(&self, number: u32) -> Vec<(String, Delivery)> {
        let listed =
            self.spool.read(|view| view.list(&Selection::default(), 10_000)).await.unwrap();
        let found = listed.into_iter().find(|listed| listed.entry.nonce == number);
        found.map(|listed| listed.deliveries).unwrap_or_default()
    }

    /// State and reason of the first delivery.
    pub(crate) async fn fate(&self, number: u32) -> (&'static str, String) {
        match self.deliveries(number).await.into_iter().next() {
            Some((_, delivery)) => (delivery.state.as_str(), delivery.reason),
            None => ("none", String::new()),
        }
    }

    /// Waits until a proof's delivery is in a state.
    pub(crate) async fn wait_for_state(&self, number: u32, state: &str) -> String {
        let started = Instant::now();
        loop {
            let (found, reason) = self.fate(number).await;
            if found == state {
                return reason;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{number} stays {found}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As a service does: the outbox ends first, then the file is closed.
    pub(crate) async fn end(mut self) {
        self.outbox.close();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }

    /// As a kill does: nothing is finished. (What tokio has begun ends with its task.)
    pub(crate) async fn cut(mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }
}
