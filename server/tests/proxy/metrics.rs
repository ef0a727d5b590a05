//! Every metric of the proxy is in `docs/operations.md`, and nothing else is: what workers of all
//! kinds show, what the source registers without having a value yet, and what the table names.

use crate::engine::{MockEngine, Script};
use crate::node::feed_settings;
use crate::worker::{Worker, config, try_config};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use tensorpow_server::active_model::ActiveModelSettings;
use tensorpow_server::gpu::gauges::{Cards, EVERY, GpuGauges, Reading};
use tensorpow_server::link::Link;
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::network::Network;
use tensorpow_server::node::NodeSettings;

const DOCS: &str = include_str!("../../../docs/operations.md");

/// The names in the tables, without the proxy's prefix.
fn documented() -> BTreeSet<String> {
    let (_, section) = DOCS.split_once("\n## Metrics of the proxy\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    section.split("`tensorpow_").skip(1).map(name_at).collect()
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The names that a text of metrics declares, counters as their samples are called.
fn declared(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE tensorpow_")?.split_once(' ')?;
        Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
    };
    text.lines().filter_map(name).collect()
}

/// All source files of the server.
fn source() -> String {
    fn read(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    text
}

/// Names that are registered by a literal.
fn registered(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in ["register(", "gauge(", "counter(", "encode_descriptor("] {
        for rest in source.split(call).skip(1) {
            let rest = rest.trim_start();
            let rest = rest.strip_prefix("&mut out,").or(rest.strip_prefix("out,")).unwrap_or(rest);
            names.extend(rest.trim_start().strip_prefix('"').map(name_at));
        }
    }
    names
}

struct OneCard;

impl Cards for OneCard {
    fn read(&mut self) -> Vec<Reading> {
        vec![Reading {
            utilisation: Some(0.5),
            memory_used: Some(1),
            memory_total: Some(2),
            power: Some(3.0),
            temperature: Some(4.0),
            ..Reading::default()
        }]
    }
}

/// What is shown where there is a graphics card.
fn of_a_card() -> BTreeSet<String> {
    let mut registry = Registry::with_prefix("tensorpow");
    registry.register_collector(Box::new(GpuGauges::reading(EVERY, || Some(OneCard)).unwrap()));
    let began = Instant::now();
    loop {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let names = declared(&text);
        if !names.is_empty() {
            return names;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no reading");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_names_every_metric_and_no_other() {
    let reply = Script::Json(200, r#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#);
    let devnet = Worker::devnet(reply.clone(), &[], &[]).await;
    devnet.post("/v1/completions", r#"{"model":"org/tiny","prompt":"p"}"#).await;
    let mut shown = declared(&devnet.metrics().await);
    assert!(shown.contains("requests_total") && shown.contains("mining_info"), "{shown:?}");

    let settings = NodeSettings { jobs: feed_settings(), ..NodeSettings::new(Network::Devnet) };
    let active = ActiveModelSettings::default();
    let link = Link::to_node(settings, Models::new(None, []), Vec::new(), active).unwrap();
    let engine = MockEngine::start(reply.clone()).await;
    let config = config(&engine.url(), &[]);
    let node = Worker::start_linked(engine, config, Some(link), None).await;
    shown.extend(declared(&node.metrics().await));

    let engine = MockEngine::start(reply).await;
    let environment = [("WORKER_MODE", "broker"), ("PROVIDER_JWT_TOKEN", "eyJ0")];
    let config = try_config(&engine.url(), &["--broker", "ws://127.0.0.1:9/"], &environment);
    let config = config.unwrap();
    let link = config.broker.clone().expect("a broker link").open();
    let broker = Worker::start_linked(engine, config, Some(link), None).await;
    shown.extend(declared(&broker.metrics().await));
    shown.extend(of_a_card());

    let (documented, source) = (documented(), source());
    let missing: Vec<_> = shown.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let known =
        |name: &String| documented.contains(name) || documented.contains(&format!("{name}_total"));
    let missing: Vec<_> = registered(&source).into_iter().filter(|name| !known(name)).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let literal = |name: &str| source.contains(&format!("\"{name}\""));
    let unknown: Vec<_> = documented
        .iter()
        .filter(|name| {
            let counter = name.strip_suffix("_total").is_some_and(literal);
            !shown.contains(*name) && !counter && !literal(name)
        })
        .collect();
    assert!(unknown.is_empty(), "in docs/operations.md and nowhere else: {unknown:?}");
}
