//! Stored proofs as text: one line each, or everything about one.

use crate::spool::{Delivery, Listed};
use std::io::{Result, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// One line: number, age, tier, size, completion id, deliveries.
pub(super) fn line(out: &mut impl Write, listed: &Listed) -> Result<()> {
    let entry = &listed.entry;
    let id = if entry.completion_id.is_empty() { "-" } else { &entry.completion_id };
    write!(
        out,
        "{:>8}  {:>7}  {:<8}  {:>7} B {:<7}  {}",
        listed.seq,
        age(entry.arrived_us),
        entry.tier_name(),
        entry.stored_len,
        entry.form.as_str(),
        plain(id),
    )?;
    for (sink, delivery) in &listed.deliveries {
        write!(out, "  {sink}: {}", state(delivery))?;
    }
    writeln!(out)
}

fn state(delivery: &Delivery) -> String {
    match delivery.reason.as_str() {
        "" => delivery.state.as_str().to_owned(),
        reason => format!("{} ({})", delivery.state.as_str(), plain(reason)),
    }
}

/// Everything.
pub(super) fn whole(out: &mut impl Write, listed: &Listed) -> Result<()> {
    let entry = &listed.entry;
    let hex = |bytes: Option<[u8; 32]>| bytes.map_or_else(|| "-".to_owned(), hex::encode);
    writeln!(out, "number          {}", listed.seq)?;
    writeln!(out, "arrived         {} ago", age(entry.arrived_us))?;
    writeln!(out, "tier            {}", entry.tier_name())?;
    writeln!(out, "completion id   {}", plain(&entry.completion_id))?;
    for id in &entry.also {
        writeln!(out, "also            {}", plain(id))?;
    }
    writeln!(out, "request id      {}", entry.request_id)?;
    writeln!(out, "nonce           {}", entry.nonce)?;
    writeln!(out, "parent          {}", hex(entry.parent))?;
    writeln!(out, "digest          {}", hex(entry.digest))?;
    writeln!(out, "commitment      {}", hex::encode(entry.identity))?;
    writeln!(out, "model           {}", plain(&entry.model_identifier))?;
    let (form, stored) = (entry.form.as_str(), entry.stored_len);
    writeln!(out, "size            {} bytes, stored as {stored} ({form})", entry.message_len)?;
    for (sink, delivery) in &listed.deliveries {
        writeln!(
            out,
            "to {sink:<12} {}, {} attempts, {} ago{}",
            state(delivery),
            delivery.attempts,
            age(delivery.changed_us),
            if delivery.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", plain(&delivery.detail))
            },
        )?;
    }
    Ok(())
}

/// Engines and clients choose these texts: nothing in them may move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Time since then in its largest unit.
fn age(since_us: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = now.saturating_sub(since_us / 1_000_000);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}min", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
