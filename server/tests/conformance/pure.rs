//! Groups of pure functions: sampling bounds, usage, throughput, backfill ids. spec: proxy §11, §21.2

use crate::examples::{get, list, parse, text, unhex};
use crate::json::same_json;
use crate::report::{Group, same};
use serde_json::{Value, json};
use tensorpow_server::backfill::body::job_of;
use tensorpow_server::http::body::JsonObject;
use tensorpow_server::http::profile::apply_profile;
use tensorpow_server::http::usage::{Usage, UsageScan};
use tensorpow_server::throughput::Throughput;

pub fn sampler_rebound_v2(_: &Value, cases: &Value, group: &mut Group) {
    rebound(cases, 2, group);
}

pub fn sampler_rebound_v3(_: &Value, cases: &Value, group: &mut Group) {
    rebound(cases, 3, group);
}

fn rebound(cases: &Value, version: u8, group: &mut Group) {
    for (number, case) in list(cases).iter().enumerate() {
        let given = text(case, "in");
        let mut body = JsonObject::parse(given.as_bytes()).expect("an object");
        let ours = apply_profile(&mut body, version).map(|()| parse(&body.to_json()));
        let result = match get(case, "result").get("out") {
            Some(out) => match ours {
                Ok(ours) => same_json(given, &ours, &parse(out.as_str().expect("text"))),
                Err(error) => Err(format!("{given}: refused: {error}")),
            },
            // The reference fails on a wrong type; version 3 no longer looks at the value.
            None => same(given, ours.is_err(), version < 3),
        };
        group.case(number, result);
    }
}

/// The reference does not read the counts of the Responses API; both spellings count here.
/// spec: proxy §21.2
fn expected_usage(body: &Value, events: &Value) -> Value {
    let usage = body.get("usage").or_else(|| body.get("response")?.get("usage"));
    let tokens = |name: &str| usage.and_then(|usage| usage.get(name)?.as_u64());
    match (tokens("input_tokens"), tokens("output_tokens")) {
        (None, None) => events.clone(),
        (input, output) => json!([[input.unwrap_or(0), output.unwrap_or(0)]]),
    }
}

fn events(usage: Option<Usage>) -> Value {
    json!(usage.map(|usage| [usage.input, usage.output]).into_iter().collect::<Vec<_>>())
}

pub fn usage_from_json(_: &Value, cases: &Value, group: &mut Group) {
    for (number, case) in list(cases).iter().enumerate() {
        let body = text(case, "body");
        let ours = Usage::of_json(body.as_bytes());
        let theirs = get(get(case, "result"), "events");
        let read = serde_json::from_str(body).unwrap_or(Value::Null);
        let expected = expected_usage(&read, theirs);
        let output = ours.map_or(0, |usage| usage.output);
        let mut result = same(body, events(ours), expected.clone());
        if expected == *theirs {
            let totals =
                json!([ours.map_or(0, |usage| usage.input), output, u64::from(ours.is_some())]);
            result = result.and(same("totals", totals, get(get(case, "result"), "totals").clone()));
        }
        group.case(number, result);
    }
}

pub fn usage_from_sse(_: &Value, cases: &Value, group: &mut Group) {
    for (number, case) in list(cases).iter().enumerate() {
        let stream = unhex(text(case, "stream_hex"));
        let last_with_usage = String::from_utf8_lossy(&stream)
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
            .rfind(|event: &Value| event.to_string().contains("usage"))
            .unwrap_or(Value::Null);
        let expected = expected_usage(&last_with_usage, get(get(case, "result"), "events"));
        let result = [1, 7, stream.len().max(1)].into_iter().try_for_each(|size| {
            let mut scan = UsageScan::default();
            stream.chunks(size).for_each(|piece| _ = scan.feed(piece));
            same(&format!("in pieces of {size}"), events(scan.found()), expected.clone())
        });
        group.case(number, result);
    }
}

pub fn throughput(_: &Value, cases: &Value, group: &mut Group) {
    let float = |value: &Value| {
        let bits = u64::from_str_radix(text(value, "f64_bits"), 16).expect("hex");
        f64::from_bits(bits)
    };
    for (number, case) in list(cases).iter().enumerate() {
        let mut throughput = Throughput::default();
        for event in list(get(case, "events")) {
            let count = |index: usize| event[index].as_u64().expect("a count");
            throughput.record(float(&event[0]), Usage { input: count(1), output: count(2) });
        }
        let ours = throughput.rates(float(get(case, "now")));
        let ours = json!(ours);
        let result = get(case, "result").as_object().expect("an object");
        let outcome = result.iter().try_for_each(|(key, expected)| {
            let ours = get(&ours, key).as_f64().expect("a number");
            same(key, ours.to_bits(), float(expected).to_bits())
        });
        group.case(number, outcome);
    }
}

pub fn dummy_id_to_req_id(_: &Value, cases: &Value, group: &mut Group) {
    for case in list(cases) {
        let id = text(case, "dummy_id");
        let expected = get(get(case, "result"), "req_id");
        group.case(id, same(id, &json!(job_of(id)), expected));
    }
}
