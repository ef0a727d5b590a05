//! `tensorpow devnet broker` as a process: what it prints is enough to connect to it.

use crate::client::{PATIENCE, connect};
use crate::stage::MODEL;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
        let line = line.expect("the broker goes on");
        if line.contains(what) {
            return line;
        }
    }
}

#[tokio::test]
async fn the_command_prints_its_url_and_token_and_answers_its_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tensorpow"))
        .args(["devnet", "broker", "--model", MODEL, "--vdf-ticks", "64"])
        .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--prompt", "What is a tick?"])
        .arg("--ledger")
        .arg(&ledger)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = line_with(&mut lines, "ws://").await;
    let address: SocketAddr =
        url.split("ws://").nth(1).unwrap().strip_suffix("/v1/ws").unwrap().parse().unwrap();
    let token = line_with(&mut lines, "PROVIDER_JWT_TOKEN=").await;
    let token = format!("Bearer {}", token.split('=').nth(1).unwrap());
    let mut client = connect(address, "/v1/ws", Some(("authorization", token)))
        .await
        .expect("the token is good");
    client.register("w").await;
    let start = client.wait_for("START").await;
    assert_eq!(start["payload"]["messages"][0]["content"], "What is a tick?");
    let job = &start["job_id"];
    client.send(&json!({"type":"ACK","job_id":job})).await;
    client
        .send(&json!({"type":"CHUNK","job_id":job,"completion_id":"c1",
            "delta":{"content":"A squaring."}}))
        .await;
    client.send(&json!({"type":"END","job_id":job,"completion_id":"c1","usage":{}})).await;
    line_with(&mut lines, "A squaring.").await;
    line_with(&mut lines, "Completion \"c1\"").await;
    let written = std::fs::read_to_string(&ledger).unwrap();
    let kinds: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    for kind in ["connection", "hello", "lease", "start", "job"] {
        assert!(kinds.contains(&kind.into()), "{kind} in {kinds:?}");
    }
}
