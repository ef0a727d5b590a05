//! The judgement of a proof for a network: the node's quick verification, and the version that the
//! height demands.

use clap::Args;
use tensorpow_core::credit::{BCred, CreditUnits, Tier, tier};
use tensorpow_core::proof::Proof;
use tensorpow_core::verify::{
    self, Check, Detail, Network, Observer, Params, Place, Step, Workspace,
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

/// Why a proof is not judged, with the way out where there is one.
#[derive(Debug)]
pub(super) struct Unjudged(verify::Unjudged);

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way_out = match self.0 {
            verify::Unjudged::Difficulty => ": give --difficulty",
            _ => "",
        };
        write!(f, "{}{way_out}", self.0)
    }
}

impl std::error::Error for Unjudged {}

/// A judged proof.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The node's verdict.
    pub(super) verdict: verify::Judgement,
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

    fn place(&self) -> Place {
        Place { network: self.network, height: self.height, difficulty: self.difficulty }
    }

    /// Judges a proof as the node does when it is given one, and by the version its height demands.
    pub(super) fn judge(
        &self,
        proof: &Proof,
        workspace: &mut Workspace,
    ) -> Result<Judgement, Unjudged> {
        let proof = proof.as_ref();
        let place = self.place();
        let mut passed = Passed::default();
        let mut scratch = workspace.scratch(&proof, Some(&place.chain()));
        let verdict = place.judge(&proof, &mut scratch, &mut passed).map_err(Unjudged)?;
        let mut steps = Vec::new();
        let nonce = verdict.report.nonce.as_ref();
        verify::steps(&proof, nonce, &mut scratch, |step| steps.push(*step))
            .map_err(|why| Unjudged(why.into()))?;
        Ok(Judgement { verdict, passed: passed.0, steps })
    }
}
