//! The piece that is missing when no work can come, named once somebody would have noticed, and
//! again when it is another. spec: broker §3.1, §7.1, §7.4

use super::inside::Inside;
use super::shared::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a broker may take to send what it has.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(5);

/// What keeps mining work away at this moment; `None` when nothing does, or mining is off.
#[must_use]
pub fn piece(shared: &Shared, inside: &dyn Inside) -> Option<String> {
    let settings = &shared.settings;
    if !settings.mining {
        return None;
    }
    if settings.networks.is_empty() {
        return Some("MINING_NETWORKS is empty: no broker sends mining work to this worker".into());
    }
    if !shared.uplink.is_registered() {
        return shared.unreachable().map(|why| format!("the broker is not reached: {why}"));
    }
    if !inside.engine_is_up() {
        return Some("the inference engine does not answer: start it, or set TARGET_URL".into());
    }
    let snapshot = shared.context.get()?.load();
    let models = snapshot.models();
    if !models.loaded {
        return Some(
            "the broker has sent no MODEL_REGISTRY_SYNC: without it nothing is mined".into(),
        );
    }
    if shared.counters.leases.load(Ordering::Relaxed) == 0 {
        return Some(format!(
            "the broker has sent no MINE_REQUEST: is it one for {}? (--network, MINING_NETWORKS)",
            settings.networks.join(", ")
        ));
    }
    let served = shared.served();
    let mined = |name: &String| models.mined_record(name).is_some();
    if !served.is_empty() && !served.iter().any(mined) {
        return Some(format!(
            "the engine serves {}, of which nothing is registered{}: serve a registered model under its registered name",
            served.join(", "),
            models.pin.as_ref().map(|pin| format!(" as {pin}")).unwrap_or_default()
        ));
    }
    let job = snapshot.job()?;
    if job.base_share_target.is_none() {
        return Some(
            "the broker's lease has no usable share target: blocks only, no shares".into(),
        );
    }
    if settings.share_normalizer.0 == 0 {
        return Some("MODEL_DIFFICULTY_NORMALIZER is 0: no shares; leave it at 1000000".into());
    }
    snapshot.vdf().is_none().then(|| "the first VDF proof of this block is not there yet".into())
}

/// Looks for as long as the worker runs. What passes by itself is not worth a line.
pub async fn watch(shared: Arc<Shared>, inside: Arc<dyn Inside>) {
    let mut suspected: Option<(String, tokio::time::Instant)> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        // The registry may have come from elsewhere.
        shared.uplink.look_again();
        let now = tokio::time::Instant::now();
        suspected = match (piece(&shared, &*inside), suspected) {
            (Some(found), Some((known, since))) if found == known => Some((known, since)),
            (Some(found), _) => Some((found, now)),
            (None, _) => None,
        };
        let lasting = suspected.as_ref().filter(|(_, since)| now - *since >= PATIENCE);
        let trouble = lasting.map(|(piece, _)| piece.clone());
        if shared.set_trouble(trouble.clone())
            && let Some(piece) = trouble
        {
            tracing::warn!("no mining work can come: {piece}");
        }
    }
}
