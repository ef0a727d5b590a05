//! What is mined, as labels of a gauge that is always 1: the network, the proof version and the model.
//! spec: proxy §25

use super::names;
use crate::mining::context::ContextCell;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;

/// Reads it when somebody asks.
#[derive(Debug)]
pub struct MiningInfo {
    network: &'static str,
    context: Arc<ContextCell>,
}

impl MiningInfo {
    /// What this context mines for this network.
    #[must_use]
    pub const fn new(network: &'static str, context: Arc<ContextCell>) -> Self {
        Self { network, context }
    }
}

impl Collector for MiningInfo {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let one = ConstGauge::new(1_i64);
        let help = "What is mined; the model is empty where every registered one is";
        let mut info = out.encode_descriptor("mining_info", help, None, one.metric_type())?;
        let model = self.context.load().expected_model_identifier().unwrap_or_default();
        let labels = [
            ("network", self.network.to_owned()),
            ("proof_version", self.context.settings().proof_version.to_string()),
            ("model", names::escape(&model).into_owned()),
        ];
        one.encode(info.encode_family(&labels)?)
    }
}
