//! From the spool to the sink: order, repetition, staleness, second chances.

use crate::stage::{Recorder, Stage, message, new_job, share, solution};
use std::time::Duration;
use tensorpow_server::mining::sink::{Attempt, Verdict};
use tensorpow_server::spool::{DeliveryState, Selection, SpoolSettings};

fn gone() -> Verdict {
    Verdict::Unavailable { detail: "not connected".to_owned() }
}

#[tokio::test]
async fn a_restart_delivers_what_was_not_confirmed_and_says_what_may_be_a_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    // The first is confirmed, the second in the sink's hands, the third waits behind it.
    let sink = Recorder::answering([Verdict::Share, gone()]);
    let stage = Stage::new(settings.clone(), sink.clone()).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.wait_for_state(1, "confirmed").await;
    stage.intake.take(solution(2, "cmpl-2")).await;
    stage.wait_for_state(2, "sent").await;
    stage.intake.take(share(3, "cmpl-3")).await;
    stage.cut().await;
    assert_eq!(sink.numbers()[..2], [1, 2]);

    let sink = Recorder::answering([]);
    let stage = Stage::new(settings.clone(), sink.clone()).await;
    stage.wait_for_state(3, "confirmed").await;
    assert_eq!(
        sink.seen(),
        [(2, Attempt { number: 2, repeat: true }), (3, Attempt::FIRST)],
        "in the order of arrival"
    );
    stage.end().await;

    let sink = Recorder::answering([]);
    let stage = Stage::new(settings, sink.clone()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(sink.seen().is_empty(), "everything is confirmed");
    drop(stage);
}

#[tokio::test]
async fn an_absent_sink_is_asked_again_and_a_proof_that_did_not_leave_is_no_repetition() {
    let sink = Recorder::answering([gone(), gone()]);
    let stage = Stage::new(SpoolSettings::default(), sink.clone()).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.intake.take(share(2, "cmpl-2")).await;
    stage.wait_for_state(2, "confirmed").await;
    let attempt = |number| Attempt { number, repeat: false };
    assert_eq!(sink.seen(), [(1, attempt(1)), (1, attempt(2)), (1, attempt(3)), (2, attempt(1))]);
}

#[tokio::test]
async fn on_shutdown_an_absent_sink_leaves_its_proofs_pending() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    let sink = Recorder::answering([gone(), gone(), gone()]);
    let stage = Stage::idle(settings.clone(), sink, Some(1)).await;
    for number in 1..=2 {
        stage.intake.take(share(number, "cmpl-1")).await;
    }
    stage.outbox.close();
    stage.outbox.clone().run().await;
    assert_eq!(stage.fate(1).await, ("pending", "unavailable".to_owned()));
    drop(stage);
    let sink = Recorder::answering([]);
    let stage = Stage::new(settings, sink.clone()).await;
    stage.wait_for_state(2, "confirmed").await;
    assert!(sink.seen().iter().all(|(_, attempt)| !attempt.repeat), "{:?}", sink.seen());
}

#[tokio::test]
async fn staleness_is_judged_when_a_job_is_known_and_right_before_delivery() {
    let sink = Recorder::answering([]);
    let mut stage = Stage::idle(SpoolSettings::default(), sink.clone(), None).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.intake.take(message(2, "cmpl-2", 2, false)).await;
    stage.deliver();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(sink.seen().is_empty(), "nobody can tell yet what is stale");
    new_job(&stage.context, 2);
    assert_eq!(stage.wait_for_state(1, "dead").await, "stale_parent");
    stage.wait_for_state(2, "confirmed").await;
    assert_eq!(sink.numbers(), [2]);

    // The tip moves while the sink is away.
    let sink = Recorder::answering([gone()]);
    let stage = Stage::new(SpoolSettings::default(), sink.clone()).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.wait_for_state(1, "sent").await;
    new_job(&stage.context, 2);
    assert_eq!(stage.wait_for_state(1, "dead").await, "stale_parent");
    assert_eq!(sink.seen().len(), 1);
}

#[tokio::test]
async fn dead_letters_get_a_second_chance_on_request() {
    let rejected = || Verdict::Rejected { reason: "busy", detail: String::new() };
    let sink = Recorder::answering([rejected(), rejected()]);
    let stage = Stage::new(SpoolSettings::default(), sink.clone()).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.intake.take(share(2, "cmpl-2")).await;
    stage.intake.take(message(3, "cmpl-3", 9, false)).await;
    stage.intake.take(b"no proof at all"[..].into()).await;
    stage.wait_for_state(2, "dead").await;
    let busy = Selection { reason: Some("busy".to_owned()), ..Selection::default() };
    let only_first = Selection { seqs: vec![0], ..busy.clone() };
    let replayed = stage.spool.replay(only_first).await.unwrap();
    assert_eq!(replayed, [(0, "recorder".to_owned())]);
    assert_eq!(stage.outbox.queue_open(Some(vec![0])).await.unwrap(), 1);
    stage.wait_for_state(1, "confirmed").await;
    // It had been in the sink's hands.
    assert_eq!(sink.seen().last(), Some(&(1, Attempt { number: 2, repeat: true })));
    // All that can be replayed: not what the intake refused.
    let replayed = stage.spool.replay(Selection::default()).await.unwrap();
    let seqs: Vec<u64> = replayed.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2]);
    stage.outbox.queue_open(Some(seqs)).await.unwrap();
    stage.wait_for_state(2, "confirmed").await;
    assert_eq!(stage.wait_for_state(3, "dead").await, "stale_parent");
    let dead = Selection { state: Some(DeliveryState::Dead), ..Selection::default() };
    assert_eq!(stage.spool.view().unwrap().list(&dead, 10).unwrap().len(), 2);
}
