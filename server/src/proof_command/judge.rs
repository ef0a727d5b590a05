//! The judgement of a proof for a network: the node's quick verification, and the version that the
//! height demands.

use clap::Args;
use tensorpow_core::admission;
use tensorpow_core::credit::{BCred, CreditUnits, Tier, tier};
use tensorpow_core::proof::{Proof, ProofRef};
use tensorpow_core::verify::{
    self, BlockReject, Chain, Check, Context, Detail, Network, NoVerdict, Observer, Params,
    Registry, Report, Step, Vdf, Workspace,
};

/// For which chain a proof is judged.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ChainArgs {
    /// The network whose rules hold: mainnet, tensor-test or regtest
    #[arg(long, default_value = "mainnet", value_name = "NETWORK")]
    network: Network,
    /// Height of the proof's own block; without it no rule that begins at a height is applied
    #[arg(long, value_name = "N")]
    height: Option<u32>,
    /// Registered difficulty of the proof's model, which the registration and an admission nonce are
    /// judged by; without it the registration is not
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(i64).range(0..))]
    difficulty: Option<i64>,
}

/// Why a proof is not judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unjudged {
    /// The node would need what was not given.
    #[error("claims an admission nonce, which only a difficulty can judge: give --difficulty")]
    Difficulty,
    /// The core gives no verdict.
    #[error("cannot be judged: {0}")]
    NoVerdict(#[from] NoVerdict),
}

/// A judged proof.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The node's quick verification.
    pub(super) report: Report,
    /// The version gate, for a proof that passed.
    pub(super) gate: Option<BlockReject>,
    /// The checks that hold, in order, with what they saw.
    pub(super) passed: Vec<(Check, Detail)>,
    /// Every step that has an interval, judged or not.
    pub(super) steps: Vec<Step>,
}

impl Judgement {
    /// The credited entropy of all steps by the node's sum, and its tier: also of a proof that was
    /// rejected before its intervals were looked at, as a share is.
    pub(super) fn credited(&self, params: &Params) -> (CreditUnits, Tier) {
        let mut sum = BCred::default();
        for step in &self.steps {
            // A step whose bounds make no interval is worth nothing.
            let _ = sum.add(step.interval.lower.into(), step.interval.upper.into());
        }
        let [floor, free] = [params.floor_bits, params.free_bits].map(CreditUnits::from_bits);
        (sum.node(), tier(sum.node(), floor, free))
    }

    pub(super) fn accepted(&self) -> bool {
        self.report.failure.is_none() && self.gate.is_none()
    }

    /// Why the proof is rejected, in words.
    pub(super) fn reason(&self) -> Option<String> {
        match (&self.report.failure, &self.gate) {
            (Some(failure), _) => Some(failure.to_string()),
            (None, Some(gate)) => Some(gate.to_string()),
            (None, None) => None,
        }
    }

    /// What rejects the proof: the identifier of a check, or the node's code.
    pub(super) fn check_id(&self) -> Option<&'static str> {
        match (&self.report.failure, &self.gate) {
            (Some(failure), _) => Some(failure.check.id()),
            (None, gate) => gate.as_ref().map(BlockReject::as_str),
        }
    }
}

#[derive(Default)]
struct Passed(Vec<(Check, Detail)>);

impl Observer for Passed {
    fn passed(&mut self, check: Check, detail: Detail) {
        self.0.push((check, detail));
    }
}

impl ChainArgs {
    /// What the proof is held against, in words.
    pub(super) fn describe(&self) -> String {
        let height = match self.height {
            Some(height) => format!("at height {height}"),
            None => "at an unknown height".to_owned(),
        };
        let difficulty = match self.difficulty {
            Some(difficulty) => format!("model difficulty {difficulty}"),
            None => "no model registry".to_owned(),
        };
        format!("{} {height}, {difficulty}", self.network)
    }

    pub(super) fn network(&self) -> Network {
        self.network
    }

    fn chain(&self) -> Chain {
        let (params, difficulty) = (self.network.params(), self.difficulty.unwrap_or(0));
        Chain { params, height: self.height, difficulty }
    }

    /// Judges a proof as the node does when it is given one, and by the version its height demands.
    pub(super) fn judge(
        &self,
        proof: &Proof,
        workspace: &mut Workspace,
    ) -> Result<Judgement, Unjudged> {
        let proof = proof.as_ref();
        let chain = self.chain();
        self.check_difficulty(&proof, &chain)?;
        let registry = self.difficulty.map_or(Registry::Absent, Registry::Registered);
        let context = Context { chain: Some(chain), registry, vdf: Vdf::Verify };
        let mut passed = Passed::default();
        let mut scratch = workspace.scratch(&proof, Some(&chain));
        let report = verify::quick_observed(&proof, &context, &mut scratch, &mut passed)?;
        let mut steps = Vec::new();
        verify::steps(&proof, report.nonce.as_ref(), &mut scratch, |step| steps.push(*step))?;
        let gate = match report.failure {
            None => verify::version_gate(proof.version, &chain),
            Some(_) => None,
        };
        Ok(Judgement { report, gate, passed: passed.0, steps })
    }

    /// A node has a registry; without a difficulty the puzzle would be refused for our ignorance.
    fn check_difficulty(&self, proof: &ProofRef<'_>, chain: &Chain) -> Result<(), Unjudged> {
        let binds = chain.is_v3_active_for(proof.version);
        if self.difficulty.is_none() && binds && admission::extract(proof.extra_flags).is_some() {
            return Err(Unjudged::Difficulty);
        }
        Ok(())
    }
}
