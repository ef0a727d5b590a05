//! A disk that is full, hangs, is not there or holds garbage: typed errors, proofs that go on from
//! memory, and the way back.

use crate::disk::Disk;
use crate::stage::{Recorder, Stage, share, solution};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tensorpow_server::intake::Taken;
use tensorpow_server::mining::sink::{Attempt, Verdict};
use tensorpow_server::spool::{Spool, SpoolHealth, SpoolSettings};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_full_disk_stops_nothing_and_what_comes_after_is_durable_again() {
    let (disk, sink) = (Disk::default(), Recorder::answering([]));
    let stage = Stage::new(disk.settings(), sink.clone()).await;
    assert_eq!(stage.intake.take(share(1, "cmpl-1")).await, Taken::Stored(0));
    stage.wait_for_state(1, "confirmed").await;
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(stage.intake.take(solution(2, "cmpl-2")).await, Taken::Unstored);
        // Memory recognises it.
        assert_eq!(stage.intake.take(solution(2, "cmpl-2")).await, Taken::Duplicate);
        break;
    }
    let SpoolHealth::Degraded { why } = stage.spool.health() else { panic!("not degraded") };
    assert!(why.contains("storage failed"), "{why}");
    until("the solution", || sink.numbers() == [1, 2]).await;
    assert!(stage.store.find("cmpl-2", None).await.is_some());
    // Further failures are found out at once.
    let started = Instant::now();
    assert_eq!(stage.intake.take(share(3, "cmpl-3")).await, Taken::Unstored);
    assert!(started.elapsed() < Duration::from_secs(2));

    disk.full.store(false, Ordering::SeqCst);
    until("the disk", || stage.spool.health() == SpoolHealth::MemoryOnly).await;
    assert_eq!(stage.intake.take(share(4, "cmpl-4")).await, Taken::Stored(1));
    for id in ["cmpl-1", "cmpl-2", "cmpl-3", "cmpl-4"] {
        assert!(stage.store.find(id, None).await.is_some(), "{id}");
    }
    until("all of them", || sink.numbers() == [1, 2, 3, 4]).await;
    assert!(stage.spool.stats().failures > 0);
    stage.end().await;
    let sink = Recorder::answering([]);
    let stage = Stage::new(disk.settings(), sink.clone()).await;
    assert!(stage.store.find("cmpl-1", None).await.is_some(), "nothing stored was lost");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(sink.seen().is_empty(), "nothing goes twice");
}

#[tokio::test]
async fn a_proof_that_waits_for_the_sink_is_stored_when_the_disk_is_back() {
    let away = || Verdict::Unavailable { detail: "away".to_owned() };
    let (disk, sink) = (Disk::default(), Recorder::answering([away()]));
    let stage = Stage::new(disk.settings(), sink.clone()).await;
    disk.full.store(true, Ordering::SeqCst);
    assert_eq!(stage.intake.take(share(1, "cmpl-1")).await, Taken::Unstored);
    until("the first attempt", || !sink.seen().is_empty()).await;
    // Behind it, and still there when the disk is.
    assert_eq!(stage.intake.take(share(2, "cmpl-2")).await, Taken::Unstored);
    disk.full.store(false, Ordering::SeqCst);
    until("the disk", || stage.spool.health() == SpoolHealth::MemoryOnly).await;
    assert_eq!(stage.wait_for_state(2, "confirmed").await, "share");
}

#[tokio::test]
async fn a_disk_that_hangs_holds_nothing_up_and_nothing_is_new_twice() {
    let (disk, sink) = (Disk::default(), Recorder::answering([]));
    let mut settings = disk.settings();
    settings.patience = Duration::from_millis(100);
    let stage = Stage::new(settings.clone(), sink.clone()).await;
    disk.hanging.store(true, Ordering::SeqCst);
    assert_eq!(stage.intake.take(share(1, "cmpl-1")).await, Taken::Unstored);
    until("the proof, from memory", || sink.numbers() == [1]).await;
    disk.hanging.store(false, Ordering::SeqCst);
    // The commit came through after all: the spool knows that somebody has handed the proof over.
    stage.wait_for_state(1, "sent").await;
    stage.end().await;
    let sink = Recorder::answering([]);
    let stage = Stage::new(settings, sink.clone()).await;
    stage.wait_for_state(1, "confirmed").await;
    assert_eq!(sink.seen(), [(1, Attempt { number: 2, repeat: true })]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_named_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("spool");
    std::fs::write(&place, "a file is in the way").unwrap();
    let mut settings = SpoolSettings::in_folder(&place);
    settings.retry_every = Duration::from_millis(20);
    let sink = Recorder::answering([]);
    let stage = Stage::new(settings, sink.clone()).await;
    let SpoolHealth::Degraded { why } = stage.spool.health() else { panic!("not degraded") };
    assert!(why.contains(&place.display().to_string()), "{why}");
    assert_eq!(stage.intake.take(share(1, "cmpl-1")).await, Taken::Unstored);
    until("the proof", || sink.numbers() == [1]).await;
    assert_eq!(stage.store.find("cmpl-1-0", None).await.unwrap().canonical_id, "cmpl-1");
    std::fs::remove_file(&place).unwrap();
    until("the folder", || stage.spool.health() == SpoolHealth::Durable).await;
    assert!(matches!(stage.intake.take(share(2, "cmpl-2")).await, Taken::Stored(_)));
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    let stage = Stage::new(settings.clone(), Recorder::answering([])).await;
    for number in 0..20 {
        stage.intake.take(share(number, "cmpl-1")).await;
    }
    stage.end().await;
    let file = folder.path().join("proofs.redb");
    for damage in ["garbage", "zeros"] {
        let mut bytes = std::fs::read(&file).unwrap();
        match damage {
            "garbage" => bytes = vec![0x5a; 100_000],
            _ => bytes[..4096].fill(0),
        }
        std::fs::write(&file, bytes).unwrap();
        let spool = Spool::open(settings.clone()).unwrap();
        assert_eq!(spool.health(), SpoolHealth::Durable, "{damage}");
        assert_eq!(spool.stats().entries, 0, "{damage}");
        drop(spool);
    }
    let aside = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"))
        .count();
    assert!(aside >= 1, "nothing was set aside");
}

#[tokio::test]
async fn random_damage_never_stops_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    let stage = Stage::new(settings.clone(), Recorder::answering([])).await;
    for number in 0..20 {
        stage.intake.take(share(number, "cmpl-1")).await;
    }
    stage.end().await;
    let file = folder.path().join("proofs.redb");
    let whole = std::fs::read(&file).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..40 {
        let mut bytes = whole.clone();
        let at = random(bytes.len());
        let end = (at + 1 + random(5000)).min(bytes.len());
        bytes[at..end].fill(u8::try_from(random(256)).unwrap());
        std::fs::write(&file, bytes).unwrap();
        let stage = Stage::new(settings.clone(), Recorder::answering([])).await;
        // Whatever is left of the old ones, a new one is taken.
        let taken = stage.intake.take(solution(1000, "cmpl-new")).await;
        assert!(matches!(taken, Taken::Stored(_) | Taken::Unstored), "{taken:?}");
        assert!(stage.store.find("cmpl-new", None).await.is_some());
        let _ = stage.store.find("cmpl-1", None).await;
        stage.end().await;
    }
}
