//! The registry client against a registry that fails in the ways registries do.

use crate::worker::{chain_settings, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tensorpow_core::target::Normalizer;
use tensorpow_server::devnet::registry::{DevRegistry, Fault, record};
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::model::{ModelRecord, Models};
use tensorpow_server::mining::payload::{EngineKind, PayloadSettings, PowForm};
use tensorpow_server::registry::registrar::{Applied, Registrar};
use tensorpow_server::registry::rest::{RestRegistry, RestSettings};
use tensorpow_server::registry::source::{PushedRegistry, RegistrySource, RegistryUpdate};

fn model() -> ModelRecord {
    chain_settings(&[]).model
}

fn context() -> Arc<ContextCell> {
    let settings = PayloadSettings {
        engine: EngineKind::Vllm,
        form: PowForm::Object,
        proof_version: 2,
        normalizer: Normalizer::DEFAULT,
        share_normalizer: Normalizer::DEFAULT,
    };
    Arc::new(ContextCell::new(Models::default(), settings))
}

async fn serve(registry: DevRegistry) -> (Arc<DevRegistry>, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = Arc::new(registry);
    tokio::spawn(registry.clone().serve(listener));
    (registry, address)
}

fn settings(address: SocketAddr) -> RestSettings {
    RestSettings {
        backoff: Duration::from_millis(20),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        ..RestSettings::new(format!("http://{address}").parse().unwrap())
    }
}

fn models(update: &RegistryUpdate) -> Option<usize> {
    match update {
        RegistryUpdate::Models(list) => Some(list.len()),
        _ => None,
    }
}

#[tokio::test]
async fn the_first_list_is_asked_for_until_it_comes() {
    let (registry, address) = serve(DevRegistry::new([&model()], None)).await;
    registry.fail([
        Fault::Status(503, None),
        Fault::Body("{\"detail\": \"no list\"}".to_owned()),
        Fault::Body("[".to_owned()),
        Fault::Slow(Duration::from_secs(5)),
        Fault::Status(504, None),
        Fault::Body("[]".to_owned()),
    ]);
    let context = context();
    let registrar = Arc::new(Registrar::new(context.clone()));
    let source = Box::new(RestRegistry::new(settings(address)));
    let following = tokio::spawn(registrar.clone().follow(source));
    wait_for("the first list", || context.load().models().loaded).await;
    assert_eq!(context.load().models().registry.records(), [model()]);
    assert_eq!(registry.asked().len(), 7, "six failures, then the list");
    assert!(registrar.age().is_some_and(|age| age < Duration::from_secs(5)));
    let report = registrar.report();
    assert_eq!((&report["initialized"], &report["models_loaded"]), (&json!(true), &json!(1)));
    assert_eq!(report["base_url"], format!("http://{address}"));

    // Later failures keep what there is.
    registry.fail((0..3).map(|_| Fault::Status(500, None)));
    wait_for("a failed poll", || !registrar.report()["last_error"].is_null()).await;
    assert_eq!(context.load().models().registry.records().len(), 1);
    wait_for("a good one", || registrar.report()["last_error"].is_null()).await;
    registry.set(vec![record(&model(), 4)]);
    wait_for("the ban", || context.load().models().registry.records().is_empty()).await;
    following.abort();
}

#[tokio::test]
async fn a_wrong_key_is_not_tried_again_at_once() {
    let (registry, address) = serve(DevRegistry::new([&model()], Some("k1".to_owned()))).await;
    let mut wrong = RestRegistry::new(RestSettings {
        key: Some("Bearer k2".parse().unwrap()),
        ..settings(address)
    });
    let Some(RegistryUpdate::Failed(error)) = wrong.next().await else { panic!("no failure") };
    assert!(error.contains("403") && error.contains("MODEL_API_KEY"), "{error}");
    assert!(registry.asked().is_empty(), "refused before it counted, and asked once");

    let mut right = RestRegistry::new(RestSettings {
        key: Some("Bearer k1".parse().unwrap()),
        ..settings(address)
    });
    assert_eq!(models(&right.next().await.unwrap()), Some(1));
}

#[tokio::test]
async fn a_limited_rate_is_respected() {
    let (registry, address) = serve(DevRegistry::new([&model()], None)).await;
    registry.fail([Fault::Status(429, Some(1))]);
    let mut source = RestRegistry::new(settings(address));
    let Some(RegistryUpdate::Failed(error)) = source.next().await else { panic!("no failure") };
    assert!(error.contains("429"), "{error}");
    assert_eq!(registry.asked().len(), 1, "no retry into a limit");
    assert_eq!(models(&source.next().await.unwrap()), Some(1));
    let asked = registry.asked();
    assert!(asked[1] - asked[0] >= Duration::from_millis(990), "{:?}", asked[1] - asked[0]);
}

#[tokio::test]
async fn an_unchanged_list_is_not_sent_twice() {
    let (registry, address) = serve(DevRegistry::new([&model()], None)).await;
    let mut source = RestRegistry::new(settings(address));
    assert_eq!(models(&source.next().await.unwrap()), Some(1));
    // Without a tag the list itself is compared.
    assert_eq!(source.next().await, Some(RegistryUpdate::Unchanged));
    registry.tag();
    registry.set(vec![record(&model(), 2), record(&model(), 1)]);
    assert_eq!(models(&source.next().await.unwrap()), Some(2));
    assert_eq!(source.next().await, Some(RegistryUpdate::Unchanged));
    assert_eq!(registry.unchanged(), 1, "304, nothing was sent");
    registry.set(vec![record(&model(), 2)]);
    assert_eq!(models(&source.next().await.unwrap()), Some(1));
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_failure() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut source = RestRegistry::new(settings(free));
    assert!(matches!(source.next().await, Some(RegistryUpdate::Failed(_))));
}

#[tokio::test]
async fn a_list_is_built_aside_and_a_push_takes_the_same_path() {
    let context = context();
    let registrar = Arc::new(Registrar::new(context.clone()));
    let (push, source) = PushedRegistry::new();
    let following = tokio::spawn(registrar.clone().follow(Box::new(source)));
    let bad = [json!(5), json!({"model_name": "x"}), json!({"model_hash": 1}), Value::Null];
    let good = record(&model(), 2);
    let mut forged = good.clone();
    forged["model_commit"] = json!("another");
    let list = bad.iter().cloned().chain([forged, good.clone()]).collect();
    push.send(list).await.unwrap();
    wait_for("the list", || context.load().models().loaded).await;
    assert_eq!(
        context.load().models().registry.records(),
        [model()],
        "bad ones cost only themselves"
    );
    assert_eq!(registrar.apply("test", &[]), Applied::Kept);
    assert_eq!(context.load().models().registry.records().len(), 1);
    assert_eq!(
        registrar.apply("test", &[good, bad[0].clone(), record(&model(), 3)]),
        Applied::Replaced { models: 1, inactive: 1, bad: 1 }
    );
    drop(push);
    following.await.unwrap();
    assert_eq!(registrar.report()["update_task_running"], false);
}
