//! Users first: nobody waits for backfill, the queue is bounded and says when to come back, and a
//! breaker that mining has opened is not theirs.

use crate::engine::Engine;
use crate::rig::Rig;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_server::breaker::BreakerState;

const LONG: Duration = Duration::from_secs(60);

/// Four slots, all of them full of long backfill.
async fn full_engine(slots_shown: Option<usize>) -> Arc<Rig> {
    let engine = Engine::start(4).await;
    engine.set(|it| {
        it.takes = |_| LONG;
        it.slots_shown = slots_shown;
    });
    let rig = Rig::mining(engine, "llama.cpp", |_| {}).await;
    rig.wait_for("full slots", |rig| rig.engine.running() == 4).await;
    Arc::new(rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_waits_for_backfill() {
    let rig = full_engine(Some(4)).await;
    let known = |rig: &Rig| rig.app.workload.priority.pressure().capacity() == Some(4);
    rig.wait_for("the number of slots", known).await;
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        let users: Vec<_> = (0..4)
            .map(|_| {
                let rig = rig.clone();
                tokio::spawn(async move { rig.stream().await })
            })
            .collect();
        for user in users {
            worst = worst.max(user.await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    println!("twenty users on four full slots: first byte within {worst:?}");
    assert!(worst < Duration::from_millis(500), "{worst:?}");
    rig.wait_for("backfill to come back", |rig| rig.engine.running() == 4).await;
    let metrics = rig.metrics().await;
    for line in [
        "tensorpow_backfill_requests_total{outcome=\"cancelled\",reason=\"preempted\"}",
        "tensorpow_first_token_seconds_count{route=\"/v1/chat/completions\",model=\"org/tiny\",class=\"user\",engine=\"http://127.0.0.1",
        "tensorpow_request_duration_seconds_count{route=\"backfill\"",
        "tensorpow_queue_wait_seconds_count{client=\"normal\",outcome=\"admitted\"} 20",
        "tensorpow_engine_connect_seconds_count{engine=\"http://127.0.0.1",
        "tensorpow_engine_load{requests=\"slots\",engine=\"http://127.0.0.1",
        "tensorpow_slo_burn_rate{objective=\"ttft_p95\",window=\"1h\"} 0",
        "tensorpow_economics{figure=\"idle_ratio\",energy_source=\"configured\"}",
        "tensorpow_recommended_replicas 1",
        "tensorpow_degradation_level 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_stream_alone_makes_room() {
    // This engine does not say how many slots it has.
    let rig = full_engine(None).await;
    let waited = rig.stream().await;
    println!("one user on four full slots of unknown number: first byte after {waited:?}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    let report = rig.app.workload.priority.report();
    assert!((1..=4).contains(&report.preempted), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_beside_room_cost_no_backfill() {
    let engine = Engine::start(64).await;
    engine.set(|it| it.takes = |_| LONG);
    let rig = Rig::mining(engine, "llama.cpp", |_| {}).await;
    rig.wait_for("the floor", |rig| rig.engine.running() == 4).await;
    for _ in 0..10 {
        rig.stream().await;
    }
    assert_eq!((rig.engine.running(), rig.engine.left()), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_bounded_and_says_when_to_come_back() {
    let engine = Engine::start(64).await;
    engine.set(|it| it.user_takes = Duration::from_millis(1_500));
    let rig = Rig::start(engine, "llama.cpp", |config| {
        config.workload.priority.queue.at_a_time = 1;
        config.workload.priority.queue.waiting = 1;
        config.workload.priority.queue.deadline = Duration::from_millis(500);
    })
    .await;
    let rig = Arc::new(rig);
    let ask = |rig: &Arc<Rig>| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.ask().await })
    };
    let first = ask(&rig);
    rig.wait_for("one inside", |rig| rig.app.workload.priority.occupancy().users == 1).await;
    let second = ask(&rig);
    rig.wait_for("one at the door", |rig| rig.app.workload.priority.occupancy().queued == 1).await;
    let began = Instant::now();
    let (status, retry, code) = rig.ask().await;
    assert_eq!((status, code.as_str()), (503, "queue_full"));
    assert!(retry.is_some_and(|seconds| seconds >= 1));
    assert!(began.elapsed() < Duration::from_millis(300), "a full queue answers at once");
    let (status, retry, code) = second.await.unwrap();
    assert_eq!((status, code.as_str(), retry.is_some()), (503, "queue_deadline", true));
    assert_eq!(first.await.unwrap().0, 200);
    assert_eq!(rig.ask().await.0, 200, "and then there is room again");
}

/// Mining fails, users do not notice; half open lets one request through, and it heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_opens_for_backfill_alone_and_heals_by_a_trial() {
    let engine = Engine::start(64).await;
    engine.set(|it| it.status = 500);
    let rig = Rig::mining(engine, "llama.cpp", |config| {
        config.workload.backfill.breaker.open_for = Duration::from_millis(600);
    })
    .await;
    let breaker = rig.app.workload.backfill.as_ref().unwrap().breaker().clone();
    let open = |_: &Rig| breaker.state() == BreakerState::Open;
    rig.wait_for("an open breaker", open).await;
    // What was under way when it opened still ends.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let asked = rig.engine.asked();
    assert!((5..=12).contains(&asked), "{asked} requests before it opened");
    assert_eq!(rig.users().state(), BreakerState::Closed, "users are not refused");
    let status = rig.status().await;
    assert_eq!(status["proxy"]["breakers"]["backfill"], "open");
    assert!(rig.metrics().await.contains("tensorpow_breaker_state{breaker=\"backfill\"} 2"));
    // The next trial fails as well: one request, and it is open again.
    rig.wait_for("a trial", |rig| rig.engine.asked() > asked).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.engine.asked(), asked + 1, "half open lets one through");
    rig.engine.set(|it| {
        it.status = 200;
        it.takes = |_| Duration::from_millis(400);
    });
    rig.engine.take_most();
    rig.wait_for("a trial that works", |rig| rig.engine.running() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.engine.take_most(), 1, "nothing beside the trial");
    rig.wait_for("the floor", |rig| rig.engine.running() == 4).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(breaker.trips() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_broken_engine_are_told_at_once_until_a_trial_succeeds() {
    let engine = Engine::start(64).await;
    let rig = Rig::start(engine, "llama.cpp", |config| {
        config.engine.breaker.open_for = Duration::from_millis(500);
    })
    .await;
    rig.engine.set_broken(true);
    // An engine that is up and broke off its answers may have been restarted: that is believed once.
    let mut bad = 0;
    loop {
        let asked = rig.engine.recorded("/v1/chat/completions").len();
        let (status, retry, _) = rig.ask().await;
        assert_eq!(status, 502);
        bad += 1;
        if retry.is_some() {
            assert_eq!(retry, Some(1), "the breaker answers");
            assert_eq!(rig.engine.recorded("/v1/chat/completions").len(), asked, "not the engine");
            break;
        }
        assert!(bad <= 11, "the breaker stays closed");
    }
    rig.engine.set_broken(false);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(rig.ask().await.0, 200, "the trial");
    assert_eq!(rig.users().state(), BreakerState::Closed);
    let budgets = rig.app.metrics.busy().budgets();
    let hour = budgets.iter().find(|budget| budget.objective.as_str() == "availability").unwrap();
    assert_eq!((hour.requests, hour.bad), (bad + 1, bad));
    assert!(hour.burn_rate > 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_engine_is_used_without_refusing_anybody() {
    let engine = Engine::start(64).await;
    let rig = Rig::start(engine, "llama.cpp", |config| {
        config.engine.breaker.open_for = Duration::from_secs(600);
        config.engine.breaker.open_at_most = Duration::from_secs(600);
    })
    .await;
    // The proxy has seen it healthy once before.
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.engine.set_broken(true);
    rig.engine.set_healthy(false);
    for _ in 0..5 {
        assert_eq!(rig.ask().await.0, 502);
    }
    let healthy = |rig: &Rig| rig.app.workload.backfill.as_ref().unwrap().engine().is_healthy();
    rig.wait_for("a bad probe", |rig| !healthy(rig)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.users().state(), BreakerState::Open);
    rig.engine.set_broken(false);
    rig.engine.set_healthy(true);
    let closed = |rig: &Rig| rig.users().state() == BreakerState::Closed;
    rig.wait_for("a closed breaker", closed).await;
    assert_eq!(rig.ask().await.0, 200);
}
