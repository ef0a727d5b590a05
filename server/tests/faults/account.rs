//! The account at the end: what was acknowledged is still there, what the node got it got once, and
//! every error of a user belongs to a kill of the engine or the proxy.

use crate::engine::hash;
use crate::load::{Failure, Seen};
use crate::world::{Outage, Part, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tensorpow_server::spool::{DeliveryState, Listed, Selection, Spool, SpoolSettings};

/// What a solution handed to a node may be on its way when the node is killed.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A result as the node wrote it down.
#[derive(Debug, Clone)]
struct Receipt {
    at: SystemTime,
    label: String,
}

/// The spool's proofs by digest, each with the hash of its message.
type Stored = BTreeMap<String, (Listed, String)>;

/// Holds everything against everything; prints the figures.
pub(crate) fn settle(world: &World, seen: &Seen) {
    let stored = stored(world);
    let served = served_are_stored(seen, &stored);
    let (delivered, repeats, blocks) = deliveries(world, &stored);
    let unread = handed_over_in_vain(world, &stored);
    let errors = errors(&world.outages, &seen.failures.lock().unwrap());
    let complete = seen.complete.load(Ordering::Relaxed);
    let mined = seen.mined.load(Ordering::Relaxed);
    assert!(mined > 0 && served > 0 && blocks > 0, "nothing happened");
    println!(
        "answers: {complete} whole, {mined} of them mined; {} broken off by a kill of the engine, {} by \
         one of the proxy, {} without a proxy to connect to, no other errors",
        errors.with_engine, errors.with_proxy, errors.without_proxy
    );
    println!(
        "proofs: {} stored, {served} of them served to their clients, none lost; {delivered} read by \
         the node, {repeats} once more after a crash of the proxy, {blocks} blocks, none twice; \
         {unread} handed to a node that was killed before it read them",
        stored.len()
    );
}

fn stored(world: &World) -> Stored {
    let spool = Spool::open(SpoolSettings::in_folder(world.data().join("spool"))).unwrap();
    let view = spool.view().unwrap();
    let emitted = std::fs::read_to_string(world.file("emitted")).unwrap();
    // A kill may cut a line short; the one behind it is whole.
    let emitted: BTreeSet<&str> =
        emitted.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let mut stored = Stored::new();
    for listed in view.list(&Selection::default(), usize::MAX).unwrap() {
        let message = hash(&view.message(listed.seq, &listed.entry).unwrap());
        assert!(emitted.contains(message.as_str()), "no engine made {listed:?}");
        for (sink, delivery) in &listed.deliveries {
            assert!(!delivery.state.is_open(), "not settled with {sink}: {listed:?}");
        }
        let digest = hex::encode(listed.entry.digest.unwrap());
        let twice = stored.insert(digest, (listed, message));
        assert!(twice.is_none(), "stored twice: {twice:?}");
    }
    stored
}

/// Every proof that a client was served is there, byte for byte. How many.
fn served_are_stored(seen: &Seen, stored: &Stored) -> usize {
    let mut by_id: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (listed, message) in stored.values() {
        let ids = listed.entry.also.iter().chain([&listed.entry.completion_id]);
        for id in ids {
            by_id.entry(id).or_default().insert(message);
        }
    }
    let served = seen.served.lock().unwrap();
    for (id, message) in served.iter() {
        let found = by_id.get(id.as_str()).is_some_and(|found| found.contains(message.as_str()));
        assert!(found, "the proof of {id} was served and is lost");
    }
    served.len()
}

/// Every result the node has read was stored before; it came again only after a crash of the proxy,
/// as the spool knows, and became a block once at most. Results, repetitions, blocks.
fn deliveries(world: &World, stored: &Stored) -> (usize, usize, usize) {
    let ledger = ledger(world);
    let (mut repeats, mut blocks) = (0, 0);
    for (digest, receipts) in &ledger {
        let found = stored.get(digest);
        let Some((listed, _)) = found else { panic!("{digest} was delivered and is lost") };
        let delivery = node_delivery(listed);
        let attempts = delivery.map_or(0, |(_, attempts)| attempts);
        let came = receipts.len();
        assert!(came <= attempts as usize, "{came} times at the node: {listed:?}");
        for pair in receipts.windows(2) {
            let crashed = world.outages.iter().any(|outage| {
                outage.part == Part::Proxy && (pair[0].at..pair[1].at).contains(&outage.at)
            });
            assert!(crashed, "twice as new: {receipts:?} {listed:?}");
        }
        let made = receipts.iter().filter(|receipt| receipt.label == "block").count();
        assert!(made <= 1, "{made} blocks of one proof: {listed:?}");
        repeats += came - 1;
        blocks += made;
    }
    (ledger.len(), repeats, blocks)
}

/// Solutions that the spool calls delivered and no node has read: each was on its way to a node that
/// was killed. How many.
fn handed_over_in_vain(world: &World, stored: &Stored) -> usize {
    let ledger = ledger(world);
    let mut unread = 0;
    for (digest, (listed, _)) in stored {
        let confirmed = matches!(node_delivery(listed), Some((DeliveryState::Confirmed, _)));
        if !confirmed || ledger.contains_key(digest) {
            continue;
        }
        let came = UNIX_EPOCH + Duration::from_micros(listed.entry.arrived_us);
        let killed = world.outages.iter().any(|outage| {
            outage.part == Part::Node && (came..came + ON_ITS_WAY).contains(&outage.at)
        });
        assert!(killed, "the node never got {listed:?}");
        unread += 1;
    }
    unread
}

fn node_delivery(listed: &Listed) -> Option<(DeliveryState, u32)> {
    let (_, delivery) = listed.deliveries.iter().find(|(sink, _)| sink == "node")?;
    Some((delivery.state, delivery.attempts))
}

fn ledger(world: &World) -> BTreeMap<String, Vec<Receipt>> {
    let mut ledger: BTreeMap<String, Vec<Receipt>> = BTreeMap::new();
    for line in std::fs::read_to_string(world.file("ledger")).unwrap().lines() {
        // A kill may cut a line short.
        let [at, digest, label] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let at = UNIX_EPOCH + Duration::from_micros(at.parse().unwrap());
        ledger.entry(digest.to_owned()).or_default().push(Receipt { at, label: label.to_owned() });
    }
    ledger
}

/// Errors by their reason.
#[derive(Debug, Default)]
struct Errors {
    with_engine: usize,
    with_proxy: usize,
    without_proxy: usize,
}

/// Every error of a user belongs to a request that was in flight when the engine or the proxy was
/// killed, or came while there was no proxy to take it.
fn errors(outages: &[Outage], failures: &[Failure]) -> Errors {
    let mut errors = Errors::default();
    for failure in failures {
        let (from, to) = (failure.from, failure.to);
        let in_flight = |outage: &Outage| from <= outage.dead && outage.from <= to;
        let of = |part| move |outage: &&Outage| outage.part == part;
        if outages.iter().filter(of(Part::Engine)).any(in_flight) {
            errors.with_engine += 1;
        } else if outages.iter().filter(of(Part::Proxy)).any(in_flight) {
            errors.with_proxy += 1;
        } else if outages
            .iter()
            .filter(of(Part::Proxy))
            .any(|outage| outage.dead <= to && outage.to.is_none_or(|ended| from <= ended))
        {
            errors.without_proxy += 1;
        } else {
            let last = outages.iter().rfind(|outage| outage.from <= to);
            panic!(
                "an error without an outage, {:?} ago after {:?}: {:?}; {last:?}",
                to.elapsed(),
                to - from,
                failure.what
            );
        }
    }
    errors
}
