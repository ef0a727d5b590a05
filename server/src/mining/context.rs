//! The cell that holds the current [`Snapshot`]: requests read it without a lock; jobs, VDF proofs
//! and changes of the models replace it one after the other. spec: proxy §2

use super::job::JobUpdate;
use super::model::{ModelId, Models};
use super::pause::Pause;
use super::payload::PayloadSettings;
use super::registry::Registry;
use super::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};
use tensorpow_core::units::BlockHash;
use tokio::sync::watch;

/// Holds the current snapshot: many readers without a lock, one writer at a time.
#[derive(Debug)]
pub struct ContextCell {
    current: ArcSwap<Snapshot>,
    writer: Mutex<()>,
    settings: PayloadSettings,
    pause: Arc<Pause>,
    parent: watch::Sender<Option<BlockHash>>,
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
        Self::with_pause(models, settings, Arc::default())
    }

    /// A cell without a job, whose pause others know as well.
    #[must_use]
    pub fn with_pause(models: Models, settings: PayloadSettings, pause: Arc<Pause>) -> Self {
        let empty = Snapshot::empty(models, settings, pause.clone());
        Self {
            current: ArcSwap::from_pointee(empty),
            writer: Mutex::new(()),
            settings,
            pause,
            parent: watch::Sender::new(None),
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

    /// The pause of this context.
    #[must_use]
    pub const fn pause(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// The parent block of the current job, and its changes: the boundaries between blocks.
    #[must_use]
    pub fn watch_parent(&self) -> watch::Receiver<Option<BlockHash>> {
        self.parent.subscribe()
    }

    /// Replaces the snapshot. A job on another parent discards the VDF proof; a VDF proof counts
    /// only for the parent it names, and ticks never go back within one parent. spec: proxy §2
    pub fn apply(&self, update: JobUpdate) -> Applied {
        self.replace(|old| match update {
            JobUpdate::Job(job) => {
                let same = old.parent() == Some(job.parent());
                let applied = if same { Applied::SameParent } else { Applied::NewParent };
                (Some(old.with_job(job)), applied)
            }
            JobUpdate::Vdf(state) => {
                let regress = old.vdf().is_some_and(|vdf| vdf.tick > state.tick);
                if old.parent() != Some(state.challenge) || regress {
                    return (None, Applied::Dropped);
                }
                (Some(old.with_vdf(state)), Applied::Vdf)
            }
        })
    }

    /// Pins another model, or none.
    pub fn set_pin(&self, pin: Option<ModelId>) {
        self.replace(|old| (Some(old.with_models(Models { pin, ..old.models().clone() })), ()));
    }

    /// Replaces the registry.
    pub fn set_registry(&self, registry: Registry) {
        self.replace(|old| {
            let pin = old.models().pin.clone();
            (Some(old.with_models(Models { pin, registry: Arc::new(registry), loaded: true })), ())
        });
    }

    /// Stops and resumes mining around a switch of the engine.
    pub fn set_switching(&self, switching: bool) {
        self.replace(|old| (Some(old.with_switching(switching)), ()));
    }

    /// One writer reads, changes and stores.
    fn replace<T>(&self, change: impl FnOnce(&Snapshot) -> (Option<Snapshot>, T)) -> T {
        // The guarded value is (), so a poisoned lock guards nothing that could be broken.
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, outcome) = change(&self.load());
        if let Some(next) = next {
            let parent = next.parent();
            self.current.store(Arc::new(next));
            self.parent.send_if_modified(|old| std::mem::replace(old, parent) != parent);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::job::Job;
    use crate::mining::model::ModelRecord;
    use crate::mining::offer::{NotMined, Offer};
    use crate::mining::payload::{EngineKind, PowForm};
    use crate::mining::vdf::VdfState;
    use std::time::Duration;
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
        let pin = pin.map(|pin| pin.parse().unwrap());
        let models = Models::new(pin, registered.iter().map(|id| record(id)));
        let settings = PayloadSettings {
            engine: EngineKind::LlamaCpp,
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

    #[test]
    fn a_pause_a_switch_and_a_missing_registry_stop_mining_and_no_audit() {
        let cell = cell(Some("a/b@c"), &["a/b@c"]);
        cell.apply(job(1, 1));
        cell.apply(vdf(1, 5));
        let offer = |model| cell.load().offer(Some(model), FRESH);
        cell.set_switching(true);
        assert_eq!(offer("a/b"), Offer::Nothing(NotMined::ModelSwitch));
        assert!(matches!(offer("x"), Offer::Audit(_)));
        cell.set_switching(false);
        cell.pause().extend(Duration::from_millis(30));
        assert_eq!(offer("a/b"), Offer::Nothing(NotMined::Paused));
        assert!(matches!(offer("x"), Offer::Audit(_)));
        std::thread::sleep(Duration::from_millis(35));
        assert!(matches!(offer("a/b"), Offer::Mine(_)), "a pause ends by itself");

        let settings = *cell.settings();
        let models = Models { pin: Some("a/b@c".parse().unwrap()), ..Models::default() };
        let cold = ContextCell::new(models, settings);
        cold.apply(job(1, 1));
        cold.apply(vdf(1, 5));
        let offer = |model| cold.load().offer(Some(model), FRESH);
        assert_eq!(offer("a/b"), Offer::Nothing(NotMined::RegistryNotLoaded));
        assert!(matches!(offer("x"), Offer::Audit(_)));
        cold.set_registry([record("x/y@z")].into_iter().collect());
        assert_eq!(offer("a/b"), Offer::Nothing(NotMined::ModelNotRegistered));
        cold.set_registry([record("x/y@z"), record("a/b@c")].into_iter().collect());
        assert!(matches!(offer("a/b"), Offer::Mine(_)));
        cold.set_pin(Some("x/y@z".parse().unwrap()));
        assert!(matches!(offer("x/y"), Offer::Mine(_)));
        assert!(matches!(offer("a/b"), Offer::Audit(_)));
        cold.set_pin(None);
        assert!(matches!(offer("a/b"), Offer::Mine(_)), "without a pin all are mined");
    }

    #[test]
    fn changing_models_keeps_job_and_vdf_and_marks_no_block_boundary() {
        let cell = cell(Some("a/b@c"), &["a/b@c"]);
        let mut parent = cell.watch_parent();
        cell.apply(job(1, 1));
        assert!(parent.has_changed().unwrap());
        parent.mark_unchanged();
        cell.apply(vdf(1, 5));
        cell.apply(job(1, 2));
        cell.set_pin(None);
        cell.set_registry(Registry::default());
        assert!(!parent.has_changed().unwrap(), "no block boundary");
        assert_eq!(tick(&cell), Some(5));
        cell.apply(job(2, 3));
        assert_eq!(*parent.borrow_and_update(), Some(BlockHash::from_bytes([2; 32])));
    }

    #[test]
    fn every_engine_gets_its_own_form_of_one_snapshot() {
        let cell = cell(Some("a/b@c"), &["a/b@c"]);
        cell.apply(job(1, 1));
        cell.apply(vdf(1, 5));
        let snapshot = cell.load();
        let offer = |engine, form| snapshot.offer_to(engine, form, Some("a/b"), FRESH);
        let Offer::Mine(llama) = offer(EngineKind::LlamaCpp, PowForm::Object) else { panic!() };
        let Offer::Mine(vllm) = offer(EngineKind::Vllm, PowForm::Object) else { panic!() };
        let Offer::Mine(text) = offer(EngineKind::Vllm, PowForm::String) else { panic!() };
        assert!(llama.contains("model_identifier") && !vllm.contains("model_identifier"));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), *vllm);
        let Offer::Mine(again) = offer(EngineKind::Vllm, PowForm::Object) else { panic!() };
        assert!(Arc::ptr_eq(&vllm, &again), "rendered once");
    }
}
