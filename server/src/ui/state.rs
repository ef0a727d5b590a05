//! The state of one second as the dashboard gets it: the documents of `/status` and `/ready` whole,
//! so that whatever they say can be shown, and the counters in the form of totals.

use super::readings::Readings;
use crate::http::App;
use crate::http::status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tensorpow_core::units::WINDOW;

/// The state, without the past.
pub(super) fn document(app: &App, readings: &Readings) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (ready, _) = status::readiness(app);
    let history = app.ui.history();
    json!({
        "now": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        "status": status::document(app),
        "ready": ready,
        "totals": totals(readings),
        "latency": history.latency(readings),
        "sample": history.newest(),
        "last_proof": app.ui.newest_proof(),
    })
}

fn totals(readings: &Readings) -> Value {
    let generated = readings.count("tensorpow_tokens_generated_total", &[]);
    let mut verdicts = readings.by_label("tensorpow_proofs_judged_total", "verdict");
    let mut taken = |verdict| verdicts.remove(verdict).unwrap_or(0);
    let (shares, blocks, sent) = (taken("share"), taken("block"), taken("sent"));
    // Not a verdict: the proof is offered again.
    let unavailable = taken("unavailable");
    let by = |name: &str, label: &str| -> BTreeMap<String, u64> { readings.by_label(name, label) };
    json!({
        "tokens": {
            "input": readings.count("tensorpow_tokens_total", &[("direction", "input")]),
            "output": generated,
        },
        "windows": generated / WINDOW as u64,
        "requests": by("tensorpow_requests_total", "outcome"),
        "errors": by("tensorpow_requests_rejected_total", "code"),
        "active": readings.count("tensorpow_requests_active", &[]),
        "injected": by("tensorpow_inference_injected_total", "kind"),
        "not_mined": by("tensorpow_inference_uninjected_total", "reason"),
        "received": by("tensorpow_proofs_received_total", "tier"),
        "dropped": by("tensorpow_proofs_dropped_total", "reason"),
        "shares": shares,
        "blocks": blocks,
        "sent": sent,
        "unavailable": unavailable,
        "refused": verdicts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_blocks_are_not_refusals() {
        let totals = totals(&Readings::parse(
            "tensorpow_proofs_judged_total{verdict=\"share\"} 5\n\
             tensorpow_proofs_judged_total{verdict=\"block\"} 2\n\
             tensorpow_proofs_judged_total{verdict=\"stale\"} 1\n\
             tensorpow_proofs_judged_total{verdict=\"sent\"} 4\n\
             tensorpow_proofs_judged_total{verdict=\"unavailable\"} 9\n\
             tensorpow_tokens_generated_total 1000\n",
        ));
        assert_eq!((&totals["shares"], &totals["blocks"]), (&json!(5), &json!(2)));
        assert_eq!((&totals["sent"], &totals["unavailable"]), (&json!(4), &json!(9)));
        assert_eq!(totals["refused"], json!({ "stale": 1 }));
        assert_eq!(totals["windows"], json!(3));
    }
}
