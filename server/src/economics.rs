//! What the work costs and earns, by prices from the configuration: cost per 1 000 tokens, per
//! window and per accepted share, profit, and how much of the time the GPU had nothing to do.
//! Counts since the start of the proxy. Energy and idle time are what the cards' meter says where
//! there is one, else follow from the configured watts and the requests. spec: proxy §25

use crate::gpu::meter::Metered;
use serde::Serialize;

/// Prices. All in one currency of the operator's choice; what is zero costs or earns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prices {
    /// One GPU for an hour.
    pub gpu_hour: f64,
    /// GPUs behind this proxy; 0 reads as 1.
    pub gpus: u32,
    /// One kilowatt-hour.
    pub kilowatt_hour: f64,
    /// Watts of all GPUs while they work; where neither number is set the meter counts.
    pub watts_busy: f64,
    /// Watts of all GPUs while they have nothing to do.
    pub watts_idle: f64,
    /// Everything else for an hour: operation, egress.
    pub other_hour: f64,
    /// Reward for an accepted share.
    pub share: f64,
    /// Reward for an accepted block.
    pub block: f64,
    /// What users pay for 1 000 generated tokens.
    pub sold_1k_tokens: f64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Time of the account in seconds.
    pub seconds: f64,
    /// Of it, with something to do.
    pub busy_seconds: f64,
    /// Tokens generated, backfill included.
    pub tokens: u64,
    /// Of them, for users.
    pub sold_tokens: u64,
    /// Windows of 256 tokens.
    pub windows: u64,
    /// Accepted shares.
    pub shares: u64,
    /// Accepted blocks.
    pub blocks: u64,
    /// What the cards of this machine say.
    pub metered: Metered,
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The cards' meter.
    Nvml,
    /// The configured watts.
    #[default]
    Configured,
    /// The requests that were at the engine.
    Requests,
}

impl Source {
    /// Where energy may come from.
    pub const OF_ENERGY: [Self; 2] = [Self::Nvml, Self::Configured];

    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvml => "nvml",
            Self::Configured => "configured",
            Self::Requests => "requests",
        }
    }
}

/// The books.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Ledger {
    /// Everything spent.
    pub cost: f64,
    /// Everything earned.
    pub revenue: f64,
    /// Earned less spent.
    pub profit: f64,
    /// Profit an hour.
    pub profit_per_hour: f64,
    /// Cost of 1 000 generated tokens; none before the first.
    pub cost_per_1k_tokens: Option<f64>,
    /// Cost of a window.
    pub cost_per_window: Option<f64>,
    /// Cost of an accepted share or block.
    pub cost_per_accepted_share: Option<f64>,
    /// Energy in kilowatt-hours.
    pub kilowatt_hours: f64,
    /// Where that comes from: the meter, or the configured watts.
    pub energy_source: Source,
    /// GPU time in seconds.
    pub gpu_seconds: f64,
    /// Share of the time without anything to do.
    pub idle_ratio: f64,
    /// Where that comes from: the meter, or the requests.
    pub idle_source: Source,
}

impl Ledger {
    /// Adds it up.
    #[must_use]
    pub fn new(prices: &Prices, work: &Work) -> Self {
        let hours = work.seconds / 3600.0;
        let busy = work.busy_seconds.clamp(0.0, work.seconds.max(0.0));
        let gpu_seconds = work.seconds * f64::from(prices.gpus.max(1));
        let (kilowatt_hours, energy_source) = energy(prices, work, busy);
        let (idle_ratio, idle_source) = match work.metered.busy {
            Some(busy) => (1.0 - busy, Source::Nvml),
            None if work.seconds > 0.0 => (1.0 - busy / work.seconds, Source::Requests),
            None => (0.0, Source::Requests),
        };
        let cost = prices.gpu_hour * gpu_seconds / 3600.0
            + prices.kilowatt_hour * kilowatt_hours
            + prices.other_hour * hours;
        let revenue = prices.share * count(work.shares)
            + prices.block * count(work.blocks)
            + prices.sold_1k_tokens * count(work.sold_tokens) / 1000.0;
        let profit = revenue - cost;
        let per = |units: u64| (units > 0).then(|| cost / count(units));
        Self {
            cost,
            revenue,
            profit,
            profit_per_hour: if hours > 0.0 { profit / hours } else { 0.0 },
            cost_per_1k_tokens: per(work.tokens).map(|each| each * 1000.0),
            cost_per_window: per(work.windows),
            cost_per_accepted_share: per(work.shares.saturating_add(work.blocks)),
            kilowatt_hours,
            energy_source,
            gpu_seconds,
            idle_ratio,
            idle_source,
        }
    }

    /// The figures that have a value, by name.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("cost", Some(self.cost)),
            ("revenue", Some(self.revenue)),
            ("profit", Some(self.profit)),
            ("profit_per_hour", Some(self.profit_per_hour)),
            ("cost_per_1k_tokens", self.cost_per_1k_tokens),
            ("cost_per_window", self.cost_per_window),
            ("cost_per_accepted_share", self.cost_per_accepted_share),
            ("kilowatt_hours", Some(self.kilowatt_hours)),
            ("gpu_seconds", Some(self.gpu_seconds)),
            ("idle_ratio", Some(self.idle_ratio)),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// Kilowatt-hours. Who has set watts has measured better, or has the engine elsewhere.
fn energy(prices: &Prices, work: &Work, busy: f64) -> (f64, Source) {
    let configured = prices.watts_busy > 0.0 || prices.watts_idle > 0.0;
    match work.metered.watt_hours {
        Some(watt_hours) if !configured => (watt_hours / 1000.0, Source::Nvml),
        _ => {
            let idle = (work.seconds - busy).max(0.0);
            let watt_seconds = prices.watts_busy * busy + prices.watts_idle * idle;
            (watt_seconds / 3_600_000.0, Source::Configured)
        }
    }
}

#[allow(clippy::cast_precision_loss)] // counts of work done
fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_adds_up() {
        let prices = Prices {
            gpu_hour: 2.0,
            gpus: 2,
            kilowatt_hour: 0.5,
            watts_busy: 1000.0,
            watts_idle: 200.0,
            other_hour: 0.1,
            share: 0.01,
            block: 10.0,
            sold_1k_tokens: 0.002,
        };
        let work = Work {
            seconds: 3600.0,
            busy_seconds: 2700.0,
            tokens: 1_000_000,
            sold_tokens: 500_000,
            windows: 3_906,
            shares: 49,
            blocks: 1,
            metered: Metered::default(),
        };
        let ledger = Ledger::new(&prices, &work);
        let close = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        assert!(close(ledger.kilowatt_hours, 0.75 + 0.05), "{ledger:?}");
        assert!(close(ledger.cost, 4.0 + 0.4 + 0.1), "{ledger:?}");
        assert!(close(ledger.revenue, 0.49 + 10.0 + 1.0), "{ledger:?}");
        assert!(close(ledger.profit, ledger.revenue - ledger.cost));
        assert!(close(ledger.cost_per_1k_tokens.unwrap(), 0.0045));
        assert!(close(ledger.cost_per_accepted_share.unwrap(), 0.09));
        assert!(close(ledger.idle_ratio, 0.25));
        assert_eq!(
            (ledger.energy_source, ledger.idle_source),
            (Source::Configured, Source::Requests)
        );
    }

    #[test]
    fn the_meter_is_believed_unless_watts_are_set() {
        let metered = Metered { watt_hours: Some(500.0), busy: Some(0.9), busy_now: None };
        let work = Work { seconds: 3600.0, busy_seconds: 1800.0, metered, ..Work::default() };
        let price = Prices { kilowatt_hour: 0.5, ..Prices::default() };
        let by_meter = Ledger::new(&price, &work);
        let close = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        assert_eq!((by_meter.energy_source, by_meter.idle_source), (Source::Nvml, Source::Nvml));
        assert!(close(by_meter.kilowatt_hours, 0.5) && close(by_meter.cost, 0.25), "{by_meter:?}");
        assert!(close(by_meter.idle_ratio, 0.1), "{by_meter:?}");
        let set = Ledger::new(&Prices { watts_busy: 1000.0, ..price }, &work);
        assert_eq!((set.energy_source, set.idle_source), (Source::Configured, Source::Nvml));
        assert!(close(set.kilowatt_hours, 0.5) && close(set.idle_ratio, 0.1), "{set:?}");
        let blind = Metered { busy: Some(0.5), ..Metered::default() };
        let blind = Ledger::new(&price, &Work { metered: blind, ..work });
        assert_eq!(blind.energy_source, Source::Configured, "a card without watts");
        assert!(close(blind.kilowatt_hours, 0.0) && close(blind.idle_ratio, 0.5), "{blind:?}");
    }

    #[test]
    fn nothing_done_has_no_unit_cost() {
        let ledger = Ledger::new(&Prices::default(), &Work::default());
        assert_eq!(ledger.cost_per_1k_tokens, None);
        assert!(ledger.rows().all(|(_, value)| value.is_finite()));
    }
}
