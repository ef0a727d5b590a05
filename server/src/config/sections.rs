//! The settings, section by section. spec: proxy §20.1; the guide's variables keep their meaning.
//! A variable of the reference that no longer decides anything stands in `names`.

use super::broker::BrokerSection;
use super::host_sections::{DrainSection, HeartbeatSection};
use super::rollout::{CanarySection, RolloutSection};
use super::section::sections;
use super::value::{Bits, LogFormat, LogLevel, ModelRoutes, Secret};
use super::workload_sections::{
    AutoscaleSection, BreakerSection, EconomicsSection, GpuSection, PrioritySection,
    PromptsSection, SloSection, WatchdogSection,
};
use crate::http::engine::EngineUrl;
use crate::mining::model::ModelId;
use crate::mining::network::Network;
use crate::mining::payload::{EngineKind, PowForm};
use crate::node::results::Endpoint;
use crate::service_client::ServiceUrl;
use crate::zap::IpNetwork;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

sections! {
    /// The HTTP face.
    HttpSection "http" {
        /// Address and port of the OpenAI API; goes before `http.host` and `http.port` of the same or a lower layer. Anything but loopback needs API keys
        listen: Option<SocketAddr> = "" [TENSORPOW_LISTEN] --listen;
        /// Address of the OpenAI API
        host: String = "127.0.0.1" [HTTP_HOST];
        /// Port of the OpenAI API
        port: u16 = "8080" [HTTP_PORT];
        /// No HTTP face at all: a broker worker that is reached through the broker only
        disabled: bool = "false" [DISABLE_HTTP_SERVER];
        /// Certificate chain (PEM) for HTTPS; needs `http.tls_key`
        tls_cert: Option<PathBuf> = "" [TENSORPOW_TLS_CERT] --tls-cert;
        /// Private key (PEM) of the certificate
        tls_key: Option<PathBuf> = "" [TENSORPOW_TLS_KEY] --tls-key;
        /// Web origins that may call from a browser, separated by commas; empty is none
        cors_origins: Vec<String> = "" [TENSORPOW_CORS_ORIGINS];
        /// Largest request body in bytes
        max_body: usize = "33554432" [TENSORPOW_MAX_BODY] --max-body;
        /// Largest request head in bytes
        max_head: usize = "65536" [TENSORPOW_MAX_HEAD];
        /// Time a client has to send a request's head; also how long an idle connection is kept
        head_timeout: Duration = "30" [TENSORPOW_HEAD_TIMEOUT];
        /// Time a client has to send a request's body
        body_timeout: Duration = "60" [TENSORPOW_BODY_TIMEOUT];
        /// Connections at a time; further ones wait in the kernel's queue
        max_connections: usize = "8192" [TENSORPOW_MAX_CONNECTIONS];
        /// Threads that serve connections, each on its own; by default one for each processor, 0 for none of their own
        threads: Option<usize> = "" [TENSORPOW_HTTP_THREADS];
        /// Time the last requests get on shutdown
        drain: Duration = "20" [TENSORPOW_DRAIN];
    }

    /// Who may call.
    KeysSection "keys" {
        /// Key that opens every route
        all: Option<Secret> = "" [TENSORPOW_API_KEY] --api-key;
        /// Key for the OpenAI routes
        inference: Option<Secret> = "" [TENSORPOW_INFERENCE_KEY];
        /// Key for proofs, status and metrics
        proof: Option<Secret> = "" [TENSORPOW_PROOF_KEY];
        /// Key for what changes the worker: the active model
        admin: Option<Secret> = "" [TENSORPOW_ADMIN_KEY];
        /// File of generated keys; by default `keys.toml` in the data folder
        file: Option<PathBuf> = "" [TENSORPOW_KEYS_FILE];
    }

    /// How much one client may ask for.
    LimitsSection "limits" {
        /// Requests a second with one key; 0 is no limit
        per_key: u32 = "0" [TENSORPOW_RATE_PER_KEY];
        /// Requests a second from one address; 0 is no limit
        per_address: u32 = "0" [TENSORPOW_RATE_PER_ADDRESS];
        /// Requests beyond the rate that are let through at once, in seconds of the rate
        burst: Duration = "2" [TENSORPOW_RATE_BURST];
        /// Generation requests at the engines; further ones wait (`priority.queue`) or are answered 503 with Retry-After
        concurrency: usize = "4096" [TENSORPOW_MAX_CONCURRENT];
        /// Generation requests in flight of one key, or of one address without keys; 0 is no limit
        concurrency_per_client: usize = "0" [TENSORPOW_CONCURRENCY_PER_CLIENT];
        /// Most tokens one request may generate, for each of its choices: one that asks for more is answered 400, one that names no number is given this one; 0 is no limit
        max_tokens: u64 = "0" [TENSORPOW_MAX_TOKENS];
        /// Tokens a minute, read and generated, of one key, or of one address without keys; who has used more waits until it is made up for; 0 is no limit
        tokens_per_minute: u64 = "0" [TENSORPOW_TOKENS_PER_MINUTE];
    }

    /// The inference engines.
    EngineSection "engine" {
        /// URL of the engine for every model without a route; a path is dropped
        url: EngineUrl = "http://127.0.0.1:8000" [TARGET_URL] --engine;
        /// Engines of single models; by default the second engine of `engine.dual`
        routes: ModelRoutes = "" [MODEL_ROUTES] --route;
        /// The proxy's own key towards the engines
        api_key: Option<Secret> = "" [API_KEY] --engine-key;
        /// Which engine it is; by default what `engine.llama_cpp` says
        kind: Option<EngineKind> = "" [TENSORPOW_ENGINE_KIND] --engine-kind;
        /// The engine is llama.cpp, not vLLM
        llama_cpp: bool = "false" [LLAMA_CPP];
        /// The member that carries `pow` is `vllm_xargs`, not `extra_sampling_params`; by default so for vLLM. false for vLLM before 0.16
        use_vllm_xargs: Option<bool> = "" [USE_VLLM_XARGS];
        /// Form of `pow`; `string` is for a stock vLLM without our middleware
        pow_form: PowForm = "object" [TENSORPOW_POW_FORM] --pow-form;
        /// Limit on connecting to an engine
        connect_timeout: Duration = "5" [TENSORPOW_ENGINE_CONNECT];
        /// Limit on an answer's first byte: the whole generation for a request that does not stream
        first_byte_timeout: Duration = "600" [TENSORPOW_ENGINE_TIMEOUT] --engine-timeout;
        /// How long an engine may be silent in the middle of an answer
        idle_timeout: Duration = "120" [TENSORPOW_ENGINE_IDLE] --engine-idle;
        /// Limit on a whole answer
        total_timeout: Duration = "3600" [TENSORPOW_ENGINE_TOTAL];
        /// How long an engine may be gone, as for a restart, before requests that have not reached it fail
        absence: Duration = "5" [TENSORPOW_ENGINE_ABSENCE];
        /// Idle connections kept for users, an engine
        pool: usize = "256" [TENSORPOW_ENGINE_POOL];
        /// Keep generating for the proof when a client goes away in the middle of a mined request
        finish_for_proof: bool = "false" [TENSORPOW_FINISH_FOR_PROOF];
        /// A second engine on this machine serves the mining model
        dual: bool = "false" [MINING_VLLM_ENABLED];
        /// Port of the second engine
        dual_port: u16 = "8001" [MINING_VLLM_PORT];
        /// Mining model of the second engine; becomes `mining.model_name`
        dual_model_name: String = "Qwen/Qwen3-8B" [MINING_MODEL_NAME];
        /// Its commit; becomes `mining.model_commit`
        dual_model_commit: String = "" [MINING_MODEL_COMMIT];
    }

    /// What is mined.
    MiningSection "mining" {
        /// Where jobs come from: `broker`, or anything else for a node of one's own
        worker_mode: String = "standalone" [WORKER_MODE];
        /// false in broker mode: inference only
        enabled: bool = "true" [MINING_ENABLED];
        /// Outside broker mode: no registry, offline tests only; in it: the registry comes from the broker alone
        standalone: bool = "false" [STANDALONE_MODE];
        /// Name of the mined model; empty mines every registered model
        model_name: String = "" [LOCAL_MODEL_NAME, MODEL_NAME];
        /// Its registered commit; name and commit pin the model together
        model_commit: String = "" [MODEL_HASH, MODEL_COMMIT];
        /// The pin as one text; goes before name and commit
        pin: Option<ModelId> = "" [TENSORPOW_PIN] --pin;
        /// Network the proofs are for
        network: Network = "tensor" [TENSORPOW_NETWORK, CHAIN_NAME] --network;
        /// Proof version, 1 to 3; by default the network's: 3 on tensor, 2 elsewhere
        proof_version: Option<u32> = "" [POW_PROOF_VERSION] --proof-version;
        /// Scales share targets to a model's difficulty; 0 switches shares off
        share_normalizer: u64 = "1000000" [MODEL_DIFFICULTY_NORMALIZER] --share-normalizer;
        /// A job older than this is not mined on; requests are served all the same
        stale_after: Duration = "60" [MINING_STALE_THRESHOLD_SECONDS] --job-stale;
        /// Mean of the pause after each solution or share; 0 is none
        cooldown: Duration = "0" [MINING_SOLUTION_COOLDOWN_SEC] --solution-cooldown;
        /// Compact target before the first job
        base_nbits: Bits = "536990216" [BASE_NBITS];
        /// Answer 503 with Retry-After instead of serving a request of the mining model unmined
        strict: bool = "false" [TENSORPOW_STRICT_MINING] --strict-mining;
    }

    /// The link to a node.
    NodeSection "node" {
        /// Mine for a node of one's own; by default when WORKER_MODE says standalone
        enabled: Option<bool> = "" [TENSORPOW_NODE] --node;
        /// Address the node pushes its jobs to; goes before `node.job_port`
        jobs: Option<SocketAddr> = "" [TENSORPOW_JOBS] --jobs;
        /// Port on loopback the node pushes its jobs to
        job_port: u16 = "6000" [ZMQ_PULL_PORT];
        /// Addresses or ranges that may push jobs, separated by commas; needed where the job socket is not on loopback
        jobs_allow: Vec<IpNetwork> = "" [TENSORPOW_JOBS_ALLOW] --jobs-allow;
        /// Milliseconds after which a lasting silence of the node is logged again
        receive_timeout_ms: u64 = "6000000" [ZMQ_RECV_TIMEOUT_MS];
        /// The node's result socket
        results: Endpoint = "tcp://127.0.0.1:7000" [TENSORPOW_NODE_RESULTS] --results;
        /// Leave solutions to an engine that sends them to the node itself
        no_forward: bool = "false" [TENSORPOW_NO_FORWARD] --no-forward;
    }

    /// The VDF prover.
    VdfSection "vdf" {
        /// Bits of the discriminant; every chain uses 1024
        discriminant_size: u32 = "1024" [VDF_DISCRIMINANT_SIZE];
        /// Squarings between two proofs
        checkpoint_size: u32 = "32768" [VDF_CHECKPOINT_SIZE] --vdf-checkpoint;
        /// How often a finished proof is looked for
        update_interval: Duration = "0.1" [VDF_UPDATE_INTERVAL];
        /// Squarings a block at most
        max_iterations: u32 = "3000000000" [VDF_MAX_ITERS];
        /// Cores the prover is kept on, separated by commas
        cores: Vec<usize> = "" [TENSORPOW_VDF_CORES] --vdf-cores;
    }

    /// The chain's model registry.
    RegistrySection "registry" {
        /// URL of the node's model API
        url: ServiceUrl = "http://localhost:8050" [MODEL_API_URL] --registry;
        /// Its key
        api_key: Option<Secret> = "" [MODEL_API_KEY] --registry-key;
        /// The key is required
        require_auth: bool = "false" [MODEL_REQUIRE_AUTH];
        /// Attempts a load
        retry_attempts: u32 = "3" [MODEL_RETRY_ATTEMPTS];
        /// Wait after the first failed attempt; grows with each
        retry_backoff: Duration = "1.0" [MODEL_RETRY_BACKOFF];
        /// Time between two loads
        poll_interval: Duration = "300" [MODEL_POLL_INTERVAL] --registry-interval;
    }

    /// The active model and its switch.
    SwitchSection "switch" {
        /// Where the choice of a model is kept over restarts
        state_path: Option<PathBuf> = "" [MINER_RUNTIME_MODEL_STATE_PATH] --model-state;
        /// The engine's supervisor switches the engine's model
        enabled: bool = "false" [BACKEND_MODEL_SWITCH_ENABLED];
        /// URL of the supervisor
        control_url: Option<ServiceUrl> = "" [BACKEND_CONTROL_URL] --supervisor;
        /// Its key; by default the engine's
        control_api_key: Option<Secret> = "" [BACKEND_CONTROL_API_KEY, API_KEY] --supervisor-key;
        /// Limit on a switch
        timeout: Duration = "90" [BACKEND_SWITCH_TIMEOUT_SEC];
        /// Pause of mining around a forced switch
        suppress: Duration = "3" [MODEL_SWITCH_FORCE_SUPPRESS_SEC];
    }

    /// Backfill.
    BackfillSection "backfill" {
        /// Requests kept running; 0 switches backfill off
        min_active: usize = "32" [MIN_ACTIVE_REQUESTS];
        /// How often that is looked after
        monitor_interval: Duration = "1.0" [MONITOR_INTERVAL];
        /// Limit on one backfill request
        request_timeout: Duration = "300" [DUMMY_REQUEST_TIMEOUT];
        /// Attempts a backfill request
        retry_attempts: u32 = "10" [DUMMY_RETRY_ATTEMPTS];
        /// Wait after the first failed attempt; doubles with each
        retry_backoff: Duration = "1.0" [DUMMY_RETRY_BACKOFF];
        /// Append the directive that switches thinking off
        disable_thinking: bool = "true" [MINING_DISABLE_THINKING];
        /// The directive
        no_think_directive: String = "/no_think" [MINING_NO_THINK_DIRECTIVE];
        /// Tokens of a backfill request, a multiple of the 256 of a proof window
        tokens: u32 = "256" [TENSORPOW_BACKFILL_TOKENS];
        /// How often a response that runs in the background is looked at
        poll_interval: Duration = "0.5" [TENSORPOW_BACKFILL_POLL];
        /// A pool that fills from empty is spread over this time
        jitter: Duration = "0.25" [TENSORPOW_BACKFILL_JITTER];
        /// Most new backfill requests a second
        spawn_rate: f64 = "100" [TENSORPOW_BACKFILL_SPAWN_RATE];
        /// Accepted for old environment files: users always go before backfill
        priority: bool = "true" [PRIORITY_MODE];
    }

    /// Proofs.
    ProofsSection "proofs" {
        /// Address where engines push their proofs (ZeroMQ PULL); anything but loopback needs `proofs.collector_allow`. Goes before `proofs.collector_port`
        collector: Option<SocketAddr> = "" [TENSORPOW_COLLECTOR] --collector;
        /// Port on loopback where engines push their proofs
        collector_port: u16 = "7002" [PROOF_COLLECTOR_PORT];
        /// Addresses or ranges of the engines that may connect to the collector, separated by commas
        collector_allow: Vec<IpNetwork> = "" [TENSORPOW_COLLECTOR_ALLOW] --collector-allow;
        /// Largest proof message in bytes
        max_proof: usize = "4194304" [TENSORPOW_MAX_PROOF] --max-proof;
        /// The proof routes answer
        enabled: bool = "true" [PROOF_CACHE_ENABLED];
        /// How long the proof routes serve a proof
        ttl: Duration = "900" [PROOF_CACHE_TTL_SECONDS] --proof-ttl;
        /// Megabytes of memory for proofs, at least 1; the others are read from disk
        max_megabytes: usize = "500" [PROOF_CACHE_MAX_SIZE_MB] --proof-megabytes;
        /// Every proof is on disk, in `spool/` of the data folder, before it is served or forwarded; false keeps them in memory
        spool: bool = "true" [TENSORPOW_SPOOL] --spool;
        /// How long proofs stay on disk
        spool_age: Duration = "604800" [TENSORPOW_SPOOL_AGE] --spool-age;
        /// Megabytes of proofs on disk; beyond that settled ones go first, then undelivered shares, then solutions
        spool_megabytes: u64 = "1024" [TENSORPOW_SPOOL_MB] --spool-megabytes;
    }

    /// The MCP server.
    McpSection "mcp" {
        /// Run it
        enabled: bool = "false" [MCP_MODE] --mcp;
        /// Its address, loopback only; the path is /mcp
        listen: SocketAddr = "127.0.0.1:8090" [TENSORPOW_MCP_LISTEN] --mcp-listen;
    }

    /// Logs.
    LogSection "log" {
        /// Lines below it are not logged
        level: LogLevel = "info" [LOG_LEVEL];
        /// text or json
        format: LogFormat = "text" [TENSORPOW_LOG_FORMAT] --log-format;
        /// A filter by module, for example `tensorpow_server::http=debug`; goes before the level
        filter: String = "" [TENSORPOW_LOG];
    }

    /// Files of the worker.
    DataSection "data" {
        /// Folder of what must survive a restart: proofs, generated keys. By default `$XDG_DATA_HOME/tensorpow`; `none` keeps everything in memory
        dir: Option<PathBuf> = "" [TENSORPOW_DATA_DIR] --data-dir;
    }
}

/// All sections, in the order of the documentation.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ $field:ident: $section:ident,)+) => {
        /// All sections.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $about])+ pub $field: $section,)+
        }

        impl Settings {
            /// The settings of every section.
            pub const SECTIONS: &'static [&'static [super::section::Setting]] =
                &[$($section::SETTINGS),+];

            /// Reads every section; `None` when a value has been reported as unusable.
            pub(super) fn read(values: &mut super::layers::Values) -> Option<Self> {
                // Every section is read, so that every problem is reported.
                $(let $field = $section::read(values);)+
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}

settings! {
    /// The HTTP face.
    http: HttpSection,
    /// Who may call.
    keys: KeysSection,
    /// How much one client may ask for.
    limits: LimitsSection,
    /// When no new work is wanted.
    drain: DrainSection,
    /// The heartbeat file.
    heartbeat: HeartbeatSection,
    /// The inference engines.
    engine: EngineSection,
    /// What is mined.
    mining: MiningSection,
    /// The link to a node.
    node: NodeSection,
    /// The VDF prover.
    vdf: VdfSection,
    /// The model registry.
    registry: RegistrySection,
    /// The active model.
    switch: SwitchSection,
    /// An engine on trial.
    canary: CanarySection,
    /// What is brought in and taken back.
    rollout: RolloutSection,
    /// Backfill.
    backfill: BackfillSection,
    /// The prompts of backfill.
    prompts: PromptsSection,
    /// Users before backfill.
    priority: PrioritySection,
    /// Breakers.
    breaker: BreakerSection,
    /// Watchdogs.
    watchdog: WatchdogSection,
    /// What users are promised.
    slo: SloSection,
    /// Prices.
    economics: EconomicsSection,
    /// The graphics cards.
    gpu: GpuSection,
    /// The recommended number of engines.
    autoscale: AutoscaleSection,
    /// Proofs.
    proofs: ProofsSection,
    /// The MCP server.
    mcp: McpSection,
    /// Logs.
    log: LogSection,
    /// Files.
    data: DataSection,
    /// The broker link.
    broker: BrokerSection,
}

impl Settings {
    /// Every setting.
    pub fn all() -> impl Iterator<Item = &'static super::section::Setting> {
        Self::SECTIONS.iter().copied().flatten()
    }
}
