//! One record of a registry list and what makes it a model that can be mined. The identity is
//! computed, not believed. spec: proxy §13.1, §13.2, node §5

use crate::mining::model::{ModelId, ModelRecord};
use serde_json::Value;
use tensorpow_core::target::Difficulty;

/// `status` of a registered model. spec: node §5
const REGISTERED: f64 = 2.0;

/// A record cannot be used; the others can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecord {
    /// Not a JSON object.
    #[error("a record is no object")]
    NotAnObject,
    /// A part of the model's identity is no text, empty, or has blanks around it.
    #[error("a record's {0} is missing, empty or padded with blanks")]
    Identity(&'static str),
    /// The hash is not that of `name@commit`.
    #[error("{id}: model_hash is {found:?}, but the model's hash is {expected}")]
    WrongHash {
        /// The model.
        id: ModelId,
        /// What the record says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// The difficulty is no positive integer: no block with this model could be valid.
    #[error("{id}: difficulty {found} is no positive integer")]
    Difficulty {
        /// The model.
        id: ModelId,
        /// What the record says.
        found: Value,
    },
}

impl BadRecord {
    /// The reason's label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::Identity(_) => "identity",
            Self::WrongHash { .. } => "wrong_hash",
            Self::Difficulty { .. } => "difficulty",
        }
    }

    /// All labels.
    pub const LABELS: [&str; 4] = ["not_an_object", "identity", "wrong_hash", "difficulty"];
}

/// Reads one record; `None` for a model whose status is not "registered".
///
/// # Errors
/// [`BadRecord`].
pub fn read_record(record: &Value) -> Result<Option<ModelRecord>, BadRecord> {
    let fields = record.as_object().ok_or(BadRecord::NotAnObject)?;
    let status = fields.get("status").filter(|status| !status.is_null());
    if status.is_some_and(|status| status.as_f64() != Some(REGISTERED)) {
        return Ok(None);
    }
    let text = |key: &'static str| {
        let text = fields.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty() && text.trim() == *text).ok_or(BadRecord::Identity(key))
    };
    let (name, commit) = (text("model_name")?, text("model_commit")?);
    let id = ModelId::new(name, commit).ok_or(BadRecord::Identity("model_name"))?;
    let (found, expected) = (text("model_hash")?, id.display_hash());
    if !found.eq_ignore_ascii_case(&expected) {
        return Err(BadRecord::WrongHash { id, found: found.to_owned(), expected });
    }
    let found = fields.get("difficulty").cloned().unwrap_or_default();
    let difficulty = found.as_i64().and_then(|value| Difficulty::new(value).ok());
    let Some(difficulty) = difficulty else { return Err(BadRecord::Difficulty { id, found }) };
    Ok(Some(ModelRecord {
        id,
        difficulty,
        cid: fields.get("cid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        // The older key is what other doubles of the registry know. spec: node §5.1
        commit_block_height: ["commit_block_height", "block_height"]
            .into_iter()
            .find_map(|key| fields.get(key).and_then(Value::as_u64))
            .unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(changes: Value) -> Value {
        let id: ModelId = "org/m@c0ffee".parse().unwrap();
        let mut record = json!({
            "model_hash": id.display_hash(),
            "model_name": "org/m",
            "model_commit": "c0ffee",
            "difficulty": 1_700_000,
            "status": 2,
            "cid": null,
            "commit_block_height": 12,
            "block_height": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            record[key] = value.clone();
        }
        record
    }

    #[test]
    fn a_registered_model_is_read() {
        let record = read_record(&with(json!({}))).unwrap().unwrap();
        assert_eq!(record.id.to_string(), "org/m@c0ffee");
        assert_eq!((record.difficulty.get(), record.commit_block_height), (1_700_000, 12));
        assert_eq!(record.payload_cid(), "QmDefault");
        let older = with(json!({"commit_block_height": null, "block_height": 7}));
        assert_eq!(read_record(&older).unwrap().unwrap().commit_block_height, 7);
    }

    #[test]
    fn the_status_decides() {
        for status in [json!(2), json!(2.0), Value::Null] {
            assert!(read_record(&with(json!({ "status": status }))).unwrap().is_some());
        }
        for status in [json!(0), json!(1), json!(3), json!(4), json!("2"), json!(true)] {
            assert_eq!(read_record(&with(json!({ "status": status }))), Ok(None), "{status}");
        }
    }

    #[test]
    fn bad_records_have_names() {
        let label = |record: &Value| read_record(record).unwrap_err().label();
        assert_eq!(label(&json!([])), "not_an_object");
        for key in ["model_name", "model_commit", "model_hash"] {
            for value in [json!(""), json!(" org/m"), json!(5), Value::Null] {
                assert_eq!(label(&with(json!({ key: value }))), "identity", "{key}");
            }
        }
        assert_eq!(label(&with(json!({"model_hash": "00"}))), "wrong_hash");
        assert_eq!(label(&with(json!({"model_commit": "other"}))), "wrong_hash");
        for difficulty in [json!(0), json!(-1), json!(1.5), json!("1"), Value::Null, json!(true)] {
            assert_eq!(label(&with(json!({ "difficulty": difficulty }))), "difficulty");
        }
    }
}
