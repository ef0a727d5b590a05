//! Clients for the browser test: streams one after the other, most of them mined, some opted out,
//! off the profile, for another model, or left in the middle.

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// Streams at a time.
const CLIENTS: u64 = 7;

/// Sends requests until the runtime ends.
pub(crate) async fn keep_busy(url: String, key: &'static str, model: &'static str) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut running = Vec::new();
    for number in 0..CLIENTS {
        let (client, url) = (client.clone(), url.clone());
        running.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 430)).await;
            for turn in 0.. {
                one(&client, &url, key, model, number + turn * CLIENTS).await;
            }
        }));
    }
    for task in running {
        // A client that panics is reported by its thread.
        let _ = task.await;
    }
}

async fn one(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &str,
    key: &str,
    model: &str,
    number: u64,
) {
    let mut body = serde_json::json!({
        "model": model,
        "stream": true,
        "messages": [{ "role": "user", "content": "Tell me the story of a lighthouse keeper." }],
    });
    if number % 11 == 5 {
        body["seed"] = 7.into();
    }
    if number % 13 == 6 {
        body["model"] = "another/model".into();
    }
    let mut request = Request::post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"));
    if number % 17 == 8 {
        request = request.header("x-tensorpow-mine", "off");
    }
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    let Ok(answer) = client.request(request).await else {
        return tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let mut answer = answer.into_body();
    let mut pieces = 0;
    while let Some(Ok(_)) = answer.frame().await {
        pieces += 1;
        if number % 19 == 9 && pieces > 60 {
            return; // gone in the middle
        }
    }
}
