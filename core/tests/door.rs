//! The payload door: every wrong value is named, and what is not mined is refused with its reason.

use serde_json::{Value, json};
use tensorpow_core::door::json::PayloadError;
use tensorpow_core::door::{Engine, Payload, Refusal, Requested};

fn payload() -> Value {
    json!({
        "block_hash": "11".repeat(32),
        "vdf": "ab".repeat(200),
        "tick": 32768,
        "target": "0f".repeat(32),
        "share_target": "ff".repeat(32),
        "header_prefix": "03".repeat(76),
        "ipfs_cid": "QmDefault",
        "request_id": 7,
        "difficulty": 1_000_000,
        "proof_version": 2,
        "model_identifier": "org/model@0123",
        "compute_precision": "bf16",
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut payload = payload();
    payload[key] = value;
    payload
}

fn read(value: &Value) -> Result<Payload<String>, PayloadError> {
    Payload::from_json(value.to_string().as_bytes())
}

#[test]
fn an_object_and_a_string_that_holds_it_are_the_same() {
    let object = read(&payload()).unwrap();
    let string = read(&Value::String(payload().to_string())).unwrap();
    assert_eq!(object, string);
    assert_eq!((object.tick, object.request_id), (32768, 7));
}

#[test]
fn every_wrong_value_is_named() {
    let short = "11".repeat(31);
    let cases = [
        ("block_hash", json!(short), "block_hash needs exactly 64 hex digits, has 62"),
        ("block_hash", json!("zz".repeat(32)), "block_hash character 0 is not a hex digit"),
        ("target", json!("ff"), "target needs exactly 64 hex digits, has 2"),
        ("target", json!(545_259_519), "target is not a string"),
        ("header_prefix", json!(""), "header_prefix needs exactly 152 hex digits, has 0"),
        ("vdf", json!(""), "vdf has 0 hex digits, it needs 2 to 2048"),
        ("vdf", json!("ab".repeat(1025)), "vdf has 2050 hex digits, it needs 2 to 2048"),
        ("vdf", json!("abc"), "vdf needs exactly 4 hex digits, has 3"),
        ("tick", json!(4_294_967_296_u64), "tick 4294967296 does not fit u32"),
        ("tick", json!(-1), "tick -1 does not fit u32"),
        ("tick", json!("5"), "tick is not an integer"),
        ("tick", json!(1.5), "tick 1.5 does not fit u32"),
        ("request_id", json!(4_294_967_296_u64), "request_id 4294967296 does not fit u32"),
        ("difficulty", json!(0), "difficulty 0 is not a positive 63-bit integer"),
        ("difficulty", Value::Null, "difficulty is missing"),
        ("audit_emit", json!("yes"), "audit_emit is not a boolean"),
        ("model_identifier", json!(5), "model_identifier is not a string"),
    ];
    for (key, value, words) in cases {
        let error = read(&with(key, value)).unwrap_err();
        assert_eq!(error.to_string(), words);
        assert_eq!(error.label(), format!("payload_{key}"));
    }
}

#[test]
fn what_is_no_object_is_told_apart() {
    for (text, words) in [
        ("[1]", "pow is an array, not an object"),
        ("5", "pow is a number, not an object"),
        ("\"\\\"x\\\"\"", "pow is a string in a string, not an object"),
        ("{", "pow is not JSON"),
        ("", "pow is not JSON"),
    ] {
        let error = Payload::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let long = vec![b' '; 70_000];
    assert_eq!(Payload::from_json(&long).unwrap_err().label(), "payload_too_long");
}

#[test]
fn a_share_target_switches_off_its_own_tier_only() {
    for (value, unreadable) in
        [(Value::Null, false), (json!(""), false), (json!("ff"), true), (json!(5), true)]
    {
        let payload = read(&with("share_target", value)).unwrap();
        assert_eq!((payload.share_target, payload.share_target_unreadable), (None, unreadable));
    }
}

#[test]
fn an_audit_payload_may_hold_compact_bits() {
    let mut audit = with("target", json!(0x207f_ffff));
    audit["audit_emit"] = json!(true);
    let expanded = read(&audit).unwrap().target.to_string();
    assert!(expanded.starts_with("7fffff00"), "{expanded}");
    audit["target"] = json!(0x2100_ffff_u32 | 0x0080_0000);
    assert_eq!(read(&audit).unwrap_err().label(), "payload_target");
}

#[test]
fn what_is_not_mined_is_refused_with_its_reason() {
    let mine = |change: fn(&mut Payload<String>), engine: Engine<'_>, requested: Requested| {
        let mut payload = read(&payload()).unwrap();
        change(&mut payload);
        payload.admit(&engine, &requested, 49_152, 5).map(|terms| terms.proof_version)
    };
    let same: fn(&mut Payload<String>) = |_| {};
    let engine = Engine::default();
    let asked = Requested::default();
    assert_eq!(mine(same, engine, asked), Ok(2));

    let own = |proof_version| Engine { proof_version, ..engine };
    assert_eq!(mine(same, own(Some(3)), asked), Err(Refusal::VersionMismatch { own: 3, stamp: 2 }));
    assert_eq!(mine(|p| p.proof_version = None, own(Some(3)), asked), Ok(3));
    assert_eq!(mine(|p| p.proof_version = Some(3), engine, asked), Ok(3));
    assert_eq!(
        mine(|p| p.proof_version = Some(4), engine, asked),
        Err(Refusal::VersionUnknown { stamp: 4 })
    );
    assert_eq!(mine(|p| p.audit_emit = true, own(Some(3)), asked), Ok(1));

    let other = Engine { model_identifier: Some("other@1"), ..engine };
    assert_eq!(mine(same, other, asked), Err(Refusal::IdentityMismatch));
    assert_eq!(mine(|p| p.model_identifier = None, other, asked), Ok(2));
    assert_eq!(mine(|p| p.model_identifier = None, engine, asked), Err(Refusal::IdentityUnknown));
    assert_eq!(
        mine(|p| p.compute_precision = Some("fp32".into()), engine, asked),
        Err(Refusal::PrecisionUnsupported)
    );

    let t = |temperature| Requested { temperature, ..asked };
    assert_eq!(mine(same, engine, t(0.0)), Err(Refusal::Temperature { found: 0.0 }));
    assert!(mine(same, engine, t(f32::NAN)).is_err());
    assert_eq!(mine(same, engine, t(0.7)), Ok(2));
    assert_eq!(
        mine(|p| p.proof_version = Some(3), engine, t(0.7)),
        Err(Refusal::Temperature { found: 0.7 })
    );
    let k = |top_k| Requested { top_k, ..asked };
    assert_eq!(mine(same, engine, k(4)), Err(Refusal::TopK { found: 4 }));
    assert_eq!(mine(same, engine, k(-1)), Err(Refusal::TopK { found: -1 }));
    assert_eq!(mine(|p| p.audit_emit = true, engine, k(4)), Ok(1));
    let p = Requested { top_p: 0.05, ..asked };
    assert_eq!(mine(same, engine, p), Err(Refusal::TopP { found: 0.05 }));
    let r = Requested { repetition_penalty: 1.1, ..asked };
    assert_eq!(mine(same, engine, r), Err(Refusal::RepetitionPenalty { found: 1.1 }));

    let payload = read(&payload()).unwrap();
    let small = payload.admit(&engine, &asked, 127, 5);
    assert_eq!(small.unwrap_err(), Refusal::Vocabulary { found: 127 });
    assert_eq!(payload.admit(&engine, &asked, 128, 0).unwrap_err(), Refusal::EmptyPrompt);
}
