//! The link to an own node: jobs come in over one ZeroMQ socket ([`feed`], checked by [`job`]), get
//! their VDF proofs from the prover ([`TemplateJobs`]), and solutions go out over another ([`results`]).
//! Nothing on either socket is ever answered. spec: node §1–§3, proxy §1, §2.1

pub mod feed;
pub mod job;
pub mod report;
pub mod results;
mod socket;

use crate::mining::job::Reconnect;
use crate::mining::network::Network;
use crate::mining::pause::Pause;
use crate::mining::prover::{VdfFeed, VdfSettings};
use crate::mining::templates::TemplateJobs;
use feed::{FeedError, FeedSettings, JobFeed, Reopen};
use report::NodeReport;
use results::{NodeSink, ResultSettings, ResultsError};
use std::sync::Arc;

/// Everything about a node that can be set.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The chain; it decides the proof version and the normalizer.
    pub network: Network,
    /// `POW_PROOF_VERSION`, where the operator overrides the network's. spec: proxy §8.1
    pub proof_version: Option<u8>,
    /// Where jobs come in.
    pub jobs: FeedSettings,
    /// Where solutions go.
    pub results: ResultSettings,
    /// The VDF prover.
    pub vdf: VdfSettings,
}

impl NodeSettings {
    /// The defaults for a chain.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self {
            network,
            proof_version: None,
            jobs: FeedSettings::default(),
            results: ResultSettings::default(),
            vdf: VdfSettings::default(),
        }
    }

    /// The proof version that is mined.
    #[must_use]
    pub fn mined_version(&self) -> u8 {
        self.proof_version.unwrap_or_else(|| self.network.proof_version())
    }
}

/// The node link cannot start. Always fatal: a worker without jobs mines nothing and says so
/// nowhere else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The job socket.
    #[error(transparent)]
    Jobs(#[from] FeedError),
    /// The result socket.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// The two ends of a node link and what it says about itself.
#[derive(Debug)]
pub struct Node {
    /// Jobs and VDF proofs.
    pub source: TemplateJobs<JobFeed>,
    /// Where solutions go.
    pub sink: Arc<NodeSink>,
    /// For `/status` and `/metrics`.
    pub report: NodeReport,
    feed: Reopen,
}

impl Node {
    /// Binds the job socket and prepares the result socket. `pause` is the mining context's own.
    /// Needs a running tokio.
    ///
    /// # Errors
    /// [`NodeError`] when an address is taken or not allowed.
    pub fn open(settings: NodeSettings, pause: Arc<Pause>) -> Result<Self, NodeError> {
        let version = settings.mined_version();
        tracing::info!(
            "mining for {}, proof version {version}{}",
            settings.network,
            if settings.proof_version.is_some() { " as set" } else { "" }
        );
        if version < settings.network.proof_version() {
            tracing::warn!(
                "proof version {version} is below what {} demands: its blocks will be refused",
                settings.network
            );
        }
        let (feed, jobs) = JobFeed::bind(settings.jobs)?;
        let sink = Arc::new(NodeSink::connect(settings.results)?);
        let vdf = VdfFeed::new(settings.vdf, pause);
        let report = NodeReport::new(&feed, &sink, &vdf);
        let reopen = feed.reopen();
        let source = TemplateJobs::new("node", jobs, vdf, feed);
        Ok(Self { source, sink, report, feed: reopen })
    }

    /// What opens both sockets anew: nodes connect to the one again, the other connects to the node
    /// again. A connection whose other end is gone without a word is only left that way.
    #[must_use]
    pub fn reconnect(&self) -> Reconnect {
        let (feed, sink) = (self.feed.clone(), self.sink.clone());
        Arc::new(move || {
            feed.order();
            let sink = sink.clone();
            // What the old socket holds gets its time to leave, which the caller does not have.
            let opened = std::thread::Builder::new().spawn(move || {
                if let Err(error) = sink.reconnect() {
                    tracing::error!("{error}");
                }
            });
            if let Err(error) = opened {
                tracing::error!("the result socket stays as it is: {error}");
            }
        })
    }
}
