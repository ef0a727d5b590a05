//! A mining lease as it arrives, checked field by field in the order of the protocol before
//! anything is believed. spec: broker §7.2

use super::frames::{integer, text};
use super::leases::{Lease, LeasedModel};
use super::outgoing::{MineResult, Outgoing, WorkUnit};
use crate::mining::job::Job;
use serde_json::{Map, Value};
use tensorpow_core::target::{Target, parse_base_share_target};
use tensorpow_core::units::HeaderPrefix;

/// Hex digits of a header prefix.
const PREFIX_DIGITS: usize = 2 * HeaderPrefix::LEN;
/// What `mode` may say.
const MODES: [&str; 3] = ["disabled", "dummy_only", "request_attached"];
/// What `policy.submit_policy` may say.
const SUBMIT_POLICIES: [&str; 4] =
    ["tensorcash_core_node", "client_core_node", "return_to_client", "disabled"];

/// Why mining as a whole is not on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// It is.
    Wired,
    /// Mining is switched off.
    Disabled,
    /// There is nobody to take a job.
    NotAvailable,
}

/// A request is refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// Nothing is answered: nobody could tell whose answer it is.
    Silently,
    /// The job gets this answer.
    With(Box<Outgoing>),
}

/// Checks a request. spec: §7.2
///
/// # Errors
/// [`Refused`], with the answer.
pub fn read(frame: &Map<String, Value>, wiring: Wiring, worker_id: &str) -> Result<Lease, Refused> {
    let Some(job_id) = text(frame, "job_id") else { return Err(Refused::Silently) };
    let minimal = |error: String| {
        let job_id = job_id.clone();
        Refused::With(Box::new(Outgoing::MineResult(MineResult::Minimal { job_id, error })))
    };
    match wiring {
        Wiring::Wired => {}
        Wiring::Disabled => return Err(minimal("mining_disabled".to_owned())),
        Wiring::NotAvailable => return Err(minimal("mining_not_available".to_owned())),
    }
    let invalid = |problem: String| minimal(format!("invalid_payload: {problem}"));
    let request = Checked::read(frame, &job_id).map_err(invalid)?;
    if request.disabled {
        return Err(minimal("mining_disabled".to_owned()));
    }
    // From here on the request is known well enough to be answered in full.
    let unit = request.unit.clone();
    request.anchor().map_err(|problem| {
        Refused::With(Box::new(Outgoing::MineResult(MineResult::Full {
            unit,
            worker_id: worker_id.to_owned(),
            solution_b64: None,
            error: Some(format!("invalid_payload: {problem}")),
        })))
    })
}

/// A request whose fields all have the right form.
struct Checked {
    unit: WorkUnit,
    disabled: bool,
    model: LeasedModel,
    prefix: Vec<u8>,
    base_share_target: Option<Target>,
}

impl Checked {
    fn read(frame: &Map<String, Value>, job_id: &str) -> Result<Self, String> {
        let mode = required_text(frame, "mode")?;
        if !MODES.contains(&mode.as_str()) {
            return Err(format!("mode {mode:?} is none of {}", MODES.join(", ")));
        }
        let work_unit_id = required_integer(frame, "work_unit_id")?;
        let wallet_id = required_text(frame, "wallet_id")?;
        let network = required_text(frame, "network")?;
        let model = read_model(object(frame, "model")?)?;
        let template = object(frame, "template")?;
        let template_id = required_text(template, "template_id")?;
        let request_id = required_integer(template, "request_id")?;
        if request_id == 0 {
            return Err("template.request_id must be at least 1".to_owned());
        }
        let prefix = read_prefix(template)?;
        for key in ["block_hash", "target"] {
            present(template, key)?;
        }
        for key in ["bits", "expires_at"] {
            required_integer(template, key)?;
        }
        optional_integer(template, "share_shift_bits")?;
        check_policy(frame)?;
        if work_unit_id != request_id {
            return Err(format!(
                "work_unit_id {work_unit_id} is not template.request_id {request_id}"
            ));
        }
        Ok(Self {
            unit: WorkUnit {
                job_id: job_id.to_owned(),
                work_unit_id,
                wallet_id,
                network,
                template_id,
                request_id,
            },
            disabled: mode == "disabled",
            model,
            prefix,
            base_share_target: base_share_target(template),
        })
    }

    /// The header the request is about. spec: §7.2 step 5
    fn anchor(self) -> Result<Lease, String> {
        let request_id = u32::try_from(self.unit.request_id)
            .map_err(|_| format!("request id {} does not fit u32", self.unit.request_id))?;
        let bytes: [u8; HeaderPrefix::LEN] = self
            .prefix
            .try_into()
            .map_err(|bytes: Vec<u8>| format!("header_prefix has {} bytes, not 76", bytes.len()))?;
        let job = Job {
            request_id,
            prefix: HeaderPrefix::from_bytes(bytes),
            base_share_target: self.base_share_target,
            height: None,
        };
        Ok(Lease { unit: self.unit, model: self.model, job })
    }
}

/// 152 characters of hex; blanks between bytes are what the reference's reader skips, and leave a
/// prefix that is too short. spec: §7.2 steps 4, 5
fn read_prefix(template: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let digits = required_text(template, "header_prefix")?;
    if digits.len() != PREFIX_DIGITS {
        return Err(format!("template.header_prefix has {} digits, not 152", digits.len()));
    }
    let packed: String = digits.split_ascii_whitespace().collect();
    hex::decode(packed).map_err(|error| format!("template.header_prefix is no hex: {error}"))
}

/// The new name wins, an empty new name falls back to the old one. What is no target means no
/// shares; blocks are mined all the same. spec: §7.2, §7.4
fn base_share_target(template: &Map<String, Value>) -> Option<Target> {
    let given = text(template, "base_share_target").or_else(|| text(template, "share_target"))?;
    match parse_base_share_target(&given) {
        Ok(target) => Some(target),
        Err(error) => {
            tracing::warn!(%error, "the lease's share target is none: blocks only");
            None
        }
    }
}

fn read_model(model: &Map<String, Value>) -> Result<LeasedModel, String> {
    optional_integer(model, "registry_height")?;
    let part = |key| required_text(model, key).map(|text| text.trim().to_owned());
    Ok(LeasedModel { name: part("name")?, commit: part("commit")? })
}

fn check_policy(frame: &Map<String, Value>) -> Result<(), String> {
    let policy = match frame.get("policy") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(policy)) => policy,
        Some(_) => return Err("policy is no object".to_owned()),
    };
    optional_integer(policy, "max_parallel")?;
    match policy.get("submit_policy") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(known)) if SUBMIT_POLICIES.contains(&known.as_str()) => Ok(()),
        Some(other) => Err(format!("policy.submit_policy {other} is not known")),
    }
}

fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, String> {
    object.get(key).ok_or_else(|| format!("{key} is missing"))
}

fn object<'a>(frame: &'a Map<String, Value>, key: &str) -> Result<&'a Map<String, Value>, String> {
    present(frame, key)?.as_object().ok_or_else(|| format!("{key} is no object"))
}

fn required_text(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    let value = present(object, key)?;
    value.as_str().map(ToOwned::to_owned).ok_or_else(|| format!("{key} is no text"))
}

fn required_integer(object: &Map<String, Value>, key: &str) -> Result<u64, String> {
    let value = present(object, key)?;
    integer(value).ok_or_else(|| format!("{key} {value:.40} is no integer from 0 on"))
}

fn optional_integer(object: &Map<String, Value>, key: &str) -> Result<(), String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(()),
        Some(_) => required_integer(object, key).map(|_| ()),
    }
}
