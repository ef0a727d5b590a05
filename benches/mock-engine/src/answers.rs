//! The fixed answers, in the shapes of the OpenAI API.

use bytes::Bytes;
use serde_json::{Value, json};

const MODEL: &str = "mock";
const WORD: &str = "word ";
const CREATED: u64 = 1_700_000_000;

pub(crate) fn models() -> Value {
    json!({
        "object": "list",
        "data": [{ "id": MODEL, "object": "model", "created": CREATED, "owned_by": "mock", "max_model_len": 8192 }],
    })
}

pub(crate) fn props() -> Value {
    json!({ "default_generation_settings": { "n_ctx": 8192 }, "total_slots": 4 })
}

pub(crate) fn embeddings(request: &Value) -> Value {
    let inputs = request["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> = (0..inputs)
        .map(|index| json!({ "object": "embedding", "index": index, "embedding": [0.5, -0.25, 1.0] }))
        .collect();
    json!({
        "object": "list",
        "model": request["model"],
        "data": data,
        "usage": { "prompt_tokens": inputs, "total_tokens": inputs },
    })
}

pub(crate) fn stored(id: &str, cancelled: bool) -> Value {
    let mut response = response(id, 1, MODEL.into());
    if cancelled {
        response["status"] = "cancelled".into();
    }
    response
}

fn usage(tokens: usize) -> Value {
    json!({ "prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3 })
}

fn response(id: &str, tokens: usize, model: Value) -> Value {
    json!({
        "id": id,
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": model,
        "output": [{
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{ "type": "output_text", "text": WORD.repeat(tokens), "annotations": [] }],
        }],
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": tokens + 3,
        },
    })
}

/// The answer of a chat completion that does not stream. `model` stands in it as in the request.
pub(crate) fn chat(id: &str, model: &str, tokens: usize) -> String {
    let all = tokens + 3;
    format!(
        "{{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion\",\"created\":{CREATED},\
         \"model\":\"{model}\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"{}\"}},\"finish_reason\":\"length\"}}],\"usage\":{{\"prompt_tokens\":3,\
         \"completion_tokens\":{tokens},\"total_tokens\":{all}}}}}",
        WORD.repeat(tokens)
    )
}

/// The answer of a request that does not stream.
pub(crate) fn whole(path: &str, id: &str, request: &Value, tokens: usize) -> Value {
    let text = WORD.repeat(tokens);
    match path {
        "/v1/chat/completions" => json!({
            "id": format!("chatcmpl-{id}"),
            "object": "chat.completion",
            "created": CREATED,
            "model": request["model"],
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text },
                "finish_reason": "length",
            }],
            "usage": usage(tokens),
        }),
        "/v1/completions" => json!({
            "id": format!("cmpl-{id}"),
            "object": "text_completion",
            "created": CREATED,
            "model": request["model"],
            "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": "length" }],
            "usage": usage(tokens),
        }),
        _ => response(&format!("resp_{id}"), tokens, request["model"].clone()),
    }
}

/// The events of a stream, one for each token and those around them.
pub(crate) fn events(path: &str, id: &str, tokens: usize, with_usage: bool) -> Vec<Bytes> {
    let data = |value: Value| Bytes::from(format!("data: {value}\n\n"));
    let mut events = match path {
        "/v1/responses" => return response_events(id, tokens),
        "/v1/chat/completions" => {
            let id = format!("chatcmpl-{id}");
            let chunk = |choices: Value| json!({ "id": id, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL, "choices": choices });
            let delta = |delta: Value, end: Value| {
                chunk(json!([{ "index": 0, "delta": delta, "finish_reason": end }]))
            };
            let mut events =
                vec![data(delta(json!({ "role": "assistant", "content": "" }), Value::Null))];
            let word = data(delta(json!({ "content": WORD }), Value::Null));
            events.extend(std::iter::repeat_n(word, tokens));
            events.push(data(delta(json!({}), "length".into())));
            if with_usage {
                let mut last = chunk(json!([]));
                last["usage"] = usage(tokens);
                events.push(data(last));
            }
            events
        }
        _ => {
            let id = format!("cmpl-{id}");
            let chunk = |choices: Value| json!({ "id": id, "object": "text_completion", "created": CREATED, "model": MODEL, "choices": choices });
            let word = data(chunk(json!([{ "index": 0, "text": WORD, "finish_reason": null }])));
            let mut events: Vec<Bytes> = std::iter::repeat_n(word, tokens).collect();
            events
                .push(data(chunk(json!([{ "index": 0, "text": "", "finish_reason": "length" }]))));
            if with_usage {
                let mut last = chunk(json!([]));
                last["usage"] = usage(tokens);
                events.push(data(last));
            }
            events
        }
    };
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn response_events(id: &str, tokens: usize) -> Vec<Bytes> {
    let id = format!("resp_{id}");
    let event = |kind: &str, mut value: Value| {
        value["type"] = kind.into();
        Bytes::from(format!("event: {kind}\ndata: {value}\n\n"))
    };
    let mut begun = response(&id, 0, MODEL.into());
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    let done = response(&id, tokens, MODEL.into());
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [] });
    let text = WORD.repeat(tokens);
    let at = |number: usize| json!({ "sequence_number": number, "item_id": "msg_1", "output_index": 0, "content_index": 0 });
    let with = |mut value: Value, name: &str, member: Value| {
        value[name] = member;
        value
    };
    let item = json!({ "type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": [] });
    let mut events = vec![
        event("response.created", json!({ "sequence_number": 0, "response": begun })),
        event(
            "response.output_item.added",
            json!({ "sequence_number": 1, "output_index": 0, "item": item }),
        ),
        event("response.content_part.added", with(at(2), "part", part(""))),
    ];
    for number in 0..tokens {
        let delta = with(with(at(3 + number), "delta", WORD.into()), "logprobs", json!([]));
        events.push(event("response.output_text.delta", delta));
    }
    let after = 3 + tokens;
    let whole = with(with(at(after), "text", text.clone().into()), "logprobs", json!([]));
    events.push(event("response.output_text.done", whole));
    events.push(event("response.content_part.done", with(at(after + 1), "part", part(&text))));
    let item = done["output"][0].clone();
    events.push(event(
        "response.output_item.done",
        json!({ "sequence_number": after + 2, "output_index": 0, "item": item }),
    ));
    events.push(event(
        "response.completed",
        json!({ "sequence_number": after + 3, "response": done }),
    ));
    events
}
