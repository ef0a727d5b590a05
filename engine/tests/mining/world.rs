//! A mining job with an easy target, a synthetic model, collectors on the loopback, and an engine
//! between them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::{Value, json};
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::target::CompactTarget;
use tensorpow_engine::settings::Settings;
use tensorpow_engine::{BeginRequest, Engine, Exclusions, Identity, Log, Requested, Sequence};

/// Width of the synthetic model's rows.
pub(crate) const VOCAB: usize = 512;
/// What the engine says its model is.
pub(crate) const MODEL: &str = "synthetic/model@0123456789abcdef";
/// A compact target that all but one of 65 536 headers meet.
pub(crate) const EASY: u32 = 0x2100_ffff;
/// A compact target that no header of a test meets.
pub(crate) const HARD: u32 = 0x0300_ffff;

/// The job every test mines, with `bits` as the adjusted compact target.
pub(crate) fn job(bits: u32) -> Value {
    let target = CompactTarget::from_bits(bits).expand().target;
    let bits: String = bits.to_le_bytes().iter().map(|b| format!("{b:02x}")).collect();
    json!({
        "block_hash": "11".repeat(32),
        "vdf": "22".repeat(200),
        "tick": 1000,
        "target": format!("{target:x}"),
        "header_prefix": "11".repeat(72) + &bits,
        "ipfs_cid": "QmSynthetic",
        "request_id": 4242,
        "difficulty": 1_000_000,
    })
}

/// A share target that every header meets.
pub(crate) fn any_share() -> Value {
    Value::String("ff".repeat(32))
}

/// `job` with one member replaced.
pub(crate) fn with(mut job: Value, key: &str, value: impl Into<Value>) -> Value {
    job[key] = value.into();
    job
}

/// Logits of step `at`: bell-shaped noise, the same for the same step in every test.
pub(crate) fn logits(at: usize) -> Vec<f32> {
    (0..VOCAB)
        .map(|id| {
            let mut z = (at as u64 + 1) << 32 | (id as u64 + 1);
            let mut sum = 0.0_f32;
            for _ in 0..4 {
                z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^= z >> 31;
                sum += f32::from(u16::try_from(z & 0xFFFF).unwrap()) / 65_536.0;
            }
            (sum - 2.0) * 3.0
        })
        .collect()
}

/// A PULL socket on a free port of the loopback.
pub(crate) struct Collector {
    socket: zmq::Socket,
    pub(crate) port: u16,
}

impl Collector {
    pub(crate) fn new() -> Self {
        let socket = zmq::Context::new().socket(zmq::PULL).unwrap();
        socket.set_linger(0).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let port = endpoint.rsplit(':').next().unwrap().parse().unwrap();
        Self { socket, port }
    }

    /// The next message, which must come.
    pub(crate) fn next(&self) -> Vec<u8> {
        self.socket.set_rcvtimeo(10_000).unwrap();
        self.socket.recv_bytes(0).expect("a message within ten seconds")
    }

    /// Everything that is there once the engine has ended.
    pub(crate) fn rest(&self) -> Vec<Vec<u8>> {
        self.socket.set_rcvtimeo(200).unwrap();
        std::iter::from_fn(|| self.socket.recv_bytes(0).ok()).collect()
    }
}

/// An engine with the given variables, sending to `primary`.
pub(crate) fn engine(primary: &Collector, variables: &[(&str, &str)]) -> Engine {
    let mut env: BTreeMap<&str, OsString> =
        variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    env.insert("ZMQ_PUSH_HOST", "127.0.0.1".into());
    env.insert("ZMQ_PUSH_PORT", primary.port.to_string().into());
    let settings = Settings::from_lookup(&|name| env.get(name).cloned()).unwrap();
    Engine::start(settings, identity(), Log::new(|_, _| {})).unwrap()
}

/// What the synthetic model's engine says about itself.
pub(crate) fn identity() -> Identity {
    Identity {
        engine: "test".into(),
        model_identifier: Some(MODEL.into()),
        compute_precision: Some("bf16".into()),
        max_sequences: None,
    }
}

/// An engine in broker mode.
pub(crate) fn broker(primary: &Collector) -> Engine {
    engine(primary, &[("POW_EGRESS_MODE", "broker")])
}

/// A request on `pow` with neutral sampling.
pub(crate) fn request<'a>(pow: &'a [u8], prompt: &'a [u32]) -> BeginRequest<'a> {
    BeginRequest {
        pow_json: pow,
        completion_id: "cmpl-test",
        sampling: Requested::default(),
        exclusions: Exclusions::default(),
        slot_id: 0,
        vocab: VOCAB,
        prompt,
    }
}

/// Begins a sequence that must be mined.
pub(crate) fn begin(engine: &Engine, job: &Value, prompt: &[u32]) -> Sequence {
    engine.begin(&request(job.to_string().as_bytes(), prompt)).expect("mined")
}

/// Draws `count` tokens.
pub(crate) fn draw(sequence: &mut Sequence, count: usize) -> Vec<u32> {
    let from = usize::try_from(sequence.drawn()).unwrap();
    (from..from + count).map(|at| sequence.sample(&logits(at)).expect("mined")).collect()
}

/// Reads a message that must decode.
pub(crate) fn decode(message: &[u8]) -> MiningResponseRef<'_> {
    MiningResponseRef::read(message).expect("a message the node's verifier takes")
}

/// The value of a counter in the metrics text.
pub(crate) fn metric(engine: &Engine, name: &str) -> u64 {
    let text = engine.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Waits until a counter has a value.
pub(crate) fn wait_for(engine: &Engine, name: &str, value: u64) {
    for _ in 0..2000 {
        if metric(engine, name) == value {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{name} did not become {value}:\n{}", engine.metrics());
}
