//! What is put is there after a restart, byte for byte, each proof once.

use crate::disk::Disk;
use crate::stage::{MODEL, Recorder, Stage, message, share, solution};
use futures_util::future::join_all;
use std::sync::atomic::Ordering;
use tensorpow_core::archive;
use tensorpow_core::proof::{Encode, MiningResponseRef};
use tensorpow_server::intake::Taken;
use tensorpow_server::spool::{Form, Selection, Spool, SpoolError, SpoolHealth, SpoolSettings};

const PROOF: &[u8] = include_bytes!("../proofs/full_v1.tpwa");

#[tokio::test]
async fn proofs_survive_a_restart_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path().join("spool"));
    let mut proof = archive::decode(PROOF).unwrap();
    proof.model_identifier = MODEL.as_bytes().to_vec();
    let full = |req_id| {
        let proof = Some(proof.as_ref());
        let response = MiningResponseRef {
            req_id,
            pow_blob: proof,
            completion_id: b"cmpl-full",
            ..Default::default()
        };
        response.encode_to_vec().unwrap()
    };
    let mut foreign = share(1, "cmpl-x-0").to_vec();
    foreign.extend_from_slice(b"trailing");
    let messages = [full(7), foreign, share(2, "cmpl-x-0").to_vec(), share(3, "cmpl-x-1").to_vec()];
    let stage = Stage::new(settings.clone(), Recorder::answering([])).await;
    for (seq, message) in (0..).zip(&messages) {
        assert_eq!(stage.intake.take(message.clone().into()).await, Taken::Stored(seq));
    }
    stage.end().await;

    let stage = Stage::new(settings, Recorder::answering([])).await;
    assert_eq!(stage.spool.health(), SpoolHealth::Durable);
    for (id, index, canonical, expected, count) in [
        ("cmpl-full", None, "cmpl-full", 0, 1),
        ("cmpl-full-0", None, "cmpl-full", 0, 1),
        ("cmpl-x-0", Some(0), "cmpl-x-0", 1, 2),
        ("cmpl-x-0", None, "cmpl-x-0", 2, 2),
        ("cmpl-x", Some(1), "cmpl-x-0", 2, 3),
        ("cmpl-x", None, "cmpl-x-1", 3, 3),
    ] {
        // The second time it comes out of the cache.
        for _ in 0..2 {
            let found = stage.store.find(id, index).await.expect(id);
            assert_eq!(found.canonical_id, canonical, "{id}");
            assert_eq!(found.aliased, id != canonical, "{id}");
            assert_eq!(found.count, count, "{id}");
            assert!(found.proof.message == messages[expected], "{id}");
        }
    }
    for id in ["cmpl-x-0-0", "cmpl", "cmpl-x-2-1", ""] {
        assert!(stage.store.find(id, None).await.is_none(), "{id:?}");
    }
    assert!(stage.store.find("cmpl-x", Some(3)).await.is_none());
    let (count, keys) = stage.store.keys(2).await;
    assert_eq!((count, keys), (3, vec!["cmpl-full".to_owned(), "cmpl-x-0".to_owned()]));
    let listed = stage.spool.read(|view| view.list(&Selection::default(), 10)).await.unwrap();
    let forms: Vec<Form> = listed.iter().rev().map(|listed| listed.entry.form).collect();
    assert_eq!(forms, [Form::Compact, Form::Raw, Form::Compact, Form::Compact]);
}

#[tokio::test]
async fn a_burst_costs_few_syncs() {
    let disk = Disk::default();
    let stage = Stage::idle(disk.settings(), Recorder::answering([]), Some(1)).await;
    disk.sync_ms.store(20, Ordering::SeqCst);
    let before = disk.syncs.load(Ordering::SeqCst);
    let burst = (0..200).map(|number| stage.intake.take(share(number, "cmpl-burst")));
    assert!(join_all(burst).await.iter().all(|taken| matches!(taken, Taken::Stored(_))));
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 100, "{syncs} syncs for 200 proofs");
    assert_eq!(stage.store.find("cmpl-burst", None).await.unwrap().count, 200);
}

#[tokio::test]
async fn nothing_is_known_or_forwarded_before_it_is_on_disk() {
    let (disk, sink) = (Disk::default(), Recorder::answering([]));
    let stage = Stage::new(disk.settings(), sink.clone()).await;
    disk.hanging.store(true, Ordering::SeqCst);
    let take = stage.intake.take(solution(1, "cmpl-a"));
    tokio::pin!(take);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut take).await;
    assert!(early.is_err(), "acknowledged before the sync");
    assert!(stage.store.find("cmpl-a", None).await.is_none());
    assert!(sink.seen().is_empty());
    disk.hanging.store(false, Ordering::SeqCst);
    assert_eq!(take.await, Taken::Stored(0));
    stage.wait_for_state(1, "confirmed").await;
    assert!(stage.store.find("cmpl-a", None).await.is_some());
}

#[tokio::test]
async fn the_same_proof_is_stored_and_forwarded_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    let sink = Recorder::answering([]);
    let stage = Stage::new(settings.clone(), sink.clone()).await;
    assert_eq!(stage.intake.take(share(1, "cmpl-a")).await, Taken::Stored(0));
    assert_eq!(stage.intake.take(share(1, "cmpl-a")).await, Taken::Duplicate);
    // Two requests with the same text: the second id finds the same proof.
    assert_eq!(stage.intake.take(share(1, "cmpl-b")).await, Taken::Duplicate);
    stage.wait_for_state(1, "confirmed").await;
    stage.end().await;
    let stage = Stage::new(settings, sink.clone()).await;
    assert_eq!(stage.intake.take(share(1, "cmpl-c")).await, Taken::Duplicate);
    for id in ["cmpl-a", "cmpl-b", "cmpl-c"] {
        assert_eq!(stage.store.find(id, None).await.unwrap().count, 1, "{id}");
    }
    assert_eq!(stage.spool.stats().entries, 1);
    assert_eq!(sink.numbers(), [1]);
    // Another parent makes another proof.
    assert_eq!(stage.intake.take(message(1, "cmpl-a", 2, false)).await, Taken::Stored(1));
}

#[test]
fn a_second_process_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(folder.path());
    let first = Spool::open(settings.clone()).unwrap();
    let error = Spool::open(settings.clone()).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }) && error.is_fatal(), "{error}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
    drop(first);
    Spool::open(settings).unwrap();
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_spool() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("data/spool");
    let spool = Spool::open(SpoolSettings::in_folder(&place)).unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&place.join("proofs.redb"))), (0o700, 0o600));
    drop(spool);
}
