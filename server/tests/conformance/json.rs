//! JSON values compared as the reference compares them (50 and 50.0 are one number), and what differs
//! between two of them.

use serde_json::Value;

/// The value with every number that is whole written as an integer.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        _ => value.clone(),
    }
}

/// `Ok` when both are equal, else the places where they differ.
pub fn same_json(what: &str, ours: &Value, expected: &Value) -> Result<(), String> {
    let (ours, expected) = (plain(ours), plain(expected));
    let mut places = Vec::new();
    differences(&ours, &expected, String::new(), &mut places);
    if places.is_empty() { Ok(()) } else { Err(format!("{what}: {}", places.join("; "))) }
}

fn differences(ours: &Value, expected: &Value, place: String, places: &mut Vec<String>) {
    let keys = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(members) => members.keys().cloned().collect(),
            Value::Array(items) => (0..items.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        }
    };
    let nested = |value: &Value| value.is_object() || value.is_array();
    if nested(ours) && nested(expected) && ours.is_object() == expected.is_object() {
        let mut names = keys(ours);
        names.extend(keys(expected).into_iter().filter(|name| !keys(ours).contains(name)));
        for name in names {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            match (ours.pointer(&pointer), expected.pointer(&pointer)) {
                (Some(ours), Some(expected)) => {
                    differences(ours, expected, format!("{place}{pointer}"), places);
                }
                (Some(ours), None) => {
                    places.push(format!("{place}{pointer} = {ours:.120} is too much"));
                }
                (None, Some(expected)) => {
                    places.push(format!("{place}{pointer} = {expected:.120} is missing"));
                }
                (None, None) => {}
            }
        }
    } else if ours != expected {
        places.push(format!("{place}: ours {ours:.120}, expected {expected:.120}"));
    }
}
