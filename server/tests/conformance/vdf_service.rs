//! The VDF prover behind the jobs: which calls it gets, and what the mining context has afterwards.
//!
//! | event | where the specification replaces the reference |
//! |---|---|
//! | a pause | the prover is not stopped, so it is not started again afterwards; only its proofs are withheld (2, 17) |
//! | a proof | carries its challenge, and counts only for the block it belongs to (2) |

use crate::report::{Group, same};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_core::header::HeaderFields;
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};
use tensorpow_core::vdf::prover::{Progress, Published};
use tensorpow_core::vdf::{DISCRIMINANT_BITS, PROOF_BYTES};
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::job::{Job, JobUpdate};
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::payload::PayloadSettings;
use tensorpow_server::mining::prover::{Proving, StartProver, VdfFeed, VdfSettings};

/// The reference's seconds, shortened.
const SECOND: Duration = Duration::from_millis(200);

type Calls = Arc<Mutex<Vec<Value>>>;

/// A prover that notes its calls and has a longer proof whenever it is asked.
struct Noting {
    challenge: BlockHash,
    asked: Mutex<u64>,
    calls: Calls,
}

impl Proving for Noting {
    fn reset(&mut self, challenge: BlockHash) {
        self.challenge = challenge;
        self.calls.lock().expect("calls").push(json!(["reset", format!("{challenge:x}")]));
    }

    fn latest(&self) -> Option<Published> {
        let mut asked = self.asked.lock().expect("a count");
        *asked += 1;
        let tick = *asked * 32_768;
        Some(Published { challenge: self.challenge, tick, blob: [0; PROOF_BYTES] })
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.calls.lock().expect("calls").push(json!(["stop"]));
    }
}

/// Runs the trace: each event of the group is one case. spec: proxy §17
pub fn run(group: &Value, settings: PayloadSettings, report: &mut Group) {
    let calls = Calls::default();
    let noted = calls.clone();
    let start: StartProver = Box::new(move |challenge, settings: &VdfSettings| {
        let mut calls = noted.lock().expect("calls");
        let (size, most) = (settings.checkpoint, settings.max_iterations);
        calls.push(json!(["new", format!("{challenge:x}"), DISCRIMINANT_BITS, size, most]));
        calls.push(json!(["start"]));
        let calls = noted.clone();
        Ok(Box::new(Noting { challenge, asked: Mutex::default(), calls }))
    });
    let context = ContextCell::new(Models::default(), settings);
    let mut feed = VdfFeed::with_prover(VdfSettings::default(), context.pause().clone(), start);
    let mut shadow = Shadow::default();
    for (id, event) in group.as_array().expect("a list of events").iter().enumerate() {
        let op = &event["op"];
        let wait = match op[0].as_str() {
            Some("job") => {
                let job = job(&op[1], &op[2]);
                feed.follow(job.parent());
                context.apply(JobUpdate::Job(job));
                &op[3]
            }
            Some("pause") => {
                context.pause().extend(seconds(&op[1]));
                &op[2]
            }
            _ => &op[1],
        };
        if let Some(state) = feed.poll() {
            context.apply(JobUpdate::Vdf(state));
        }
        std::thread::sleep(seconds(wait));
        if let Some(state) = feed.poll() {
            context.apply(JobUpdate::Vdf(state));
        }
        let ours = std::mem::take(&mut *calls.lock().expect("calls"));
        let theirs = shadow.expected(op, &event["prover_calls"]);
        let (snapshot, block) = (context.load(), &event["block"]);
        let challenge = snapshot.vdf().map(|vdf| format!("{:x}", vdf.challenge));
        let outcome = same("prover calls", ours, theirs)
            .and_then(|()| {
                same("has_vdf", json!(snapshot.vdf().is_some()), event["has_vdf"].clone())
            })
            .and_then(|()| match (challenge, event["has_vdf"] == true) {
                (Some(challenge), true) => same("block", json!(challenge), block.clone()),
                _ => Ok(()),
            });
        report.case(id, outcome);
    }
}

fn seconds(value: &Value) -> Duration {
    SECOND.mul_f64(value.as_f64().expect("seconds"))
}

fn job(parent: &Value, request_id: &Value) -> Job {
    let parent = BlockHash::from_hex(parent.as_str().expect("a hash")).expect("a hash");
    let request_id = request_id.as_u64().and_then(|id| u32::try_from(id).ok());
    let prefix = HeaderPrefix::from_fields(&HeaderFields {
        version: 3,
        parent,
        merkle_root: MerkleRoot::from_bytes([0; 32]),
        time: 0,
        bits: CompactTarget::from_bits(0x207f_ffff),
    });
    let request_id = request_id.expect("a request id");
    Job { request_id, prefix, base_share_target: None, height: None }
}

/// What the reference's calls mean for a prover that a pause does not stop.
#[derive(Default)]
struct Shadow {
    challenge: Option<String>,
    /// The reference has stopped for a pause, ours has not.
    paused: bool,
}

impl Shadow {
    fn expected(&mut self, op: &Value, calls: &Value) -> Vec<Value> {
        let mut expected = Vec::new();
        for call in calls.as_array().expect("a list of calls") {
            match call[0].as_str() {
                Some("stop") if op[0] == "pause" => self.paused = true,
                Some("start") if expected.is_empty() => {}
                Some("new") if std::mem::take(&mut self.paused) => {
                    let challenge = call[1].as_str().map(str::to_owned);
                    if self.challenge != challenge {
                        expected.push(json!(["reset", challenge]));
                    }
                    self.challenge = challenge;
                }
                Some("new" | "reset") => {
                    self.challenge = call[1].as_str().map(str::to_owned);
                    expected.push(call.clone());
                }
                _ => expected.push(call.clone()),
            }
        }
        expected
    }
}
