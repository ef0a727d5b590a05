//! `tensorpow spool` on a folder that a proxy has left.

use crate::stage::{Recorder, Stage, message, share};
use std::path::Path;
use std::process::{Command, Output};
use tensorpow_server::mining::sink::Verdict;
use tensorpow_server::spool::{Spool, SpoolSettings};

fn tensorpow(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tensorpow"))
        .arg("spool")
        .args(arguments)
        .env("TENSORPOW_DATA_DIR", data)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_command_line_lists_shows_exports_and_replays() {
    let data = tempfile::tempdir().unwrap();
    let settings = SpoolSettings::in_folder(data.path().join("spool"));
    let refused = Verdict::Rejected { reason: "unreg-model", detail: "no such model".to_owned() };
    let stage = Stage::new(settings.clone(), Recorder::answering([refused])).await;
    stage.intake.take(share(1, "cmpl-1")).await;
    stage.wait_for_state(1, "dead").await;
    stage.intake.take(share(2, "cmpl-2\u{1b}[2J")).await;
    stage.intake.take(message(3, "cmpl-3", 9, true)).await;
    stage.wait_for_state(2, "confirmed").await;
    stage.end().await;

    let all = text(&tensorpow(data.path(), &["ls"]));
    assert_eq!(all.lines().count(), 3);
    assert!(!all.contains('\u{1b}'), "{all:?}");
    let dead = text(&tensorpow(data.path(), &["dead"]));
    assert!(dead.contains("recorder: dead (unreg-model)"), "{dead}");
    assert!(dead.contains("recorder: dead (stale_parent)"), "{dead}");
    assert_eq!(dead.lines().count(), 2);
    let json = text(&tensorpow(data.path(), &["ls", "--json", "--state", "confirmed"]));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["nonce"], &value["tier"]), (&2.into(), &"share".into()));
    let shown = text(&tensorpow(data.path(), &["show", "cmpl-1"]));
    assert!(shown.contains("no such model") && shown.contains("1 attempts"), "{shown}");
    let exported = tensorpow(data.path(), &["export", "cmpl-1", "--out", "-"]);
    assert_eq!(exported.stdout, share(1, "cmpl-1"));
    let out = data.path().to_str().unwrap();
    text(&tensorpow(data.path(), &["export", "0", "1", "2", "--out", out]));
    assert_eq!(
        std::fs::read(data.path().join("proof_2.bin")).unwrap(),
        message(3, "cmpl-3", 9, true)
    );

    let replayed = text(&tensorpow(data.path(), &["replay", "--reason", "unreg-model"]));
    assert!(replayed.contains("0 goes to recorder again"), "{replayed}");
    let sink = Recorder::answering([]);
    let stage = Stage::new(settings, sink.clone()).await;
    stage.wait_for_state(1, "confirmed").await;
    assert_eq!(sink.numbers(), [1]);
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let error = |arguments: &[&str]| {
        let output = tensorpow(data.path(), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(error(&["ls"]).contains("there is no spool at"));
    assert!(!data.path().join("spool").exists(), "looking leaves nothing behind");
    let spool = Spool::open(SpoolSettings::in_folder(data.path().join("spool"))).unwrap();
    assert!(error(&["ls"]).contains("/v1/spool"));
    drop(spool);
    assert!(error(&["show", "17"]).contains("no proof"));
    assert!(error(&["ls", "--state", "lost"]).contains("confirmed"));
    assert!(error(&["replay"]).contains("PROOFS"));
    assert!(text(&tensorpow(data.path(), &["replay", "--all"])).contains("0 deliveries"));
}
