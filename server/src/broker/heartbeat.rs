//! The heartbeat: at once after each accepted registration, then in the broker's interval, with
//! what the worker really does. spec: broker §4

use super::desk::Desk;
use super::inside::Inside;
use super::outgoing::{Heartbeat, Outgoing};
use super::shared::Shared;
use super::uplink::Wire;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Heartbeats in a row that may fail to leave. spec: §4
const FAILURES: u32 = 3;

/// What the worker does now.
#[must_use]
pub fn values(inside: &dyn Inside, desk: &Desk, shared: &Shared) -> Heartbeat {
    let busy = desk.active();
    let (input, output) = inside.rates();
    Heartbeat {
        busy,
        input_tokens_per_sec: input,
        output_tokens_per_sec: output,
        error_rate: shared.error_rate(),
        queue_depth: inside.waiting().min(busy),
    }
}

/// Sends heartbeats until they cannot leave any more; the cause of that.
pub async fn beat(
    inside: Arc<dyn Inside>,
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    wire: Wire,
    every: Duration,
) -> &'static str {
    let mut failures = 0;
    loop {
        let frame = Outgoing::Heartbeat(values(&*inside, &desk, &shared));
        let sent = tokio::time::timeout(shared.settings.timings.heartbeat, wire.send(&frame)).await;
        match sent {
            Ok(Ok(())) => failures = 0,
            Ok(Err(_)) => return "connection_gone",
            Err(_) => failures += 1,
        }
        if failures >= FAILURES {
            return "send_timeout";
        }
        shared.leases.purge(Instant::now());
        tokio::time::sleep(every).await;
    }
}
