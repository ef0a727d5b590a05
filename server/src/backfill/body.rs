//! The two forms of a backfill request. vLLM runs it in the background and keeps the answer under an
//! id of ours, so that it can be polled and cancelled; llama.cpp answers it like any completion and
//! stops when the connection is dropped. spec: proxy §14.3

use super::prompt::dice::Dice;
use crate::http::inject::Route;
use crate::mining::payload::EngineKind;
use crate::priority::slots::Mines;
use bytes::Bytes;
use serde_json::json;

/// The id of one try: `resp_dummy_{first 8 of the parent}_{job}_{8 hex}`. vLLM makes its response id
/// of it and needs the prefix; the job is read back from the fourth field. spec: proxy §14.2
#[must_use]
pub fn completion_id(mines: &Mines, dice: &mut Dice) -> String {
    let parent = format!("{:x}", mines.parent);
    let random = dice.bits() >> 32;
    format!("resp_dummy_{}_{}_{random:08x}", &parent[..8], mines.request_id)
}

/// The job in an id of ours.
#[must_use]
pub fn job_of(id: &str) -> Option<u32> {
    id.strip_prefix("resp_dummy_")?.split('_').nth(1)?.parse().ok()
}

/// Where a backfill request goes.
#[must_use]
pub const fn route(engine: EngineKind) -> Route {
    match engine {
        EngineKind::Vllm => Route::Responses,
        EngineKind::LlamaCpp => Route::Completions,
    }
}

/// A request before `pow` and the sampling profile are put in. It never stops early, because a window
/// that is cut short leaves no proof; `min_tokens` would reach that too, but by changing the
/// distribution. llama.cpp streams: it sees with the next token that a stream was dropped, and the
/// slot is free for a user; whether a buffered answer is still wanted it asks once a second only.
/// spec: proxy §14.3
#[must_use]
pub fn request(engine: EngineKind, model: &str, prompt: &str, id: &str, tokens: u32) -> Bytes {
    let body = match engine {
        EngineKind::Vllm => json!({
            "model": model,
            "input": prompt,
            "max_output_tokens": tokens,
            "background": true,
            "store": true,
            "request_id": id,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            "ignore_eos": true,
        }),
        EngineKind::LlamaCpp => json!({
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            "request_id": id,
            "ignore_eos": true,
            "stream": true,
            "stream_options": { "include_usage": true },
        }),
    };
    Bytes::from(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::units::BlockHash;

    #[test]
    fn an_id_names_its_job() {
        let mines = Mines {
            parent: BlockHash::from_bytes([0xab; 32]),
            request_id: 7_625_313,
            model: "m".to_owned(),
        };
        let id = completion_id(&mines, &mut Dice::from_seed([1; 32]));
        assert!(id.starts_with("resp_dummy_abababab_7625313_"), "{id}");
        assert_eq!(id.len(), "resp_dummy_abababab_7625313_".len() + 8);
        assert_eq!(job_of(&id), Some(7_625_313));
        for other in ["resp_abc", "resp_dummy_", "resp_dummy_ab_x_1", ""] {
            assert_eq!(job_of(other), None, "{other:?}");
        }
    }
}
