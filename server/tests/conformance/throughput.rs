//! Group `throughput`: events of completions and the rates they give, bit for bit.

use serde_json::Value;
use tensorpow_server::http::usage::Usage;
use tensorpow_server::throughput::Throughput;

/// The double whose bits an example spells out.
fn double(value: &Value) -> f64 {
    let bits = value["f64_bits"].as_str().expect("f64_bits");
    f64::from_bits(u64::from_str_radix(bits, 16).expect("hex"))
}

/// Runs every case; says how many.
///
/// # Panics
/// When a case disagrees.
pub fn run(cases: &Value) -> usize {
    let cases = cases.as_array().expect("a list of cases");
    for (index, case) in cases.iter().enumerate() {
        let mut throughput = Throughput::default();
        for event in case["events"].as_array().expect("events") {
            let count = |at: usize| event[at].as_u64().expect("a count");
            throughput.record(double(&event[0]), Usage { input: count(1), output: count(2) });
        }
        let rates = serde_json::to_value(throughput.rates(double(&case["now"]))).expect("JSON");
        let expected = case["result"].as_object().expect("a result");
        assert_eq!(rates.as_object().map(serde_json::Map::len), Some(expected.len()), "{index}");
        for (name, value) in expected {
            let found = rates[name].as_f64().expect("a number");
            let wanted = double(value);
            assert_eq!(found.to_bits(), wanted.to_bits(), "case {index}, {name}: {found} {wanted}");
        }
    }
    cases.len()
}
