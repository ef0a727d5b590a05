//! Group `collector`: messages to what is filed under which id, what is queued for the sink, and
//! whether mining pauses. Where the specification replaces the reference, [`OVERRIDES`] says how.
//! spec: proxy §16

use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tensorpow_core::header::HeaderFields;
use tensorpow_core::target::{CompactTarget, Normalizer};
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};
use tensorpow_server::cache::CacheLimits;
use tensorpow_server::intake::{Intake, Taken, classify};
use tensorpow_server::metrics::Metrics;
use tensorpow_server::mining::job::{Job, JobUpdate};
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::pause::{Pause, SolutionCooldown};
use tensorpow_server::mining::payload::{EngineKind, PayloadSettings, PowForm};
use tensorpow_server::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use tensorpow_server::mining::snapshot::ContextCell;
use tensorpow_server::outbox::Outbox;
use tensorpow_server::spool::{Spool, SpoolSettings};
use tensorpow_server::store::ProofStore;

/// Cases whose recorded result the specification replaces: name, cached ids, indices of the messages
/// that are forwarded. spec: proxy §16.3
const OVERRIDES: &[(&str, &[&str], &[u64])] = &[
    // Filed first; only forwarding is filtered.
    ("stale req_id is dropped and not cached", &["cmpl-c"], &[]),
    ("paused drops", &["cmpl-h"], &[]),
    ("solution cooldown drops what follows", &["cmpl-l", "cmpl-m"], &[0]),
    // A message without a proof is dropped and counted.
    ("no proof table", &[], &[]),
];

/// Runs every case; panics at the first difference.
pub fn run(cases: &Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in cases.as_array().expect("a list of cases") {
        runtime.block_on(one(case));
    }
}

/// A sink that is never asked: what is compared is what is queued for it.
struct Nobody;

#[async_trait]
impl ProofSink for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    async fn submit(&self, _: &ReceivedProof, _: Attempt) -> Verdict {
        Verdict::Sent
    }
}

fn context(case: &Value) -> Arc<ContextCell> {
    let models = Models {
        pin: case["expected"].as_str().map(|pin| pin.parse().expect("a model")),
        registered: Vec::new(),
    };
    let settings = PayloadSettings {
        engine: EngineKind::Vllm,
        form: PowForm::Object,
        proof_version: 2,
        normalizer: Normalizer::DEFAULT,
        share_normalizer: Normalizer::DEFAULT,
    };
    let context = ContextCell::new(models, settings);
    if let Some(request_id) = case["context_req_id"].as_u64().filter(|id| *id != 0) {
        let prefix = HeaderPrefix::from_fields(&HeaderFields {
            version: 1,
            parent: BlockHash::from_bytes([1; 32]),
            merkle_root: MerkleRoot::from_bytes([2; 32]),
            time: 1,
            bits: CompactTarget::from_bits(0x1d00_ffff),
        });
        let request_id = u32::try_from(request_id).unwrap();
        context.apply(JobUpdate::Job(Job {
            request_id,
            prefix,
            base_share_target: None,
            height: None,
        }));
    }
    Arc::new(context)
}

async fn one(case: &Value) {
    let name = case["name"].as_str().expect("a name");
    let expected = &case["result"];
    let spool = Spool::open(SpoolSettings::default()).unwrap();
    let store = Arc::new(ProofStore::new(CacheLimits::default(), spool.clone()));
    let (context, metrics) = (context(case), Arc::new(Metrics::new()));
    let pause = Arc::<Pause>::default();
    if case["paused"] == true {
        pause.extend(Duration::from_secs(3600));
    }
    // A thousand times the mean, so that the draw is not over before the next message.
    let mean = case["cooldown"].as_u64().unwrap_or_default() * 1000;
    let outbox = (case["callback"] != false).then(|| {
        let (context, metrics) = (context.clone(), metrics.clone());
        Arc::new(Outbox::empty(Arc::new(Nobody), spool.clone(), context, metrics))
    });
    let intake = Intake::new(store.clone(), context, metrics, outbox)
        .pausing(pause.clone(), SolutionCooldown::new(Duration::from_secs(mean)));
    let mut numbers = Vec::new();
    for (index, message) in expected["messages_hex"].as_array().unwrap().iter().enumerate() {
        let message = hex::decode(message.as_str().unwrap()).unwrap().into();
        if let Ok(proof) = classify(&message) {
            let digest = proof.digest.map(|digest| hex::encode(digest.as_bytes()));
            assert_eq!(json!(proof.nonce), expected["nonce"][index], "{name}");
            assert_eq!(json!(digest), expected["proof_hash"][index], "{name}");
        }
        numbers.push(match intake.take(message).await {
            Taken::Stored(seq) => Some(seq),
            _ => None,
        });
    }
    let keys = json!(store.keys(usize::MAX).await.1);
    let open = spool.view().unwrap().open_deliveries("nobody").unwrap();
    let forwarded: Vec<u64> = (0..)
        .zip(&numbers)
        .filter(|(_, seq)| open.iter().any(|(open, _)| Some(*open) == **seq))
        .map(|(index, _)| index)
        .collect();
    let replaced = OVERRIDES.iter().find(|(of, ..)| *of == name);
    match replaced {
        Some((_, cached, indices)) => {
            assert_eq!(keys, json!(cached), "{name}");
            assert_eq!(forwarded, *indices, "{name}");
        }
        None => {
            assert_eq!(keys, expected["cached_keys"], "{name}");
            assert_eq!(json!(forwarded), expected["callback_message_index"], "{name}");
            for (key, size) in
                keys.as_array().unwrap().iter().zip(expected["cached_sizes"].as_array().unwrap())
            {
                let found = store.find(key.as_str().unwrap(), None).await.expect("a cached proof");
                assert_eq!(json!(found.proof.message.len()), *size, "{name}");
            }
        }
    }
    assert_eq!(json!(pause.is_paused()), expected["paused_after"], "{name}");
}
