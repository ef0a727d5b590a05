//! What engines say about themselves, read out of their own `/metrics` and `/props`. An engine that
//! says nothing is judged by what users feel alone.

use super::pressure::EngineLoad;
use serde_json::Value;

impl EngineLoad {
    /// The sums over all lines of an engine's Prometheus text; vLLM and llama.cpp by their names.
    #[must_use]
    pub fn of_metrics(text: &str) -> Self {
        let mut load = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name_end = line.find(['{', ' ']).unwrap_or(line.len());
            let field = match &line[..name_end] {
                "vllm:num_requests_running" | "llamacpp:requests_processing" => &mut load.running,
                "vllm:num_requests_waiting" | "llamacpp:requests_deferred" => &mut load.waiting,
                "vllm:generation_tokens_total" | "llamacpp:tokens_predicted_total" => {
                    &mut load.generated
                }
                _ => continue,
            };
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            if let Some(value) = value.filter(|value| (0.0..1e18).contains(value)) {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range
                let whole = value as u64;
                *field = Some(field.unwrap_or(0).saturating_add(whole));
            }
        }
        load
    }

    /// llama-server's number of slots.
    #[must_use]
    pub fn slots_of_props(props: &[u8]) -> Option<u64> {
        let props: Value = serde_json::from_slice(props).ok()?;
        props.get("total_slots")?.as_u64().filter(|slots| *slots > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_are_understood() {
        let vllm = "# HELP vllm:num_requests_running x\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 2.0\n\
            vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1.0\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\"} 7.0\n\
            vllm:generation_tokens_total{engine=\"0\"} 1.2e+06\n";
        let expected = EngineLoad {
            running: Some(5),
            waiting: Some(1),
            slots: None,
            generated: Some(1_200_000),
        };
        assert_eq!(EngineLoad::of_metrics(vllm), expected);
        let llama = "llamacpp:requests_processing 4\nllamacpp:requests_deferred 2\n\
            llamacpp:tokens_predicted_total 77\n";
        let load = EngineLoad::of_metrics(llama);
        assert_eq!((load.running, load.waiting, load.generated), (Some(4), Some(2), Some(77)));
        for odd in ["", "llamacpp:requests_deferred", "llamacpp:requests_deferred NaN", "x y z"] {
            assert_eq!(EngineLoad::of_metrics(odd), EngineLoad::default(), "{odd:?}");
        }
        assert_eq!(EngineLoad::slots_of_props(br#"{"total_slots":8}"#), Some(8));
        assert_eq!(EngineLoad::slots_of_props(br#"{"total_slots":0}"#), None);
        assert_eq!(EngineLoad::slots_of_props(b"<html>"), None);
    }
}
