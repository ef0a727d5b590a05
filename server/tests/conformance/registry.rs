//! The model registry: lists applied one after the other, then lookups.
//!
//! | what | where the specification replaces the reference |
//! |---|---|
//! | `model_hash` | computed from `name@commit` (13.1). The examples' hashes are made up, so each record gets its right one before it is applied, and a list with wrong ones must leave nothing |
//! | `auto`, several commits | by `commit_block_height`, then commit (12.2) |
//! | `auto`, unknown name | no record: a request's model is never rewritten (12.1) |

use crate::report::{Group, same};
use serde_json::{Value, json};
use std::sync::Arc;
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::model::{ModelId, ModelRecord, Models};
use tensorpow_server::mining::payload::PayloadSettings;
use tensorpow_server::mining::registry::Registry;
use tensorpow_server::registry::registrar::Registrar;

/// Runs the group. spec: proxy §13
pub fn run(examples: &Value, group: &Value, settings: PayloadSettings, report: &mut Group) {
    for case in group.as_array().expect("a list of cases") {
        let lists: Vec<&Value> = case["payloads"]
            .as_array()
            .expect("a list of payloads")
            .iter()
            .map(|list| if list.is_array() { list } else { &examples["registry_default"] })
            .collect();
        let right: Vec<Vec<Value>> = lists.iter().map(|list| with_right_hashes(list)).collect();
        let context = Arc::new(ContextCell::new(Models::default(), settings));
        let registrar = Registrar::new(context.clone());
        for list in &right {
            registrar.apply("test", list);
        }
        let snapshot = context.load();
        let (models, result) = (snapshot.models(), &case["result"]);
        let outcome = same("initialized", json!(models.loaded), result["initialized"].clone())
            .and_then(|()| {
                same("hashes", hashes(&models.registry), expected_hashes(result, &lists))
            })
            .and_then(|()| same("names", names(&models.registry), result["names"].clone()))
            .and_then(|()| lookups(&models.registry, case, &right))
            .and_then(|()| wrong_hashes_leave_nothing(&lists, settings));
        report.case(case["name"].as_str().unwrap_or_default(), outcome);
    }
}

fn id_of(record: &Value) -> Option<ModelId> {
    ModelId::new(record["model_name"].as_str()?, record["model_commit"].as_str()?)
}

fn with_right_hashes(list: &Value) -> Vec<Value> {
    let right = |record: &Value| {
        let mut record = record.clone();
        if let Some(id) = id_of(&record) {
            record["model_hash"] = id.display_hash().into();
        }
        record
    };
    list.as_array().expect("a list of records").iter().map(right).collect()
}

/// No list of the examples has a right hash of its own.
fn wrong_hashes_leave_nothing(lists: &[&Value], settings: PayloadSettings) -> Result<(), String> {
    let context = Arc::new(ContextCell::new(Models::default(), settings));
    for list in lists {
        Registrar::new(context.clone()).apply("test", list.as_array().expect("a list"));
    }
    same("models with wrong hashes", context.load().models().registry.records().len(), 0)
}

fn hashes(registry: &Registry) -> Vec<String> {
    registry.records().iter().map(|record| record.id.display_hash()).collect()
}

/// The examples' hashes, each replaced by the right one of the record that has it.
fn expected_hashes(result: &Value, lists: &[&Value]) -> Vec<String> {
    let records: Vec<&Value> = lists.iter().filter_map(|list| list.as_array()).flatten().collect();
    let right = |hash: &Value| {
        let record = records.iter().rev().find(|record| record["model_hash"] == *hash);
        record.and_then(|record| id_of(record)).map(|id| id.display_hash()).unwrap_or_default()
    };
    result["hashes"].as_array().expect("hashes").iter().map(right).collect()
}

fn names(registry: &Registry) -> Value {
    let mut names = serde_json::Map::new();
    for record in registry.records() {
        let commits = names.entry(record.id.name()).or_insert_with(|| json!([]));
        commits.as_array_mut().expect("a list").push(record.id.commit().into());
    }
    names.into()
}

fn lookups(registry: &Registry, case: &Value, lists: &[Vec<Value>]) -> Result<(), String> {
    let asked = case["lookups"].as_array().expect("lookups");
    let answers = case["result"]["lookups"].as_array().expect("answers");
    for (question, answer) in asked.iter().zip(answers) {
        let part = |at: usize| question[at].as_str().unwrap_or_default();
        let name = part(1);
        let (ours, theirs) = match part(0) {
            "name_commit" => (shown(registry.by_name_and_commit(name, part(2))), known(answer)),
            "name" => match registry.by_name(name) {
                Ok(record) => (shown(record), known(answer)),
                Err(error) => (json!(error.to_string()), answer["message"].clone()),
            },
            "auto" => (shown(registry.auto_select(name)), selected(lists.last(), name)),
            other => return Err(format!("unknown lookup {other:?}")),
        };
        same(&question.to_string(), ours, theirs)?;
    }
    Ok(())
}

/// What both sides say about a record.
fn shown(record: Option<&ModelRecord>) -> Value {
    record.map_or(Value::Null, |record| {
        json!([record.id.name(), record.id.commit(), record.difficulty.get(), record.cid])
    })
}

fn known(record: &Value) -> Value {
    match record.is_null() {
        true => Value::Null,
        false => json!([
            record["model_name"],
            record["model_commit"],
            record["difficulty"],
            record["cid"].as_str().unwrap_or_default(),
        ]),
    }
}

/// The override for `auto`: of the last list's registered records of the name.
fn selected(list: Option<&Vec<Value>>, name: &str) -> Value {
    let key = |record: &&Value| {
        let height = record["commit_block_height"].as_u64().or(record["block_height"].as_u64());
        (height.unwrap_or(0), record["model_commit"].as_str().unwrap_or_default().to_owned())
    };
    let active = |record: &&Value| record["status"].is_null() || record["status"] == 2;
    let records = list.into_iter().flatten().filter(|record| record["model_name"] == name);
    records.filter(active).max_by_key(key).map_or(Value::Null, known)
}
