//! A proof that this machine did not make: the reference's miner made it, as a published test vector,
//! under mainnet's rules of version 3. Its credited entropy is that of the middle tier, so it is its
//! admission nonce that makes it acceptable.

use tensorpow_core::admission::extract;
use tensorpow_core::archive;
use tensorpow_core::verify::{Chain, Context, Network, Registry, Vdf, Workspace, quick};

/// The proof in its compact form.
const PROOF: &[u8] = include_bytes!("another_miner.tpwa");
/// Height of its block: the first at which mainnet demands version 3.
const HEIGHT: u32 = 8_000;
/// Registered difficulty of its model.
const DIFFICULTY: i64 = 10_000_000;

/// The verdict on it in one line, as the node's rules have it; `Err` when they do not take it.
pub(super) fn verdict() -> Result<String, String> {
    let proof = archive::decode(PROOF).map_err(|error| error.to_string())?;
    let proof = proof.as_ref();
    let network = Network::Mainnet;
    let chain = Chain { params: network.params(), height: Some(HEIGHT), difficulty: DIFFICULTY };
    let registry = Registry::Registered(DIFFICULTY);
    let context = Context { chain: Some(chain), registry, vdf: Vdf::Verify };
    let mut workspace = Workspace::new();
    let mut scratch = workspace.scratch(&proof, Some(&chain));
    let report = quick(&proof, &context, &mut scratch).map_err(|error| error.to_string())?;
    if let Some(failure) = &report.failure {
        return Err(failure.to_string());
    }
    let credit = report.credit.node();
    let tier = report.tier.map_or_else(String::new, |tier| format!(", tier {tier}"));
    let nonce = extract(proof.extra_flags)
        .map_or_else(String::new, |nonce| format!(", admitted by nonce {nonce:x}"));
    Ok(format!(
        "{} on {network} at height {HEIGHT}: {:.2} bits credited{tier}{nonce}",
        report.verdict(),
        credit.bits()
    ))
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn the_rules_take_it_for_its_nonce() {
        let verdict = verdict().unwrap();
        assert!(verdict.starts_with("Quick_OK on mainnet at height 8000: 65.83 bits"), "{verdict}");
        assert!(verdict.contains("admitted by nonce"), "{verdict}");
    }
}
