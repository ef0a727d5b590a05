//! `tensorpow devnet node` and `tensorpow serve --node` as two processes that find each other, lose
//! each other, and find each other again.

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // addresses are enough here
#[path = "proxy/ports.rs"]
mod ports;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(arguments: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorpow"));
        // The environment of whoever runs the tests has no say.
        command.env_clear().args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `/status`, if there is one.
fn status(address: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn wait_for(what: &str, address: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let last = status(address);
        if let Some(status) = last.as_ref().filter(|status| holds(status)) {
            return status.clone();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no {what}: {last:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_worker_follows_its_node_through_a_restart() {
    let [http, collector, jobs, results, registry, engine] = ports::free_addresses();
    let node = |seed: u8| {
        arguments(&format!(
            "devnet node --seed {seed} --model org/tiny@c0ffee --interval 0.2 --proof-version 2 --jobs {jobs} \
         --results {results} --registry {registry} --registry-key k1 --backlog 50 --garbage-every 2"
        ))
    };
    let serve = arguments(&format!(
        "serve --node --network devnet --proof-version 2 --pin org/tiny@c0ffee --listen {http} \
         --collector {collector} --engine http://{engine} --jobs {jobs} --results {results} \
         --registry http://{registry} --registry-key k1 --vdf-checkpoint 64 --data-dir none"
    ));
    let mut first = Process::start(&node(1));
    let _worker = Process::start(&serve);
    let mined = |status: &Value| {
        status["context"]["has_vdf_proof"] == true
            && status["proxy"]["model_sync"]["models_loaded"] == 1
            && status["chain"]["zmq"]["results"]["connected"] == true
            && status["chain"]["zmq"]["nodes_connected"] == 1
    };
    let before = wait_for("job, proof, registry and result socket", &http, mined);
    assert_eq!(before["proxy"]["active_model"]["model_name"], "org/tiny");
    assert_eq!(before["proxy"]["proof_version"], 2);
    assert!(before["chain"]["zmq"]["jobs_superseded"].as_u64().unwrap() >= 40, "the backlog");

    first.kill();
    wait_for("farewell", &http, |status| status["chain"]["zmq"]["nodes_connected"] == 0);
    let _second = Process::start(&node(2));
    // Another genesis block: everything but the worker began anew.
    wait_for("new chain", &http, |status| {
        mined(status) && status["context"]["block_hash"] != before["context"]["block_hash"]
    });
}
