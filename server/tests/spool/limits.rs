//! Age and size, what goes first, and the room for what is no proof.

use crate::stage::{Recorder, Stage, message, share};
use std::sync::Arc;
use std::time::Duration;
use tensorpow_core::proof::{Encode, MiningResponseRef};
use tensorpow_server::intake::Taken;
use tensorpow_server::metrics::ProofDrop;
use tensorpow_server::mining::sink::Verdict;
use tensorpow_server::spool::{Delivery, DeliveryState, Prepared, Selection, SpoolSettings};

#[tokio::test]
async fn size_removes_the_settled_first_and_says_what_it_cost() {
    let mut settings = SpoolSettings::default();
    // About five entries of some 900 bytes.
    settings.retention.max_bytes = 4500;
    let sink = Recorder::answering([]);
    let stage = Stage::idle(settings, sink, Some(1)).await;
    // Pending ones first, then such that nobody waits for: those go, though they are younger.
    for number in 0..3 {
        stage.intake.take(share(number, "cmpl-pending")).await;
    }
    for number in 10..20 {
        stage.intake.take(message(number, "cmpl-stale", 2, false)).await;
        assert!(stage.spool.stats().bytes <= 4500);
    }
    let stats = stage.spool.stats();
    assert_eq!(stats.open, 3);
    assert_eq!((stats.evicted, stats.evicted_open), (13 - stats.entries, 0));
    let view = stage.spool.view().unwrap();
    assert_eq!(view.find("cmpl-pending", 0).unwrap().len(), 3);
    let stale = view.find("cmpl-stale", 0).unwrap();
    assert_eq!(stale.len() as u64, stats.entries - 3);
    assert_eq!(view.entry(stale.last().unwrap().seq).unwrap().unwrap().nonce, 19, "the newest");
    // More pending work than there is room: the oldest goes, and is counted.
    for number in 30..40 {
        stage.intake.take(share(number, "cmpl-pending")).await;
    }
    let stats = stage.spool.stats();
    assert!(stats.evicted_open > 0 && stats.bytes <= 4500, "{stats:?}");
    assert_eq!(stage.fate(0).await.0, "none");
    assert_eq!(stage.fate(39).await.0, "pending");
}

#[tokio::test]
async fn age_removes_bodies_ids_and_deliveries_alike() {
    let mut settings = SpoolSettings::default();
    settings.retention.max_age = Duration::from_millis(400);
    let stage = Stage::new(settings, Recorder::answering([])).await;
    assert_eq!(stage.intake.take(share(1, "cmpl-old")).await, Taken::Stored(0));
    stage.wait_for_state(1, "confirmed").await;
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(stage.intake.take(share(2, "cmpl-new")).await, Taken::Stored(1));
    stage.spool.sweep().await.unwrap();
    let view = stage.spool.view().unwrap();
    assert!(view.find("cmpl-old", 0).unwrap().is_empty());
    assert!(view.entry(0).unwrap().is_none() && view.deliveries(0).unwrap().is_empty());
    assert_eq!((stage.spool.stats().entries, stage.spool.stats().evicted), (1, 1));
    // Numbers are not used again, and what has gone may come again.
    assert_eq!(stage.intake.take(share(1, "cmpl-old")).await, Taken::Stored(2));
}

#[tokio::test]
async fn messages_that_are_no_proofs_are_dead_letters_in_a_room_of_their_own() {
    let mut settings = SpoolSettings::default();
    settings.retention.max_undecodable = 3;
    let stage = Stage::new(settings, Recorder::answering([])).await;
    stage.intake.take(share(1, "cmpl-a")).await;
    for byte in 0..10 {
        let taken = stage.intake.take(vec![byte; 200_000].into()).await;
        assert_eq!(taken, Taken::Dropped(ProofDrop::Malformed));
    }
    let no_proof = MiningResponseRef { completion_id: b"cmpl-p", ..Default::default() };
    let taken = stage.intake.take(no_proof.encode_to_vec().unwrap().into()).await;
    assert_eq!(taken, Taken::Dropped(ProofDrop::NoPowBlob));
    let dead = Selection { state: Some(DeliveryState::Dead), ..Selection::default() };
    let listed = stage.spool.read(move |view| view.list(&dead, 100)).await.unwrap();
    assert_eq!(listed.len(), 3);
    for listed in &listed {
        let (sink, delivery) = &listed.deliveries[0];
        assert_eq!((&**sink, &*delivery.reason), ("intake", "malformed"));
        assert_eq!((listed.entry.message_len, listed.entry.stored_len), (200_000, 65_536));
    }
    assert!(stage.store.find("cmpl-a", None).await.is_some());
    let text = stage.metrics.render(&Default::default()).unwrap();
    assert!(text.contains("reason=\"malformed\"} 10"), "{text}");
    assert!(text.contains("reason=\"no_pow_blob\"} 1"), "{text}");
}

#[tokio::test]
async fn what_goes_no_further_says_why() {
    let sink = Recorder::answering([Verdict::Rejected {
        reason: "bad-vdf-proof",
        detail: "tick 5".to_owned(),
    }]);
    let stage = Stage::new(SpoolSettings::default(), sink.clone()).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    assert_eq!(stage.wait_for_state(1, "dead").await, "bad-vdf-proof");
    let (name, delivery) = stage.deliveries(1).await.remove(0);
    assert_eq!((&*name, &*delivery.detail, delivery.attempts), ("recorder", "tick 5", 1));

    stage.intake.take(message(2, "cmpl-2", 9, true)).await;
    assert_eq!(stage.fate(2).await, ("dead", "stale_parent".to_owned()));
    stage.pause.extend(Duration::from_secs(60));
    stage.intake.take(share(3, "cmpl-3")).await;
    assert_eq!(stage.fate(3).await, ("dead", "paused".to_owned()));
    assert_eq!(sink.numbers(), [1]);
    for id in ["cmpl-1", "cmpl-2", "cmpl-3"] {
        assert!(stage.store.find(id, None).await.is_some(), "{id} is filed all the same");
    }
    // A proof of another model is no answer to anybody's request, but an operator can see it.
    let stage = Stage::new(SpoolSettings::default(), sink).await;
    let mut other = share(4, "cmpl-4").to_vec();
    let at = other.windows(8).position(|window| window == b"org/tiny").unwrap();
    other[at] = b'x';
    assert!(matches!(stage.intake.take(other.into()).await, Taken::Stored(_)));
    assert_eq!(stage.fate(4).await, ("dead", "other_model".to_owned()));
    assert!(stage.store.find("cmpl-4", None).await.is_none());
}

#[tokio::test]
async fn ten_thousand_marks_add_nothing_to_what_is_counted() {
    let stage = Stage::idle(SpoolSettings::default(), Arc::<Recorder>::default(), Some(1)).await;
    stage.intake.take(share(1, "cmpl-a")).await;
    let before = stage.spool.stats();
    for round in 0..50 {
        let mark = |attempts| tensorpow_server::spool::Mark {
            seq: 0,
            sink: "recorder",
            delivery: Delivery::sent(attempts),
        };
        stage.spool.mark((0..200).map(|n| mark(round * 200 + n)).collect()).await.unwrap();
    }
    assert_eq!(stage.spool.stats().bytes, before.bytes);
    assert_eq!(stage.deliveries(1).await[0].1.attempts, 49 * 200 + 199);
    // A mark for what is not there is no error.
    let gone = tensorpow_server::spool::Mark { seq: 99, sink: "x", delivery: Delivery::sent(1) };
    stage.spool.mark(vec![gone]).await.unwrap();
    assert_eq!(Prepared::undecodable(b"x", "malformed", String::new()).len(), 1);
}
