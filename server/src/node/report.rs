//! What a node link says about itself: under `/status`, in the shape the reference has, and as
//! metrics.

use super::feed::{FeedCounters, JobFeed};
use super::results::NodeSink;
use crate::exposition::{counter, gauge, labelled_counter};
use crate::mining::prover::{VdfCounters, VdfFeed};
use crate::mining::vdf_report::VdfReport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use std::sync::Arc;

/// Reads the counters of a node link when somebody asks.
#[derive(Debug, Clone)]
pub struct NodeReport {
    endpoint: String,
    feed: Arc<FeedCounters>,
    sink: Arc<NodeSink>,
    vdf: VdfReport,
}

impl NodeReport {
    pub(super) fn new(feed: &JobFeed, sink: &Arc<NodeSink>, vdf: &VdfFeed) -> Self {
        Self {
            endpoint: feed.endpoint().to_owned(),
            feed: feed.counters().clone(),
            sink: sink.clone(),
            vdf: VdfReport::new(vdf),
        }
    }

    /// Where nodes push their jobs, as `tcp://host:port`.
    #[must_use]
    pub fn jobs_endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What the job socket has seen.
    #[must_use]
    pub fn feed(&self) -> &FeedCounters {
        &self.feed
    }

    /// What the prover does.
    #[must_use]
    pub fn vdf(&self) -> &VdfCounters {
        self.vdf.counters()
    }

    /// `zmq` of `/status`. spec: proxy §21.1
    #[must_use]
    pub fn zmq(&self) -> Value {
        let refused: serde_json::Map<String, Value> =
            self.feed.refused().map(|(label, n)| (label.to_owned(), n.into())).collect();
        json!({
            "running": true,
            "port": self.endpoint.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()),
            "endpoint": self.endpoint,
            "has_socket": true,
            "has_vdf_service": true,
            "nodes_connected": self.feed.peers(),
            "jobs": self.feed.taken(),
            "jobs_superseded": self.feed.superseded(),
            "reconnects": self.feed.reopened(),
            "messages_refused": refused,
            "silent": self.feed.is_silent(),
            "last_job_age_seconds": self.feed.job_age().map(|age| age.as_secs()),
            "results": {
                "endpoint": self.sink.settings().endpoint.to_string(),
                "forward": self.sink.settings().forward,
                "connected": self.sink.is_connected(),
                "sent": self.sink.counters().sent(),
                "unfit": self.sink.counters().unfit(),
                "attempts_without_node": self.sink.counters().absent(),
            },
        })
    }

    /// The prover's part of `vdf` of `/status`. spec: proxy §21.1
    #[must_use]
    pub fn vdf_status(&self) -> Value {
        self.vdf.status()
    }
}

impl Collector for NodeReport {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        gauge(&mut out, "node_peers", "Nodes connected to the job feed", self.feed.peers())?;
        gauge(
            &mut out,
            "node_silent",
            "1 when no job has come from the node for too long",
            self.feed.is_silent().into(),
        )?;
        counter(&mut out, "node_jobs", "Jobs taken from the node", self.feed.taken())?;
        counter(
            &mut out,
            "node_jobs_superseded",
            "Valid jobs replaced by a newer one before they were used",
            self.feed.superseded(),
        )?;
        let reopened = self.feed.reopened();
        counter(&mut out, "node_reconnects", "Times the job feed was bound anew", reopened)?;
        labelled_counter(
            &mut out,
            "node_jobs_refused",
            "Messages on the job feed that were no jobs",
            "reason",
            self.feed.refused(),
        )?;
        gauge(
            &mut out,
            "node_results_connected",
            "1 while the node's result socket is connected",
            self.sink.is_connected().into(),
        )?;
        counter(
            &mut out,
            "node_results_sent",
            "Solutions sent to the node",
            self.sink.counters().sent(),
        )?;
        self.vdf.encode(&mut out)
    }
}
