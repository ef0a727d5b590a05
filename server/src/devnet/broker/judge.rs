//! The judgement on what a worker found: first as a broker sees it (is there a lease, does the
//! frame echo it, was the right target mined), then by the chain's own rules, every proof replayed
//! in full. Each judgement is written to the ledger; a worker never hears of it. spec: broker §7.5,
//! §7.6, §12 items 7 and 8

use super::Books;
use super::leases::Lease;
use crate::devnet::check::Rejection;
use crate::mining::sink::Verdict;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::target::share_target;

/// What a refusal is called, and in words.
type Refused = (&'static str, String);

/// Judges a `MINE_SHARE`. Takes milliseconds of work.
pub(super) fn share(books: &Books, worker: &str, frame: &Value) {
    let ruling = judge_share(books, worker, frame);
    let mut entry = named(worker, frame);
    entry["hash"] = frame["achieved_hash"].clone();
    match ruling {
        Ok(()) => entry["verdict"] = "accepted".into(),
        Err(refused) => refuse(&mut entry, refused),
    }
    books.ledger.record("share", entry);
}

/// Judges a `MINE_RESULT`. With a solution it takes milliseconds of work; true if the lease ended
/// without a block, so that the worker may want another.
pub(super) fn result(books: &Books, worker: &str, frame: &Value) -> bool {
    let mut entry = named(worker, frame);
    let job_id = frame["job_id"].as_str().unwrap_or_default();
    if let Some(error) = frame.get("error") {
        let token = error.as_str().unwrap_or_default().split(':').next().unwrap_or_default();
        entry["token"] = token.into();
        entry["error"] = error.clone();
        entry["closed"] = books.leases.live(worker, job_id).is_some().into();
        books.leases.close(job_id);
        books.ledger.record("declined", entry);
        return true;
    }
    let ruling = judge_solution(books, worker, frame, &mut entry);
    let refused = ruling.is_err();
    match ruling {
        Ok(Verdict::Block { height, hash }) => {
            entry["verdict"] = "accepted".into();
            entry["height"] = height.into();
            entry["block"] = hash.display().to_string().into();
        }
        Ok(other) => refuse(&mut entry, ("not_a_block", other.to_string())),
        Err(refused) => refuse(&mut entry, refused),
    }
    // A result ends its lease whatever it is worth; not the lease of another worker, though.
    if books.leases.live(worker, job_id).is_some() {
        books.leases.close(job_id);
    }
    books.ledger.record("solution", entry);
    refused
}

fn refuse(entry: &mut Value, (reason, detail): Refused) {
    entry["verdict"] = "refused".into();
    entry["reason"] = reason.into();
    entry["detail"] = detail.into();
}

fn named(worker: &str, frame: &Value) -> Value {
    json!({ "worker": worker, "job_id": frame["job_id"], "request_id": frame["request_id"] })
}

fn judge_share(books: &Books, worker: &str, frame: &Value) -> Result<(), Refused> {
    let lease = lease(books, worker, frame)?;
    let settings = books.chain.settings();
    // spec: broker §7.4
    let base = lease.base_share_target.ok_or(("shares_disabled", "no share target".to_owned()))?;
    let target = share_target(&base, settings.model.difficulty, settings.normalizer)
        .map_err(|error| ("shares_disabled", error.to_string()))?;
    let wanted = hex::encode(target.to_be_bytes());
    if frame["share_target"] != *wanted {
        let detail = format!("{} instead of {wanted}", frame["share_target"]);
        return Err(("share_target_mismatch", detail));
    }
    let message = decoded(&frame["proof_b64"])?;
    let (response, proof) = read(&message)?;
    same_request(&response, &lease)?;
    let hash = hex::encode(proof.hash);
    if frame["achieved_hash"] != *hash {
        let detail = format!("achieved_hash {} is not Proof.hash {hash}", frame["achieved_hash"]);
        return Err(("hash_mismatch", detail));
    }
    let first = proof.hash.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    if frame["nonce"].as_u64() != first.map(u64::from) {
        return Err(("bad-nonce", format!("{} for hash {hash}", frame["nonce"])));
    }
    if proof.is_solution {
        return Err(("is_a_solution", "a block hit is no share".to_owned()));
    }
    match books.chain.submit(&message) {
        Ok(Verdict::Share) => Ok(()),
        Ok(other) => Err(("not_a_share", other.to_string())),
        Err(rejection) => Err(by_chain(&rejection)),
    }
}

fn judge_solution(
    books: &Books,
    worker: &str,
    frame: &Value,
    entry: &mut Value,
) -> Result<Verdict, Refused> {
    let message = decoded(&frame["solution_b64"])?;
    let (response, proof) = read(&message)?;
    entry["hash"] = hex::encode(proof.hash).into();
    let lease = lease(books, worker, frame)?;
    same_request(&response, &lease)?;
    if !proof.is_solution {
        return Err(("not_a_solution", "the proof does not claim a block".to_owned()));
    }
    books.chain.submit(&message).map_err(|rejection| by_chain(&rejection))
}

/// The live lease a frame is for, if the frame echoes it in every field. spec: broker §7.5
fn lease(books: &Books, worker: &str, frame: &Value) -> Result<Lease, Refused> {
    let inactive = || ("lease_inactive", format!("no live lease of job {}", frame["job_id"]));
    let job_id = frame["job_id"].as_str().ok_or_else(inactive)?;
    let lease = books.leases.live(worker, job_id).ok_or_else(inactive)?;
    let echo = |field: &str, given: &Value| match frame[field] == *given {
        true => Ok(()),
        false => Err(("echo_mismatch", format!("{field} is {} instead of {given}", frame[field]))),
    };
    for field in ["work_unit_id", "wallet_id", "network"] {
        echo(field, &lease.request[field])?;
    }
    for field in ["template_id", "request_id"] {
        echo(field, &lease.request["template"][field])?;
    }
    echo("worker_id", &worker.into())?;
    Ok(lease)
}

fn decoded(field: &Value) -> Result<Vec<u8>, Refused> {
    let text = field.as_str().ok_or(("invalid_payload", "no message in base64".to_owned()))?;
    STANDARD.decode(text).map_err(|error| ("invalid_payload", error.to_string()))
}

fn read(message: &[u8]) -> Result<(MiningResponseRef<'_>, ProofRef<'_>), Refused> {
    let response =
        MiningResponseRef::read(message).map_err(|error| ("invalid_payload", error.to_string()))?;
    let proof = response.pow_blob.ok_or(("invalid_payload", "no proof in it".to_owned()))?;
    Ok((response, proof))
}

fn same_request(response: &MiningResponseRef<'_>, lease: &Lease) -> Result<(), Refused> {
    match response.req_id == lease.request_id {
        true => Ok(()),
        false => {
            let detail = format!("req_id is {} instead of {}", response.req_id, lease.request_id);
            Err(("req_id_mismatch", detail))
        }
    }
}

fn by_chain(rejection: &Rejection) -> Refused {
    (rejection.label(), rejection.to_string())
}
