//! Mining jobs and the place they come from. A source speaks in updates (a new job, a further VDF
//! proof); what becomes of them is the business of [`super::snapshot`].

use super::vdf::VdfState;
use async_trait::async_trait;
use std::sync::Arc;
use tensorpow_core::target::{CompactTarget, Target};
use tensorpow_core::units::{BlockHash, HeaderPrefix};

/// One block template to mine on. A newer job replaces an older one as a whole: nothing is
/// inherited, not even the share target. spec: proxy §2, targets §3.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Names the template to its source; every proof carries it back.
    pub request_id: u32,
    /// Header prefix as handed out, with the unadjusted nBits.
    pub prefix: HeaderPrefix,
    /// Share target before the model adjustment; `None` when the source takes no shares.
    pub base_share_target: Option<Target>,
    /// Height of the block this template would become, where the source knows it.
    pub height: Option<u64>,
}

impl Job {
    /// The block the template builds on: VDF challenge and staleness key of every proof.
    #[must_use]
    pub fn parent(&self) -> BlockHash {
        self.prefix.parent()
    }

    /// The chain's compact target, before the model adjustment.
    #[must_use]
    pub fn bits(&self) -> CompactTarget {
        self.prefix.bits()
    }
}

/// What a source has to say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobUpdate {
    /// Mine this template from now on.
    Job(Job),
    /// A further VDF proof, tagged with the challenge it belongs to.
    Vdf(Arc<VdfState>),
}

/// Opens the link to a job source anew; what was found meanwhile is not lost by it.
pub type Reconnect = Arc<dyn Fn() + Send + Sync>;

/// Where mining jobs come from: a development chain, a node, a broker.
#[async_trait]
pub trait JobSource: Send {
    /// Name of the source in logs and `/status`.
    fn name(&self) -> &'static str;

    /// The next update; `None` once the source has closed for good. Dropping the future before it
    /// completes must not lose an update.
    async fn next(&mut self) -> Option<JobUpdate>;
}
