//! Groups `start_jobs`, `proof_requests`, `tools`: one frame, the scripted answers of the proxy, the
//! frames of the worker and its requests. No key stands in them: the worker asks inside its process.

use super::overrides;
use super::rig::{Rig, normative, settings};
use crate::examples::{list, text};
use crate::report::{Group, same};
use serde_json::{Value, json};
use tensorpow_server::broker::tools::read_list;

fn each(cases: &Value, group: &mut Group, run: impl AsyncFn(&Value) -> Result<(), String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in list(cases) {
        group.case(text(case, "name"), runtime.block_on(run(case)));
    }
}

/// A worker that has heard the case's frame.
async fn told(case: &Value, rig: &mut Rig, expected: &[Value]) -> Vec<Value> {
    let answers = case["backend_responses"].as_array().cloned().unwrap_or_default();
    *rig.inside.answers.lock().unwrap() = answers.into();
    rig.connect();
    rig.say(&case["frame"]).await;
    rig.heard(expected.len()).await
}

/// Inference jobs. spec: broker §5
pub fn start_jobs(_: &Value, cases: &Value, group: &mut Group) {
    each(cases, group, async |case| {
        let expected = overrides::frames("start_jobs", text(case, "name"), 0, &case["frame"]);
        let expected = expected.unwrap_or_else(|| list(&case["out"]).to_vec());
        let mut rig = Rig::idle(settings());
        let ours = told(case, &mut rig, &expected).await;
        same("frames", normative(&ours), normative(&expected))?;
        let requests = rig.inside.requests.lock().unwrap().clone();
        let theirs: Vec<Value> = list(&case["backend_requests"])
            .iter()
            .map(|r| json!({ "method": r["method"], "path": r["path"], "json": r["json"] }))
            .collect();
        same("requests", requests, theirs)?;
        let busy = rig.session.as_ref().expect("a session").desk().active();
        same("busy afterwards", busy, 0)
    });
}

/// Audits. spec: broker §6
pub fn proof_requests(_: &Value, cases: &Value, group: &mut Group) {
    each(cases, group, async |case| {
        let expected = list(&case["out"]);
        let mut rig = Rig::idle(settings());
        let ours = told(case, &mut rig, expected).await;
        same("frames", normative(&ours), normative(expected))?;
        let asked = rig.inside.requests.lock().unwrap().clone();
        let asked: Vec<String> =
            asked.iter().map(|r| format!("{} {}", text(r, "method"), text(r, "path"))).collect();
        let theirs: Vec<String> = list(&case["backend_requests"])
            .iter()
            .map(|path| overrides::proof_path(path.as_str().expect("a path")))
            .collect();
        same("requests", asked, theirs)
    });
}

/// Tools. spec: broker §9
pub fn tools(_: &Value, cases: &Value, group: &mut Group) {
    each(cases, group, async |case| {
        let mut settings = settings();
        settings.tools = read_list(&case["worker_tools_json"].to_string());
        let expected = list(&case["out"]);
        let mut rig = Rig::idle(settings);
        let ours = match case.get("frame") {
            Some(_) => told(case, &mut rig, expected).await,
            // Tools are registered with each registration.
            None => {
                rig.connect();
                rig.say(&json!({ "type": "ACK" })).await;
                let mut heard = rig.heard(expected.len() + 1).await;
                heard.retain(|frame| frame["type"] != "HEARTBEAT");
                heard
            }
        };
        same("frames", normative(&ours), normative(expected))
    });
}
