//! The settings of [`crate::workload`] out of the sections that hold them.

use super::sections::Settings;
use super::workload_sections::{BreakerSection, SloSection, WatchdogSection};
use crate::autoscale::AutoscaleSettings;
use crate::backfill::BackfillSettings;
use crate::backfill::prompt::{PromptLength, PromptSettings};
use crate::breaker::BreakerSettings;
use crate::economics::Prices;
use crate::priority::PrioritySettings;
use crate::priority::ladder::LadderSettings;
use crate::priority::pressure::PressureSettings;
use crate::priority::queue::QueueLimits;
use crate::slo::SloSettings;
use crate::watchdog::{Action, Watch, WatchdogSettings};
use crate::workload::WorkloadSettings;
use std::time::Duration;

/// All of it.
pub(super) fn settings(
    settings: &Settings,
    leased_jobs: bool,
    problems: &mut Vec<String>,
) -> WorkloadSettings {
    check(settings, problems);
    WorkloadSettings {
        backfill: backfill(settings),
        priority: priority(settings),
        watchdogs: watchdogs(&settings.watchdog),
        slo: slo(&settings.slo),
        slo_file: settings.slo.file.clone(),
        prices: prices(settings),
        autoscale: autoscale(settings),
        restart_command: Some(settings.watchdog.restart_command.clone())
            .filter(|command| !command.is_empty()),
        leased_jobs,
    }
}

fn backfill(settings: &Settings) -> BackfillSettings {
    let (backfill, prompts) = (&settings.backfill, &settings.prompts);
    BackfillSettings {
        floor: backfill.min_active,
        monitor: backfill.monitor_interval,
        tokens: backfill.tokens,
        request_timeout: backfill.request_timeout,
        attempts: backfill.retry_attempts,
        backoff: backfill.retry_backoff,
        poll: backfill.poll_interval,
        jitter: backfill.jitter,
        spawns_per_second: backfill.spawn_rate,
        prompts: PromptSettings {
            length: PromptLength {
                least: prompts.least_words,
                most: prompts.most_words,
                shape: prompts.lengths,
            },
            corpus: prompts.corpus.clone(),
            directive: backfill.disable_thinking.then(|| backfill.no_think_directive.clone()),
        },
        breaker: breaker(&settings.breaker),
    }
}

fn priority(settings: &Settings) -> PrioritySettings {
    let priority = &settings.priority;
    PrioritySettings {
        queue: QueueLimits {
            at_a_time: at_a_time(settings),
            waiting: priority.queue,
            deadline: priority.queue_deadline,
        },
        pressure: PressureSettings {
            first_token: priority.first_token,
            remember: priority.remember,
            capacity: priority.capacity,
            headroom: priority.headroom,
        },
        ladder: LadderSettings {
            down_after: priority.degrade_after,
            up_after: priority.restore_after,
        },
        regain: priority.regain,
    }
}

fn at_a_time(settings: &Settings) -> usize {
    match settings.limits.concurrency {
        0 => usize::MAX,
        most => most,
    }
}

/// Generation requests that are at the engines or wait for that.
pub(super) fn at_the_door(settings: &Settings) -> usize {
    at_a_time(settings).saturating_add(settings.priority.queue)
}

/// The settings of every breaker.
pub(super) fn breaker(breaker: &BreakerSection) -> BreakerSettings {
    BreakerSettings {
        consecutive: breaker.consecutive,
        error_rate: breaker.error_rate,
        least_requests: breaker.least_requests,
        window: breaker.window,
        open_for: breaker.open,
        open_at_most: breaker.open_at_most,
        ..BreakerSettings::default()
    }
}

fn watchdogs(watchdog: &WatchdogSection) -> WatchdogSettings {
    let watch = |after: Duration, action: Action| Watch { after, action };
    WatchdogSettings {
        engine_tokens: watch(watchdog.engine_tokens, watchdog.engine_tokens_action),
        vdf: watch(watchdog.vdf, watchdog.vdf_action),
        job: watch(watchdog.job, watchdog.job_action),
        proof_feed: watch(watchdog.proof_feed, watchdog.proof_feed_action),
        proof_tokens: watchdog.proof_tokens,
        event_loop: watch(watchdog.event_loop, watchdog.event_loop_action),
        repeat: watchdog.repeat,
    }
}

fn slo(slo: &SloSection) -> SloSettings {
    SloSettings {
        availability: slo.availability,
        error_rate: slo.error_rate,
        ttft_p50: slo.ttft_p50,
        ttft_p95: slo.ttft_p95,
        least_requests: slo.least_requests,
        floor_left: [slo.floor_left_1h, slo.floor_left_6h, slo.floor_left_30d],
    }
}

fn prices(settings: &Settings) -> Prices {
    let economics = &settings.economics;
    Prices {
        gpu_hour: economics.gpu_hour,
        gpus: economics.gpus,
        kilowatt_hour: economics.kilowatt_hour,
        watts_busy: economics.watts_busy,
        watts_idle: economics.watts_idle,
        other_hour: economics.other_hour,
        share: economics.share,
        block: economics.block,
        sold_1k_tokens: economics.sold_1k_tokens,
    }
}

fn autoscale(settings: &Settings) -> AutoscaleSettings {
    let autoscale = &settings.autoscale;
    AutoscaleSettings {
        least: autoscale.least,
        most: autoscale.most,
        utilisation: autoscale.utilisation,
        gpu_busy: autoscale.gpu_busy,
        short_for: autoscale.short_for,
        settle: autoscale.settle,
        ..AutoscaleSettings::default()
    }
}

/// Values that are numbers and make no sense all the same.
fn check(settings: &Settings, problems: &mut Vec<String>) {
    let slo = &settings.slo;
    for (name, share) in [
        ("slo.availability", slo.availability),
        ("slo.error_rate", slo.error_rate),
        ("slo.floor_left_1h", slo.floor_left_1h),
        ("slo.floor_left_6h", slo.floor_left_6h),
        ("slo.floor_left_30d", slo.floor_left_30d),
        ("autoscale.utilisation", settings.autoscale.utilisation),
        ("autoscale.gpu_busy", settings.autoscale.gpu_busy),
    ] {
        if !(0.0..=1.0).contains(&share) {
            problems.push(format!("{name}: {share} is not a share between 0 and 1"));
        }
    }
    let watchdog = &settings.watchdog;
    let restarts = [
        watchdog.engine_tokens_action,
        watchdog.vdf_action,
        watchdog.job_action,
        watchdog.proof_feed_action,
        watchdog.event_loop_action,
    ];
    if restarts.contains(&Action::RestartEngine) && watchdog.restart_command.is_empty() {
        problems.push("an action restart_engine needs watchdog.restart_command".to_owned());
    }
    let tokens = settings.backfill.tokens;
    if tokens == 0 || tokens % 256 != 0 {
        problems.push(format!(
            "backfill.tokens: {tokens} is not a multiple of 256, the length of a proof window"
        ));
    }
    if settings.prompts.most_words < settings.prompts.least_words {
        problems.push("prompts.most_words is less than prompts.least_words".to_owned());
    }
}
