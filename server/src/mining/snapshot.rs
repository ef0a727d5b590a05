//! The mining context as requests see it: one immutable [`Snapshot`], replaced as a whole by every
//! job and every VDF proof, with the `pow` objects already rendered. A request reads one snapshot
//! and takes everything from it, so no payload can mix two jobs. spec: proxy §2, §8.3

use super::job::{Job, JobUpdate};
use super::model::Models;
use super::payload::{PayloadSettings, audit_payload, in_form, mining_payload};
use super::vdf::VdfState;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tensorpow_core::units::BlockHash;

/// Why a request is forwarded without `pow`. Every reason is a label of
/// `tensorpow_inference_uninjected_total`. spec: proxy §8.6
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotMined {
    /// No job has arrived yet.
    NoJob,
    /// The job is older than the stale threshold: the source is gone.
    JobStale,
    /// No VDF proof for the job's parent yet.
    NoVdf,
    /// The pinned model is not registered.
    ModelNotRegistered,
    /// The adjusted target cannot be mined.
    Unminable,
    /// The client opted out.
    OptOut,
    /// A request parameter shapes the distribution outside the mined profile; the parameter.
    OffProfile(&'static str),
}

impl NotMined {
    /// The reason's label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoJob => "no_job",
            Self::JobStale => "job_stale",
            Self::NoVdf => "no_vdf",
            Self::ModelNotRegistered => "model_not_registered",
            Self::Unminable => "unminable",
            Self::OptOut => "opt_out",
            Self::OffProfile(_) => "off_profile",
        }
    }

    /// True when the request itself asks for it, false when mining is not possible.
    #[must_use]
    pub const fn is_the_clients_choice(self) -> bool {
        matches!(self, Self::OptOut | Self::OffProfile(_))
    }

    /// The request parameter behind the reason, empty for the others.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::OffProfile(parameter) => parameter,
            _ => "",
        }
    }
}

/// What a snapshot offers to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Mine: the value of `pow`.
    Mine(Arc<str>),
    /// Leave an audit proof: the value of `pow`.
    Audit(Arc<str>),
    /// Forward without `pow`.
    Nothing(NotMined),
}

/// Job, VDF proof and the payloads made of them.
#[derive(Debug)]
pub struct Snapshot {
    job: Option<Arc<Job>>,
    job_received: Instant,
    vdf: Option<Arc<VdfState>>,
    models: Arc<Models>,
    /// By request model.
    mining: HashMap<String, Result<Arc<str>, NotMined>>,
    /// By request model, for registered models that are not mined.
    audits: HashMap<String, Arc<str>>,
    /// For every other model.
    audit: Option<Arc<str>>,
}

impl Snapshot {
    fn empty(models: Arc<Models>) -> Self {
        Self {
            job: None,
            job_received: Instant::now(),
            vdf: None,
            models,
            mining: HashMap::new(),
            audits: HashMap::new(),
            audit: None,
        }
    }

    fn build(
        job: Arc<Job>,
        job_received: Instant,
        vdf: Option<Arc<VdfState>>,
        models: Arc<Models>,
        settings: &PayloadSettings,
    ) -> Self {
        let mut snapshot = Self { job: Some(job.clone()), job_received, ..Self::empty(models) };
        let Some(proof) = vdf.as_deref() else { return snapshot };
        let value = |text: String| Arc::from(in_form(text, settings.form));
        let models = &snapshot.models;
        for record in &models.registered {
            let name = record.id.name();
            if !models.is_mining_model(name) {
                if let Ok(text) = audit_payload(&job, proof, Some(record), settings) {
                    snapshot.audits.insert(name.to_owned(), value(text));
                }
                continue;
            }
            let mined = match &models.pin {
                Some(_) => models.pinned_record(),
                None => models.record_by_name(name),
            };
            let offer = match mined.map(|record| mining_payload(&job, proof, record, settings)) {
                Some(Ok(text)) => Ok(value(text)),
                Some(Err(error)) => {
                    tracing::warn!(%error, model = name, "job cannot be mined with this model");
                    Err(NotMined::Unminable)
                }
                None => Err(NotMined::ModelNotRegistered),
            };
            snapshot.mining.insert(name.to_owned(), offer);
        }
        snapshot.audit = audit_payload(&job, proof, None, settings).ok().map(value);
        snapshot.vdf = vdf;
        snapshot
    }

    /// The current job.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.job.as_deref()
    }

    /// The VDF proof of the current job's parent.
    #[must_use]
    pub fn vdf(&self) -> Option<&VdfState> {
        self.vdf.as_deref()
    }

    /// Time since the current job arrived; `None` without a job.
    #[must_use]
    pub fn job_age(&self) -> Option<Duration> {
        self.job.as_ref().map(|_| self.job_received.elapsed())
    }

    /// The parent block that a proof must name to be of use.
    #[must_use]
    pub fn parent(&self) -> Option<BlockHash> {
        self.job().map(Job::parent)
    }

    /// True when requests for `model` are to be mined. spec: proxy §12.1
    #[must_use]
    pub fn is_mining_model(&self, model: &str) -> bool {
        self.models.is_mining_model(model)
    }

    /// A model that is mined: the pinned one, or without a pin any registered one.
    #[must_use]
    pub fn mining_model(&self) -> Option<String> {
        match &self.models.pin {
            Some(pin) => Some(pin.name().to_owned()),
            None => self.models.registered.first().map(|record| record.id.name().to_owned()),
        }
    }

    /// The identifier a proof must carry; `None` without a pin.
    #[must_use]
    pub fn expected_model_identifier(&self) -> Option<String> {
        self.models.pin.as_ref().map(ToString::to_string)
    }

    /// What a request for `model` gets. The mining model is mined, every other model (and a request
    /// without one) is audited; where the context is incomplete nothing is attached.
    /// spec: proxy §8.6, §9, §12.1
    #[must_use]
    pub fn offer(&self, model: Option<&str>, stale_after: Duration) -> Offer {
        match self.job_age() {
            None => return Offer::Nothing(NotMined::NoJob),
            Some(age) if age > stale_after => return Offer::Nothing(NotMined::JobStale),
            Some(_) => {}
        }
        if self.vdf.is_none() {
            return Offer::Nothing(NotMined::NoVdf);
        }
        match model {
            Some(model) if self.models.is_mining_model(model) => match self.mining.get(model) {
                Some(Ok(pow)) => Offer::Mine(pow.clone()),
                Some(Err(reason)) => Offer::Nothing(*reason),
                None => Offer::Nothing(NotMined::ModelNotRegistered),
            },
            _ => {
                let known = model.and_then(|model| self.audits.get(model));
                match known.or(self.audit.as_ref()) {
                    Some(pow) => Offer::Audit(pow.clone()),
                    None => Offer::Nothing(NotMined::Unminable),
                }
            }
        }
    }
}

/// Holds the current snapshot: many readers without a lock, one writer at a time.
#[derive(Debug)]
pub struct ContextCell {
    current: ArcSwap<Snapshot>,
    writer: Mutex<()>,
    settings: PayloadSettings,
}

/// What an update changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// A job on a new parent: VDF proof and running windows belong to the past.
    NewParent,
    /// A further template on the same parent.
    SameParent,
    /// A further VDF proof.
    Vdf,
    /// A VDF proof for another parent or with fewer ticks: dropped.
    Dropped,
}

impl ContextCell {
    /// A cell without a job.
    #[must_use]
    pub fn new(models: Models, settings: PayloadSettings) -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty(Arc::new(models))),
            writer: Mutex::new(()),
            settings,
        }
    }

    /// The snapshot of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The payload settings the snapshots are rendered with.
    #[must_use]
    pub const fn settings(&self) -> &PayloadSettings {
        &self.settings
    }

    /// Replaces the snapshot. A job on another parent discards the VDF proof; a VDF proof counts
    /// only for the parent it names, and ticks never go back within one parent. spec: proxy §2
    pub fn apply(&self, update: JobUpdate) -> Applied {
        // The guarded value is (), so a poisoned lock guards nothing that could be broken.
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.load();
        let (job, received, vdf, applied) = match update {
            JobUpdate::Job(job) => {
                let same = old.parent() == Some(job.parent());
                let vdf = if same { old.vdf.clone() } else { None };
                let applied = if same { Applied::SameParent } else { Applied::NewParent };
                (Arc::new(job), Instant::now(), vdf, applied)
            }
            JobUpdate::Vdf(state) => {
                let Some(job) = old.job.clone() else { return Applied::Dropped };
                let regress = old.vdf().is_some_and(|vdf| vdf.tick > state.tick);
                if state.challenge != job.parent() || regress {
                    return Applied::Dropped;
                }
                (job, old.job_received, Some(state), Applied::Vdf)
            }
        };
        let next = Snapshot::build(job, received, vdf, old.models.clone(), &self.settings);
        self.current.store(Arc::new(next));
        applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::model::ModelRecord;
    use crate::mining::payload::{EngineKind, PowForm};
    use tensorpow_core::header::HeaderFields;
    use tensorpow_core::target::{CompactTarget, Difficulty, Normalizer};
    use tensorpow_core::units::{HeaderPrefix, MerkleRoot, Tick, VdfBlob};

    const FRESH: Duration = Duration::from_secs(60);

    fn record(id: &str) -> ModelRecord {
        ModelRecord {
            id: id.parse().unwrap(),
            difficulty: Difficulty::new(1_000_000).unwrap(),
            cid: "bafy".to_owned(),
            commit_block_height: 0,
        }
    }

    fn cell(pin: Option<&str>, registered: &[&str]) -> ContextCell {
        let models = Models {
            pin: pin.map(|pin| pin.parse().unwrap()),
            registered: registered.iter().map(|id| record(id)).collect(),
        };
        let settings = PayloadSettings {
            engine: EngineKind::LlamaCpp,
            key: EngineKind::LlamaCpp.pow_key(),
            form: PowForm::Object,
            proof_version: 2,
            normalizer: Normalizer::DEFAULT,
            share_normalizer: Normalizer::DEFAULT,
        };
        ContextCell::new(models, settings)
    }

    fn job(parent: u8, request_id: u32) -> JobUpdate {
        job_with_bits(parent, request_id, 0x1d00_ffff)
    }

    fn job_with_bits(parent: u8, request_id: u32, bits: u32) -> JobUpdate {
        let prefix = HeaderPrefix::from_fields(&HeaderFields {
            version: 3,
            parent: BlockHash::from_bytes([parent; 32]),
            merkle_root: MerkleRoot::from_bytes([0; 32]),
            time: request_id,
            bits: CompactTarget::from_bits(bits),
        });
        JobUpdate::Job(Job { request_id, prefix, base_share_target: None, height: None })
    }

    fn vdf(parent: u8, tick: u64) -> JobUpdate {
        JobUpdate::Vdf(Arc::new(VdfState {
            challenge: BlockHash::from_bytes([parent; 32]),
            tick: Tick(tick),
            blob: VdfBlob::from_slice(&[parent; 200]).unwrap(),
        }))
    }

    fn tick(cell: &ContextCell) -> Option<u64> {
        cell.load().vdf().map(|vdf| vdf.tick.0)
    }

    #[test]
    fn a_vdf_proof_counts_only_for_its_parent_and_never_goes_back() {
        let cell = cell(Some("a/b@c"), &["a/b@c"]);
        assert_eq!(cell.apply(vdf(1, 5)), Applied::Dropped, "before any job");
        assert_eq!(cell.apply(job(1, 1)), Applied::NewParent);
        assert_eq!(cell.apply(vdf(2, 5)), Applied::Dropped, "another challenge");
        assert_eq!(cell.apply(vdf(1, 5)), Applied::Vdf);
        assert_eq!(cell.apply(vdf(1, 4)), Applied::Dropped, "fewer ticks");
        assert_eq!(cell.apply(job(1, 2)), Applied::SameParent);
        assert_eq!(tick(&cell), Some(5), "kept over a new template");
        assert_eq!(cell.apply(job(2, 3)), Applied::NewParent);
        assert_eq!(tick(&cell), None, "discarded with its parent");
    }

    #[test]
    fn an_offer_names_what_is_missing() {
        let offer = |cell: &ContextCell, model| cell.load().offer(model, FRESH);
        let pinned = cell(Some("a/b@c"), &["a/b@c"]);
        assert_eq!(offer(&pinned, Some("a/b")), Offer::Nothing(NotMined::NoJob));
        pinned.apply(job(1, 1));
        assert_eq!(offer(&pinned, Some("a/b")), Offer::Nothing(NotMined::NoVdf));
        assert_eq!(offer(&pinned, None), Offer::Nothing(NotMined::NoVdf), "audits too");
        pinned.apply(vdf(1, 5));
        assert!(matches!(offer(&pinned, Some("a/b")), Offer::Mine(_)));
        assert!(matches!(offer(&pinned, Some("a/b@c")), Offer::Audit(_)));
        assert!(matches!(offer(&pinned, None), Offer::Audit(_)));
        let stale = pinned.load().offer(Some("a/b"), Duration::ZERO);
        assert_eq!(stale, Offer::Nothing(NotMined::JobStale));

        let unregistered = cell(Some("a/b@c"), &["a/b@d"]);
        unregistered.apply(job(1, 1));
        unregistered.apply(vdf(1, 5));
        assert_eq!(offer(&unregistered, Some("a/b")), Offer::Nothing(NotMined::ModelNotRegistered));
        // A negative compact target leaves nothing to mine and nothing to audit.
        unregistered.apply(job_with_bits(1, 2, 0x0480_0001));
        assert_eq!(offer(&unregistered, None), Offer::Nothing(NotMined::Unminable));
    }

    #[test]
    fn without_a_pin_every_registered_model_is_mined() {
        let cell = cell(None, &["a/b@c", "d/e@f"]);
        cell.apply(job(1, 1));
        cell.apply(vdf(1, 5));
        let snapshot = cell.load();
        for (model, identifier) in [("a/b", "a/b@c"), ("d/e", "d/e@f")] {
            let Offer::Mine(pow) = snapshot.offer(Some(model), FRESH) else { panic!("{model}") };
            assert!(pow.contains(identifier), "{pow}");
        }
        assert!(matches!(snapshot.offer(Some("x"), FRESH), Offer::Audit(_)));
    }

    #[test]
    fn a_registered_model_that_is_not_pinned_is_audited_under_its_name() {
        let cell = cell(Some("a/b@c"), &["a/b@c", "d/e@f"]);
        cell.apply(job(1, 1));
        cell.apply(vdf(1, 5));
        let Offer::Audit(pow) = cell.load().offer(Some("d/e"), FRESH) else { panic!("no audit") };
        assert!(pow.contains("\"model_identifier\":\"d/e@f\""), "{pow}");
    }
}
