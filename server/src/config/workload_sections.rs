//! Settings of keeping the engine busy and its users content, beside the backfill settings that the
//! reference has too.

use super::section::sections;
use crate::backfill::prompt::LengthShape;
use crate::watchdog::Action;
use std::path::PathBuf;
use std::time::Duration;

sections! {
    /// The prompts of backfill.
    PromptsSection "prompts" {
        /// A file or folder of texts that prompts draw on; without one they are generated
        corpus: Option<PathBuf> = "" [TENSORPOW_PROMPT_CORPUS];
        /// Fewest words of a prompt; it has at least six sentences all the same
        least_words: usize = "40" [TENSORPOW_PROMPT_LEAST_WORDS];
        /// Most words of a prompt
        most_words: usize = "240" [TENSORPOW_PROMPT_MOST_WORDS];
        /// How lengths are spread between them
        lengths: LengthShape = "log-uniform" [TENSORPOW_PROMPT_LENGTHS];
    }

    /// Users before backfill.
    PrioritySection "priority" {
        /// Requests the engine runs at a time; by default what the engine says
        capacity: Option<usize> = "" [TENSORPOW_ENGINE_CAPACITY];
        /// Of these, kept free of backfill
        headroom: usize = "0" [TENSORPOW_ENGINE_HEADROOM];
        /// A user's stream that has not begun after this time makes backfill give way
        first_token: Duration = "0.75" [TENSORPOW_FIRST_TOKEN];
        /// For how long after a late stream the engine counts as short
        remember: Duration = "3" [TENSORPOW_SHORT_REMEMBER];
        /// Backfill requests regained a second once it is no longer short
        regain: f64 = "2" [TENSORPOW_BACKFILL_REGAIN];
        /// Users' requests that may wait behind `limits.concurrency`
        queue: usize = "2048" [TENSORPOW_QUEUE];
        /// And for how long
        queue_deadline: Duration = "30" [TENSORPOW_QUEUE_DEADLINE];
        /// A shortage this long is answered by the next step: no backfill, short queues, low clients shed
        degrade_after: Duration = "3" [TENSORPOW_DEGRADE_AFTER];
        /// A step is taken back after so long without a shortage
        restore_after: Duration = "5" [TENSORPOW_RESTORE_AFTER];
    }

    /// Breakers, of each engine, of backfill and of the registry.
    BreakerSection "breaker" {
        /// Failures in a row that open it; 0 never does
        consecutive: u32 = "5" [TENSORPOW_BREAKER_CONSECUTIVE];
        /// Share of failures that opens it; above 1 never does
        error_rate: f64 = "0.5" [TENSORPOW_BREAKER_ERROR_RATE];
        /// Requests before the share says anything
        least_requests: u32 = "20" [TENSORPOW_BREAKER_LEAST_REQUESTS];
        /// Time over which it is taken
        window: Duration = "30" [TENSORPOW_BREAKER_WINDOW];
        /// How long it stays open the first time; doubles with each failed trial
        open: Duration = "2" [TENSORPOW_BREAKER_OPEN];
        /// And at most
        open_at_most: Duration = "30" [TENSORPOW_BREAKER_OPEN_AT_MOST];
    }

    /// Watchdogs. A time of 0 switches one off; an action is log, restart_engine, reconnect or exit.
    WatchdogSection "watchdog" {
        /// No token for so long on an engine that has requests
        engine_tokens: Duration = "120" [TENSORPOW_WATCH_ENGINE_TOKENS];
        /// What happens then
        engine_tokens_action: Action = "log" [TENSORPOW_WATCH_ENGINE_TOKENS_ACTION];
        /// No VDF advance for so long
        vdf: Duration = "120" [TENSORPOW_WATCH_VDF];
        /// What happens then
        vdf_action: Action = "log" [TENSORPOW_WATCH_VDF_ACTION];
        /// No job for so long
        job: Duration = "300" [TENSORPOW_WATCH_JOB];
        /// What happens then
        job_action: Action = "log" [TENSORPOW_WATCH_JOB_ACTION];
        /// No proof for so long while mined tokens flow
        proof_feed: Duration = "300" [TENSORPOW_WATCH_PROOF_FEED];
        /// What happens then
        proof_feed_action: Action = "log" [TENSORPOW_WATCH_PROOF_FEED_ACTION];
        /// Mined tokens without a proof before that counts
        proof_tokens: u64 = "16384" [TENSORPOW_WATCH_PROOF_TOKENS];
        /// The event loop is late by so much
        event_loop: Duration = "1" [TENSORPOW_WATCH_EVENT_LOOP];
        /// What happens then
        event_loop_action: Action = "log" [TENSORPOW_WATCH_EVENT_LOOP_ACTION];
        /// What `restart_engine` runs in a shell, for example `systemctl restart vllm`
        restart_command: String = "" [TENSORPOW_ENGINE_RESTART];
        /// An alarm that lasts is raised again
        repeat: Duration = "300" [TENSORPOW_WATCH_REPEAT];
    }

    /// What users are promised, and what an exhausted error budget takes of the backfill floor.
    SloSection "slo" {
        /// Share of requests that get an answer
        availability: f64 = "0.995" [TENSORPOW_SLO_AVAILABILITY];
        /// Most errors among them
        error_rate: f64 = "0.01" [TENSORPOW_SLO_ERROR_RATE];
        /// Half of the streams begin within this time
        ttft_p50: Duration = "1" [TENSORPOW_SLO_TTFT_P50];
        /// Nineteen of twenty within this one
        ttft_p95: Duration = "5" [TENSORPOW_SLO_TTFT_P95];
        /// Requests of a window before its budget can be exhausted
        least_requests: u64 = "50" [TENSORPOW_SLO_LEAST_REQUESTS];
        /// What an exhausted hour leaves of the floor
        floor_left_1h: f64 = "0.5" [TENSORPOW_SLO_FLOOR_LEFT_1H];
        /// What exhausted six hours leave
        floor_left_6h: f64 = "0.5" [TENSORPOW_SLO_FLOOR_LEFT_6H];
        /// What exhausted thirty days leave; they say nothing about the present
        floor_left_30d: f64 = "1" [TENSORPOW_SLO_FLOOR_LEFT_30D];
        /// Where the counts are kept over restarts; `tensorpow serve` keeps them in the data folder
        file: Option<PathBuf> = "" [TENSORPOW_SLO_FILE];
    }

    /// Prices, all in one currency.
    EconomicsSection "economics" {
        /// One GPU for an hour
        gpu_hour: f64 = "0" [TENSORPOW_PRICE_GPU_HOUR];
        /// GPUs behind this proxy
        gpus: u32 = "1" [TENSORPOW_GPUS];
        /// One kilowatt-hour
        kilowatt_hour: f64 = "0" [TENSORPOW_PRICE_KILOWATT_HOUR];
        /// Watts of all GPUs while they work; with neither number the NVIDIA cards of this machine are metered
        watts_busy: f64 = "0" [TENSORPOW_WATTS_BUSY];
        /// Watts of all GPUs while they have nothing to do
        watts_idle: f64 = "0" [TENSORPOW_WATTS_IDLE];
        /// Everything else for an hour
        other_hour: f64 = "0" [TENSORPOW_PRICE_OTHER_HOUR];
        /// Reward for an accepted share
        share: f64 = "0" [TENSORPOW_REWARD_SHARE];
        /// Reward for an accepted block
        block: f64 = "0" [TENSORPOW_REWARD_BLOCK];
        /// What users pay for 1 000 generated tokens
        sold_1k_tokens: f64 = "0" [TENSORPOW_PRICE_1K_TOKENS];
    }

    /// The graphics cards of this machine.
    GpuSection "gpu" {
        /// Show on `/metrics` how busy, full and hot they are, where NVIDIA's library is installed
        gauges: bool = "true" [TENSORPOW_GPU_GAUGES];
    }

    /// The recommended number of engines.
    AutoscaleSection "autoscale" {
        /// Fewest
        least: u32 = "1" [TENSORPOW_AUTOSCALE_LEAST];
        /// Most
        most: u32 = "64" [TENSORPOW_AUTOSCALE_MOST];
        /// Share of an engine's requests that users should fill
        utilisation: f64 = "0.8" [TENSORPOW_AUTOSCALE_UTILISATION];
        /// Share of the time from which the cards of this machine count as full, while users run as many requests as the floor of backfill; 0 leaves the cards out
        gpu_busy: f64 = "0.95" [TENSORPOW_AUTOSCALE_GPU_BUSY];
        /// A shortage, or cards that are full, this long ask for one engine more
        short_for: Duration = "30" [TENSORPOW_AUTOSCALE_SHORT];
        /// A smaller number must hold for so long
        settle: Duration = "300" [TENSORPOW_AUTOSCALE_SETTLE];
    }
}
