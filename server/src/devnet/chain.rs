//! The state of the development chain: the tip, the work units that were handed out, what was
//! credited. Every change happens under one lock, in [`DevChain`]; the rules themselves are in
//! [`super::check`]. spec: targets §8, node §2.1, §3.3

use super::check::{self, Accepted, Rejection};
use crate::mining::job::Job;
use crate::mining::model::{ModelRecord, Models};
use crate::mining::sink::Verdict;
use crate::mining::vdf::VdfSource;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tensorpow_core::header::{BlockHeader, HeaderFields};
use tensorpow_core::proof::accept::{MAX_REQ_ID, Refusal, check_zmq};
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::target::{CompactTarget, Normalizer, Target};
use tensorpow_core::units::{BlockHash, Digest, HashPow, HeaderPrefix, MerkleRoot, WINDOW};
use tensorpow_core::verify::{Chain, Params};
use tokio::sync::watch;

/// Height of the first block behind the genesis block.
const FIRST_BLOCK: u32 = 1;
/// Version of every block. spec: proxy §20.1
const BLOCK_VERSION: u32 = 3;
/// Work units remembered. spec: targets §6
const MAX_WORK_UNITS: usize = 1024;
/// For this long. spec: targets §6
const WORK_UNIT_LIFE: Duration = Duration::from_secs(600);
/// Shares remembered against being credited twice.
const MAX_SHARES: usize = 65_536;
/// First block time of a seeded chain.
const SEEDED_EPOCH: u64 = 1_780_329_205;

/// Rules and rhythm of a development chain.
#[derive(Debug, Clone)]
pub struct ChainSettings {
    /// nBits of every template.
    pub block_bits: CompactTarget,
    /// Share target before the model adjustment; `None` takes no shares.
    pub base_share_target: Option<Target>,
    /// The registered model.
    pub model: ModelRecord,
    /// Least proof version of a block; version 3 comes with its fixed sampling profile, credited
    /// entropy and admission.
    pub proof_version: u8,
    /// Model difficulty normalizer.
    pub normalizer: Normalizer,
    /// A new template on the same parent this often.
    pub interval: Duration,
    /// Squarings behind the VDF proof of each parent block.
    pub vdf_ticks: u32,
    /// With a seed the chain's headers depend on nothing but it; without one they also depend on
    /// the clock.
    pub seed: Option<u64>,
}

impl ChainSettings {
    /// The registry and the pin of a worker that mines this chain.
    #[must_use]
    pub fn models(&self) -> Models {
        Models::new(Some(self.model.id.clone()), [self.model.clone()])
    }

    /// The chain as the node's verification sees it, at the height of a block to come. Where
    /// version 3 is demanded, its rules bind from the first block on. spec: verification §1.2
    #[must_use]
    pub fn chain_at(&self, height: u64) -> Chain {
        let params = Params {
            reuse_entropy_height: (self.proof_version >= 2).then_some(FIRST_BLOCK),
            v3_height: (self.proof_version >= 3).then_some(FIRST_BLOCK),
            window: u32::try_from(WINDOW).ok(),
            normalizer: self.normalizer,
            ..Params::REGTEST
        };
        let height = u32::try_from(height).unwrap_or(u32::MAX);
        Chain { params, height: Some(height), difficulty: self.model.difficulty.get() }
    }
}

/// A template that was handed out.
#[derive(Debug, Clone)]
pub struct WorkUnit {
    /// The job's header prefix, unadjusted.
    pub prefix: HeaderPrefix,
    /// Height of the block it would become.
    pub height: u64,
    /// Share target before the model adjustment.
    pub base_share_target: Option<Target>,
    issued: Instant,
    submitted: bool,
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Height; the genesis block has 0.
    pub height: u64,
    /// Block id.
    pub hash: BlockHash,
    /// Ticks of all blocks so far. spec: targets §7
    pub cumulative_tick: u64,
}

/// What was credited and refused so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Credits {
    /// Blocks made.
    pub blocks: u64,
    /// Shares credited.
    pub shares: u64,
    /// Results refused.
    pub rejected: u64,
}

#[derive(Debug)]
struct State {
    tip: Tip,
    units: BTreeMap<u32, WorkUnit>,
    next_request_id: u32,
    shares: HashSet<Digest>,
    credits: Credits,
}

/// A development chain, shared by its job source and its proof sink.
pub struct DevChain {
    settings: ChainSettings,
    vdf: Arc<dyn VdfSource>,
    state: Mutex<State>,
    tip: watch::Sender<Tip>,
}

impl std::fmt::Debug for DevChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevChain").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl DevChain {
    /// A chain that holds its genesis block only.
    #[must_use]
    pub fn new(settings: ChainSettings, vdf: Arc<dyn VdfSource>) -> Self {
        let genesis = BlockHeader {
            prefix: HeaderPrefix::from_fields(&HeaderFields {
                version: BLOCK_VERSION,
                parent: BlockHash::from_bytes([0; 32]),
                merkle_root: merkle_root(settings.seed, 0, 0),
                time: block_time(settings.seed, 0),
                bits: settings.block_bits,
            }),
            nonce: 0,
            bits: settings.block_bits,
            hash_pow: HashPow::from_bytes([0; 32]),
            flags: 0,
        };
        let tip = Tip { height: 0, hash: genesis.long_hash(), cumulative_tick: 0 };
        let state = State {
            tip,
            units: BTreeMap::new(),
            next_request_id: 1,
            shares: HashSet::new(),
            credits: Credits::default(),
        };
        Self { settings, vdf, state: Mutex::new(state), tip: watch::Sender::new(tip) }
    }

    /// The rules.
    #[must_use]
    pub const fn settings(&self) -> &ChainSettings {
        &self.settings
    }

    /// Where VDF proofs come from.
    #[must_use]
    pub fn vdf(&self) -> &dyn VdfSource {
        &*self.vdf
    }

    /// Where the chain stands.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.lock().tip
    }

    /// Changes of the tip.
    #[must_use]
    pub fn watch_tip(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    /// What was credited so far.
    #[must_use]
    pub fn credits(&self) -> Credits {
        self.lock().credits
    }

    /// Hands out a new template on the tip and remembers it. spec: node §2.1
    #[must_use]
    pub fn new_job(&self) -> Job {
        let mut state = self.lock();
        let now = Instant::now();
        state.forget_units(now);
        let request_id = state.next_request_id;
        // The id after the greatest one a node takes back is never handed out.
        state.next_request_id = if request_id == MAX_REQ_ID { 1 } else { request_id + 1 };
        let height = state.tip.height + 1;
        let prefix = HeaderPrefix::from_fields(&HeaderFields {
            version: BLOCK_VERSION,
            parent: state.tip.hash,
            merkle_root: merkle_root(self.settings.seed, height, request_id),
            time: block_time(self.settings.seed, request_id),
            bits: self.settings.block_bits,
        });
        let base_share_target = self.settings.base_share_target;
        let unit = WorkUnit { prefix, height, base_share_target, issued: now, submitted: false };
        state.units.insert(request_id, unit);
        Job { request_id, prefix, base_share_target, height: Some(height) }
    }

    /// Moves the tip to a block that somebody else has found.
    pub fn advance(&self) -> Tip {
        let mut state = self.lock();
        let height = state.tip.height + 1;
        let found = BlockHeader {
            prefix: HeaderPrefix::from_fields(&HeaderFields {
                version: BLOCK_VERSION,
                parent: state.tip.hash,
                merkle_root: merkle_root(self.settings.seed, height, 0),
                time: block_time(self.settings.seed, 0),
                bits: self.settings.block_bits,
            }),
            nonce: 0,
            bits: self.settings.block_bits,
            hash_pow: HashPow::from_bytes([0; 32]),
            flags: 0,
        };
        let cumulative_tick = state.tip.cumulative_tick;
        let tip = Tip { height, hash: found.long_hash(), cumulative_tick };
        state.tip = tip;
        drop(state);
        self.tip.send_replace(tip);
        tip
    }

    /// Judges a result; a solution that holds moves the tip, a share is credited.
    /// spec: targets §8
    ///
    /// # Errors
    /// [`Rejection`] says which rule it breaks.
    pub fn submit(&self, message: &[u8]) -> Result<Verdict, Rejection> {
        let outcome = self
            .judge(message)
            .and_then(|(accepted, submission)| self.credit(&accepted, &submission));
        if outcome.is_err() {
            self.lock().credits.rejected += 1;
        }
        outcome
    }

    /// Everything that can be judged without holding the chain still: the evidence check takes
    /// milliseconds.
    fn judge(&self, message: &[u8]) -> Result<(Accepted, Submission), Rejection> {
        let mut unit = None;
        let mut submitted = false;
        let response = check_zmq(message, |id| {
            unit = self.lock().units.get(&id).map(|unit| (id, unit.clone()));
            submitted = unit.as_ref().is_some_and(|(_, unit)| unit.submitted);
            unit.is_some() && !submitted
        });
        let response = response.map_err(|refusal| match (refusal, &unit) {
            (Refusal::Stale, Some((id, _))) if submitted => Rejection::AlreadySubmitted(*id),
            (Refusal::Stale, _) => Rejection::UnknownReqId(request_id(message)),
            (refusal, _) => Rejection::Message(refusal),
        })?;
        let (Some(proof), Some((request_id, unit))) = (response.pow_blob, unit) else {
            return Err(Rejection::Message(Refusal::MissingPowBlob));
        };
        let accepted = self.result(&response, &proof, &unit)?;
        let submission = Submission {
            request_id,
            height: unit.height,
            parent: unit.prefix.parent(),
            is_solution: proof.is_solution,
            tick: proof.tick,
        };
        Ok((accepted, submission))
    }

    fn result(
        &self,
        response: &MiningResponseRef<'_>,
        proof: &ProofRef<'_>,
        unit: &WorkUnit,
    ) -> Result<Accepted, Rejection> {
        check::result(response, proof, unit, &self.settings, &*self.vdf)
    }

    fn credit(&self, accepted: &Accepted, of: &Submission) -> Result<Verdict, Rejection> {
        let mut state = self.lock();
        if state.tip.hash != of.parent {
            return Err(Rejection::StaleParent {
                request_id: of.request_id,
                parent_height: of.height - 1,
                tip_height: state.tip.height,
            });
        }
        if !of.is_solution {
            if state.shares.len() >= MAX_SHARES {
                state.shares.clear();
            }
            if !state.shares.insert(accepted.passed.digest) {
                return Err(Rejection::DuplicateShare);
            }
            state.credits.shares += 1;
            return Ok(Verdict::Share);
        }
        match state.units.get_mut(&of.request_id) {
            Some(unit) if unit.submitted => {
                return Err(Rejection::AlreadySubmitted(of.request_id));
            }
            Some(unit) => unit.submitted = true,
            None => return Err(Rejection::UnknownReqId(of.request_id)),
        }
        let tip = Tip {
            height: of.height,
            hash: accepted.header.long_hash(),
            cumulative_tick: state.tip.cumulative_tick.saturating_add(of.tick),
        };
        state.tip = tip;
        state.credits.blocks += 1;
        drop(state);
        self.tip.send_replace(tip);
        Ok(Verdict::Block { height: tip.height, hash: tip.hash })
    }

    /// No change leaves the state half-made, so a poisoned lock still guards a usable chain.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Submission {
    request_id: u32,
    height: u64,
    parent: BlockHash,
    is_solution: bool,
    tick: u64,
}

impl State {
    /// Drops units past their life, then the oldest until one more fits. spec: targets §6
    fn forget_units(&mut self, now: Instant) {
        self.units.retain(|_, unit| now.duration_since(unit.issued) < WORK_UNIT_LIFE);
        while self.units.len() >= MAX_WORK_UNITS {
            let oldest = self.units.iter().min_by_key(|(_, unit)| unit.issued).map(|(id, _)| *id);
            match oldest {
                Some(id) => self.units.remove(&id),
                None => break,
            };
        }
    }
}

/// The request id of a message that was verified a moment ago.
fn request_id(message: &[u8]) -> u32 {
    MiningResponseRef::read(message).map(|response| response.req_id).unwrap_or_default()
}

/// The merkle root stands for transactions the chain does not have: it makes every template new.
fn merkle_root(seed: Option<u64>, height: u64, request_id: u32) -> MerkleRoot {
    let root = Sha256::new()
        .chain_update(b"tensorpow devnet merkle root")
        .chain_update(seed.unwrap_or_default().to_le_bytes())
        .chain_update(height.to_le_bytes())
        .chain_update(request_id.to_le_bytes())
        .finalize();
    MerkleRoot::from_bytes(Sha256::digest(root).into())
}

/// The clock, or with a seed ten seconds a template.
fn block_time(seed: Option<u64>, request_id: u32) -> u32 {
    let seconds = match seed {
        Some(_) => SEEDED_EPOCH + 10 * u64::from(request_id),
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
