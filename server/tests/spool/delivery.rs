//! From the spool to the sink: order, repetition, staleness, second chances.

use crate::stage::{Connected, Recorder, Stage, message, new_job, share, solution};
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// A stage whose sink is not connected yet.
async fn unconnected(allowed: usize) -> (Stage, Arc<Connected>) {
    let sink = Connected::new(allowed);
    let mut stage = Stage::idle(SpoolSettings::default(), sink.clone(), Some(1)).await;
    stage.deliver();
    (stage, sink)
}

/// Waits until the sink has seen so many, and a little for one too many.
async fn seen(sink: &Connected, count: usize) -> Vec<u32> {
    let started = Instant::now();
    while sink.numbers().len() < count {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", sink.numbers());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    sink.numbers()
}

#[tokio::test]
async fn after_a_reconnect_the_shares_that_waited_go_before_the_solutions_that_waited() {
    let (stage, sink) = unconnected(1).await;
    stage.intake.take(solution(1, "cmpl-1")).await;
    stage.intake.take(share(2, "cmpl-2")).await;
    stage.intake.take(solution(3, "cmpl-3")).await;
    stage.intake.take(share(4, "cmpl-4")).await;
    assert!(seen(&sink, 0).await.is_empty(), "nobody is there");
    tokio::time::sleep(Duration::from_millis(5)).await;
    sink.connect(true);
    assert_eq!(seen(&sink, 2).await, [2, 4], "the second is held");
    // What is found now has its turn behind them: a solution ends the work of the shares.
    stage.intake.take(solution(5, "cmpl-5")).await;
    sink.allowed.add_permits(10);
    assert_eq!(seen(&sink, 5).await, [2, 4, 1, 3, 5]);
}

#[tokio::test]
async fn a_solution_found_now_is_not_kept_back_by_shares_that_wait() {
    let (stage, sink) = unconnected(10).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.intake.take(share(2, "cmpl-2")).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    sink.connect(false);
    stage.intake.take(solution(3, "cmpl-3")).await;
    assert_eq!(seen(&sink, 1).await, [3]);
    stage.intake.take(share(4, "cmpl-4")).await;
    assert_eq!(seen(&sink, 2).await, [3, 4]);
    sink.connect(true);
    assert_eq!(seen(&sink, 4).await, [3, 4, 1, 2]);

    // A solution that waits is another matter: the later one of its job stays behind it.
    let (stage, sink) = unconnected(10).await;
    stage.intake.take(solution(1, "cmpl-1")).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    sink.connect(false);
    stage.intake.take(solution(2, "cmpl-2")).await;
    stage.intake.take(share(3, "cmpl-3")).await;
    assert_eq!(seen(&sink, 1).await, [3]);
    sink.connect(true);
    assert_eq!(seen(&sink, 3).await, [3, 1, 2]);
}

#[tokio::test]
async fn what_is_found_now_goes_in_the_order_in_which_it_came() {
    let (stage, sink) = unconnected(0).await;
    sink.connect(true);
    tokio::time::sleep(Duration::from_millis(5)).await;
    for number in 1..=6 {
        let id = format!("cmpl-{number}");
        let found = if number == 3 { solution(number, &id) } else { share(number, &id) };
        stage.intake.take(found).await;
    }
    assert_eq!(seen(&sink, 1).await, [1], "the others wait for the sink");
    sink.allowed.add_permits(10);
    assert_eq!(seen(&sink, 6).await, [1, 2, 3, 4, 5, 6], "no share overtakes the solution");
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
