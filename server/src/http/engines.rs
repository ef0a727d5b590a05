//! All engines: one for every model without a route, others for single models. A stored response is
//! looked for at the engine that made it. spec: proxy §5, §12.3

use super::engine::{Engine, EngineUrl, Health};
use crate::config::EngineConfig;
use crate::metrics::busy::BusyMetrics;
use crate::metrics::names;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Response ids whose engine is remembered.
const REMEMBERED: usize = 65_536;

/// Place of an engine among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineIndex(usize);

impl EngineIndex {
    /// The engine of every model without a route.
    pub const DEFAULT: Self = Self(0);
}

/// The engines.
#[derive(Debug)]
pub struct Engines {
    engines: Vec<Engine>,
    by_model: HashMap<String, EngineIndex>,
    /// An engine on trial, and the one it stands beside.
    on_trial: Option<(EngineIndex, EngineIndex)>,
    responses: Mutex<Owners>,
}

/// Which engine made which response, the oldest forgotten first.
#[derive(Debug, Default)]
struct Owners {
    by_id: HashMap<String, EngineIndex>,
    in_order: VecDeque<String>,
}

impl Engines {
    /// The engines of a configuration, each URL once; of several routes to one URL the first says
    /// how to speak to it.
    #[must_use]
    pub fn new(config: &EngineConfig, metrics: &BusyMetrics) -> Self {
        let key = config.key.as_ref().and_then(|key| key.bearer());
        let engine = |url: EngineUrl, dialect| {
            let (timeouts, pool) = (config.timeouts, config.pool);
            let connects = metrics.connects(names::label(&url.to_string()));
            Engine::new(url, dialect, key.clone(), timeouts, pool, config.breaker, &connects)
        };
        let mut engines = vec![engine(config.url.clone(), config.dialect)];
        let mut by_model = HashMap::new();
        for route in &config.routes {
            let known = engines.iter().position(|engine| *engine.url() == route.url);
            let index = known.unwrap_or_else(|| {
                engines.push(engine(route.url.clone(), route.dialect.unwrap_or(config.dialect)));
                engines.len() - 1
            });
            by_model.insert(route.model.clone(), EngineIndex(index));
        }
        let on_trial = config.canary.as_ref().map(|canary| {
            let beside = canary.model.as_ref().and_then(|model| by_model.get(model).copied());
            engines.push(engine(canary.url.clone(), canary.dialect));
            (EngineIndex(engines.len() - 1), beside.unwrap_or(EngineIndex::DEFAULT))
        });
        Self { engines, by_model, on_trial, responses: Mutex::default() }
    }

    /// The engine on trial and the one it stands beside, where there is one.
    #[must_use]
    pub const fn on_trial(&self) -> Option<(EngineIndex, EngineIndex)> {
        self.on_trial
    }

    /// All of them, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = (EngineIndex, &Engine)> {
        self.engines.iter().enumerate().map(|(index, engine)| (EngineIndex(index), engine))
    }

    /// True when there is more than one.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.engines.len() > 1
    }

    /// The engine at a place.
    #[must_use]
    pub fn get(&self, index: EngineIndex) -> &Engine {
        // An index is only made by this type, for an engine of this list.
        &self.engines[index.0.min(self.engines.len() - 1)]
    }

    /// The engine of every model without a route.
    #[must_use]
    pub fn default(&self) -> &Engine {
        &self.engines[0]
    }

    /// The engine that serves a request's model.
    #[must_use]
    pub fn for_model(&self, model: Option<&str>) -> EngineIndex {
        let routed = model.and_then(|model| self.by_model.get(model));
        routed.copied().unwrap_or(EngineIndex::DEFAULT)
    }

    /// Remembers which engine made a response.
    pub fn remember_response(&self, id: &str, index: EngineIndex) {
        let mut owners = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.by_id.insert(id.to_owned(), index).is_none() {
            owners.in_order.push_back(id.to_owned());
        }
        if owners.in_order.len() > REMEMBERED
            && let Some(oldest) = owners.in_order.pop_front()
        {
            owners.by_id.remove(&oldest);
        }
    }

    /// The engine that made a response, as far as it is remembered.
    #[must_use]
    pub fn of_response(&self, id: &str) -> Option<EngineIndex> {
        let owners = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        owners.by_id.get(id).copied()
    }

    /// Engines that are not up, with what they are.
    pub fn not_up(&self) -> impl Iterator<Item = (&Engine, Health)> {
        self.engines
            .iter()
            .map(|engine| (engine, engine.health()))
            .filter(|(_, health)| *health != Health::Up)
    }

    /// Asks every engine for its health for as long as the proxy runs.
    pub async fn probe_forever(&self) {
        futures_util::future::join_all(self.engines.iter().map(Engine::probe_forever)).await;
    }
}
