//! The chain at the proxy's other end: a development chain, an own node, or a provider's broker.

use crate::active_model::ActiveModelSettings;
use crate::broker::Broker;
use crate::broker::client::Client;
use crate::broker::settings::BrokerSettings;
use crate::devnet::chain::{ChainSettings, DevChain};
use crate::devnet::link::{DevJobs, DevSink};
use crate::devnet::vdf::DevVdf;
use crate::http::StatusReport;
use crate::mining::job::{JobSource, Reconnect};
use crate::mining::model::Models;
use crate::mining::pause::Pause;
use crate::mining::sink::ProofSink;
use crate::node::{Node, NodeError, NodeSettings};
use crate::registry::source::RegistrySource;
use prometheus_client::collector::Collector as MetricCollector;
use std::sync::Arc;
use tensorpow_core::target::Normalizer;

/// A chain at the other end: where jobs come from, where proofs go, and what the chain wants.
pub struct Link {
    /// Where jobs come from.
    pub source: Box<dyn JobSource>,
    /// Where proofs go.
    pub sink: Arc<dyn ProofSink>,
    /// The pin and the registry.
    pub models: Models,
    /// Proof version to mine.
    pub proof_version: u8,
    /// The chain's model difficulty normalizer.
    pub normalizer: Normalizer,
    /// What the chain says about itself on `/status`.
    pub report: Option<StatusReport>,
    /// The pause that the source heeds as well.
    pub pause: Arc<Pause>,
    /// Where further lists of registered models come from.
    pub registry: Vec<Box<dyn RegistrySource>>,
    /// How the mined model changes.
    pub active_model: ActiveModelSettings,
    /// What the link counts by itself.
    pub metrics: Vec<Box<dyn MetricCollector>>,
    /// What a watchdog's `reconnect` does; `None` where there is no connection to open anew.
    pub reconnect: Option<Reconnect>,
    /// What keeps a connection to a broker, once the proxy is there to serve it.
    pub broker: Option<Client>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("source", &self.source.name()).finish_non_exhaustive()
    }
}

impl Link {
    /// A link to an embedded development chain, and the chain. Needs a running tokio.
    #[must_use]
    pub fn to_devnet(settings: ChainSettings) -> (Self, Arc<DevChain>) {
        let vdf = Arc::new(DevVdf::new(settings.vdf_ticks));
        let chain = Arc::new(DevChain::new(settings, vdf));
        let reporting = chain.clone();
        let report: StatusReport = Arc::new(move || {
            let tip = reporting.tip();
            serde_json::json!({
                "name": "devnet",
                "height": tip.height,
                "tip": tip.hash.display().to_string(),
                "cumulative_tick": tip.cumulative_tick,
                "model": reporting.settings().model.id.to_string(),
                "credits": reporting.credits(),
            })
        });
        let link = Self {
            source: Box::new(DevJobs::new(chain.clone())),
            sink: Arc::new(DevSink::new(chain.clone())),
            models: chain.settings().models(),
            proof_version: chain.settings().proof_version,
            normalizer: chain.settings().normalizer,
            report: Some(report),
            pause: Arc::default(),
            registry: Vec::new(),
            active_model: ActiveModelSettings::default(),
            metrics: Vec::new(),
            reconnect: None,
            broker: None,
        };
        (link, chain)
    }

    /// A link to an own node. `models` is what is known before the registry has been heard of: the
    /// environment's pin, or the local record. Needs a running tokio.
    ///
    /// # Errors
    /// [`NodeError`] when a socket cannot be used.
    pub fn to_node(
        settings: NodeSettings,
        models: Models,
        registry: Vec<Box<dyn RegistrySource>>,
        active_model: ActiveModelSettings,
    ) -> Result<Self, NodeError> {
        let pause = Arc::new(Pause::default());
        let (version, network) = (settings.mined_version(), settings.network);
        let node = Node::open(settings, pause.clone())?;
        let reconnect = node.reconnect();
        let reporting = node.report.clone();
        let report: StatusReport = Arc::new(move || {
            serde_json::json!({
                "name": network.as_str(),
                "zmq": reporting.zmq(),
                "vdf": reporting.vdf_status(),
            })
        });
        Ok(Self {
            source: Box::new(node.source),
            sink: node.sink,
            models,
            proof_version: version,
            normalizer: network.normalizer(),
            report: Some(report),
            pause,
            registry,
            active_model,
            metrics: vec![Box::new(node.report)],
            reconnect: Some(reconnect),
            broker: None,
        })
    }

    /// A link to a broker. `models` is the environment's pin, `registry` what is asked beside the
    /// lists the broker pushes. Needs a running tokio.
    #[must_use]
    pub fn to_broker(
        settings: BrokerSettings,
        models: Models,
        mut registry: Vec<Box<dyn RegistrySource>>,
        active_model: ActiveModelSettings,
    ) -> Self {
        let pause = Arc::new(Pause::default());
        let (version, normalizer) = (settings.proof_version, settings.network.normalizer());
        let broker = Broker::new(settings, pause.clone());
        if let Some(pushed) = broker.registry {
            registry.push(Box::new(pushed));
        }
        let reporting = broker.report.clone();
        let shared = broker.client.shared().clone();
        Self {
            source: Box::new(broker.source),
            sink: broker.sink,
            models,
            proof_version: version,
            normalizer,
            report: Some(Arc::new(move || reporting.status())),
            pause,
            registry,
            active_model,
            metrics: vec![Box::new(broker.report)],
            reconnect: Some(Arc::new(move || shared.redial())),
            broker: Some(broker.client),
        }
    }
}
