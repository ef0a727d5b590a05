//! The mining context as requests see it: one immutable [`Snapshot`], replaced as a whole by every
//! job, every VDF proof and every change of the models. A request reads one snapshot and takes
//! everything from it, so no payload can mix two jobs. A payload is rendered when the first request
//! asks for it and kept for the others. spec: proxy §2, §8.3

use super::job::Job;
use super::model::{ModelId, Models};
use super::pause::Pause;
use super::payload::{
    EngineKind, PayloadSettings, PowForm, audit_payload, in_form, mining_payload,
};
use super::vdf::VdfState;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tensorpow_core::units::BlockHash;

pub use super::context::{Applied, ContextCell};
pub use super::offer::{NotMined, Offer};

/// A payload for each kind of engine and each form, once somebody has asked for it; none where the
/// job cannot be mined.
#[derive(Debug, Default)]
struct Payloads([OnceLock<Option<Arc<str>>>; 4]);

impl Payloads {
    fn get(
        &self,
        engine: EngineKind,
        form: PowForm,
        render: impl FnOnce() -> Option<String>,
    ) -> Option<Arc<str>> {
        let slot = match (engine, form) {
            (EngineKind::LlamaCpp, PowForm::Object) => 0,
            (EngineKind::LlamaCpp, PowForm::String) => 1,
            (EngineKind::Vllm, PowForm::Object) => 2,
            (EngineKind::Vllm, PowForm::String) => 3,
        };
        self.0[slot].get_or_init(|| render().map(|text| in_form(text, form).into())).clone()
    }
}

/// Job, VDF proof, models, and the payloads made of them.
#[derive(Debug)]
pub struct Snapshot {
    job: Option<Arc<Job>>,
    job_received: Instant,
    vdf: Option<Arc<VdfState>>,
    models: Arc<Models>,
    /// The engine does not hold the pinned model at the moment.
    switching: bool,
    pause: Arc<Pause>,
    settings: PayloadSettings,
    /// By position in the registry: a record is either mined or audited.
    registered: Box<[Payloads]>,
    /// For every other model.
    unregistered: Payloads,
}

impl Snapshot {
    pub(super) fn empty(models: Models, settings: PayloadSettings, pause: Arc<Pause>) -> Self {
        Self {
            job: None,
            job_received: Instant::now(),
            vdf: None,
            registered: models.registry.records().iter().map(|_| Payloads::default()).collect(),
            models: Arc::new(models),
            switching: false,
            pause,
            settings,
            unregistered: Payloads::default(),
        }
    }

    /// The same values with nothing rendered, to be changed before anybody sees them.
    fn successor(&self) -> Self {
        Self {
            job: self.job.clone(),
            job_received: self.job_received,
            vdf: self.vdf.clone(),
            models: self.models.clone(),
            switching: self.switching,
            pause: self.pause.clone(),
            settings: self.settings,
            registered: self.registered.iter().map(|_| Payloads::default()).collect(),
            unregistered: Payloads::default(),
        }
    }

    /// With another job, received now. Its VDF proof stays only where the parent does.
    pub(super) fn with_job(&self, job: Job) -> Self {
        let vdf = self.vdf.clone().filter(|vdf| vdf.challenge == job.parent());
        Self { job: Some(Arc::new(job)), job_received: Instant::now(), vdf, ..self.successor() }
    }

    /// With another VDF proof.
    pub(super) fn with_vdf(&self, vdf: Arc<VdfState>) -> Self {
        Self { vdf: Some(vdf), ..self.successor() }
    }

    /// With mining stopped for a switch of the engine, or not.
    pub(super) fn with_switching(&self, switching: bool) -> Self {
        Self { switching, ..self.successor() }
    }

    /// With other models.
    pub(super) fn with_models(&self, models: Models) -> Self {
        Self {
            registered: models.registry.records().iter().map(|_| Payloads::default()).collect(),
            models: Arc::new(models),
            ..self.successor()
        }
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

    /// The pin and the registry.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// True while the engine is switched to another model.
    #[must_use]
    pub const fn is_switching(&self) -> bool {
        self.switching
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
            None => self.models.registry.records().first().map(|r| r.id.name().to_owned()),
        }
    }

    /// The identifier a proof must carry; `None` without a pin.
    #[must_use]
    pub fn expected_model_identifier(&self) -> Option<String> {
        self.models.pin.as_ref().map(ToString::to_string)
    }

    /// What a request for `model` to the default engine gets; see [`Self::offer_to`].
    #[must_use]
    pub fn offer(&self, model: Option<&str>, stale_after: Duration) -> Offer {
        self.offer_to(self.settings.engine, self.settings.form, model, stale_after)
    }

    /// What a request for `model` to an engine of this kind gets. The mining model is mined, every
    /// other model (and a request without one) is audited; where the context is incomplete nothing
    /// is attached. A pause, a model switch and a missing registry keep requests from being mined,
    /// not from being audited. spec: proxy §8.6, §9, §12.1
    #[must_use]
    pub fn offer_to(
        &self,
        engine: EngineKind,
        form: PowForm,
        model: Option<&str>,
        stale_after: Duration,
    ) -> Offer {
        let Some(job) = &self.job else { return Offer::Nothing(NotMined::NoJob) };
        if self.job_received.elapsed() > stale_after {
            return Offer::Nothing(NotMined::JobStale);
        }
        let Some(vdf) = &self.vdf else { return Offer::Nothing(NotMined::NoVdf) };
        let settings = PayloadSettings { engine, form, ..self.settings };
        match model {
            Some(model) if self.models.is_mining_model(model) => {
                match self.mined(job, vdf, model, &settings) {
                    Ok(pow) => Offer::Mine(pow),
                    Err(reason) => Offer::Nothing(reason),
                }
            }
            _ => match self.audited(job, vdf, model, &settings) {
                Some(pow) => Offer::Audit(pow),
                None => Offer::Nothing(NotMined::Unminable),
            },
        }
    }

    /// The audit payload of a registered model, also of the one that is mined; none without a job and
    /// its VDF proof. spec: proxy §9
    #[must_use]
    pub fn audit(
        &self,
        model: &ModelId,
        engine: EngineKind,
        form: PowForm,
        stale_after: Duration,
    ) -> Option<Arc<str>> {
        let (job, vdf) = (self.job.as_ref()?, self.vdf.as_ref()?);
        if self.job_received.elapsed() > stale_after {
            return None;
        }
        let record = self.models.registry.by_name_and_commit(model.name(), model.commit());
        let settings = PayloadSettings { engine, form, ..self.settings };
        let text = audit_payload(job, vdf, record, &settings).ok()?;
        Some(in_form(text, form).into())
    }

    fn mined(
        &self,
        job: &Job,
        vdf: &VdfState,
        model: &str,
        settings: &PayloadSettings,
    ) -> Result<Arc<str>, NotMined> {
        if self.switching {
            return Err(NotMined::ModelSwitch);
        }
        if self.pause.is_paused() {
            return Err(NotMined::Paused);
        }
        let Some(at) = self.models.mined_position(model) else {
            let loaded = self.models.loaded;
            return Err(match loaded {
                true => NotMined::ModelNotRegistered,
                false => NotMined::RegistryNotLoaded,
            });
        };
        let (payloads, record) = (self.registered.get(at), self.models.registry.records().get(at));
        let (Some(payloads), Some(record)) = (payloads, record) else {
            return Err(NotMined::ModelNotRegistered);
        };
        let render = || match mining_payload(job, vdf, record, settings) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::warn!(%error, model, "the job cannot be mined with this model");
                None
            }
        };
        payloads.get(settings.engine, settings.form, render).ok_or(NotMined::Unminable)
    }

    /// The audit payload of a model that is not mined; it names the model where the registry knows
    /// it. spec: proxy §9
    fn audited(
        &self,
        job: &Job,
        vdf: &VdfState,
        model: Option<&str>,
        settings: &PayloadSettings,
    ) -> Option<Arc<str>> {
        let registry = &self.models.registry;
        let at = model.and_then(|model| registry.auto_select_position(model));
        let known = at.and_then(|at| Some((self.registered.get(at)?, registry.records().get(at)?)));
        let payloads = known.map_or(&self.unregistered, |(payloads, _)| payloads);
        let record = known.map(|(_, record)| record);
        payloads
            .get(settings.engine, settings.form, || audit_payload(job, vdf, record, settings).ok())
    }
}
