//! How many engines the present load needs, as one number for an autoscaler. Backfill never asks for
//! more machines: only users do, by their number, by a lasting shortage (a queue, late streams), or
//! by keeping the cards busy alone. A change of mind is slow, and logged with its reason and
//! everything that was looked at. spec: proxy §25

use crate::priority::PriorityReport;
use crate::priority::pressure::Shortage;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How to count engines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoscaleSettings {
    /// Engines that run now.
    pub engines: u32,
    /// Fewest and most to recommend.
    pub least: u32,
    /// See `least`.
    pub most: u32,
    /// Share of an engine's requests that users should fill at most.
    pub utilisation: f64,
    /// Share of the time from which cards are full; 0 leaves the cards out.
    pub gpu_busy: f64,
    /// A shortage this long asks for one engine more, whatever the counts say.
    pub short_for: Duration,
    /// A smaller number must hold for so long.
    pub settle: Duration,
}

impl Default for AutoscaleSettings {
    fn default() -> Self {
        Self {
            engines: 1,
            least: 1,
            most: 64,
            utilisation: 0.8,
            gpu_busy: 0.95,
            short_for: Duration::from_secs(30),
            settle: Duration::from_secs(300),
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Signals {
    /// Users at the engine and at the door, backfill, shortage, capacity.
    pub report: PriorityReport,
    /// Requests that keep an engine busy: the floor of backfill, 0 without backfill.
    pub floor: usize,
    /// How busy the cards are, 0 to 1, where they say it.
    pub gpu_busy: Option<f64>,
}

/// Why a number is recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is what runs.
    #[default]
    Steady,
    /// Users, counted against an engine's capacity.
    Users,
    /// A shortage that lasts.
    Shortage,
    /// Users alone keep the cards busy.
    Gpu,
}

impl Reason {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Users => "users",
            Self::Shortage => "shortage",
            Self::Gpu => "gpu",
        }
    }
}

/// Keeps the recommendation.
#[derive(Debug)]
pub struct Autoscale {
    settings: AutoscaleSettings,
    recommended: u32,
    reason: Reason,
    short_since: Option<Instant>,
    full_since: Option<Instant>,
    lower_since: Option<Instant>,
}

impl Autoscale {
    /// Begins with what runs.
    #[must_use]
    pub fn new(settings: AutoscaleSettings) -> Self {
        Self {
            recommended: settings.engines.clamp(settings.least, settings.most.max(settings.least)),
            settings,
            reason: Reason::Steady,
            short_since: None,
            full_since: None,
            lower_since: None,
        }
    }

    /// The recommendation.
    #[must_use]
    pub const fn recommended(&self) -> u32 {
        self.recommended
    }

    /// Why it is that.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Looks again; the new recommendation, if it changed.
    pub fn look(&mut self, signals: &Signals, now: Instant) -> Option<u32> {
        let settings = self.settings;
        let report = &signals.report;
        self.short_since = report.shortage.and(self.short_since.or(Some(now)));
        let full = cards_are_full(signals, settings.gpu_busy);
        self.full_since = full.then(|| self.full_since.unwrap_or(now));
        let (wanted, reason) = self.wanted(report, now);
        if wanted >= self.recommended {
            self.lower_since = None;
        } else {
            self.lower_since = self.lower_since.or(Some(now));
        }
        let rises = wanted > self.recommended;
        if !rises && !lasts(self.lower_since, settings.settle, now) {
            return None;
        }
        tracing::info!(
            reason = reason.as_str(),
            users = report.at.users,
            queued = report.at.queued,
            backfill = report.at.backfill,
            capacity = report.capacity,
            shortage = report.shortage.map(Shortage::as_str),
            gpu_busy = signals.gpu_busy,
            "autoscaling: {wanted} engines recommended instead of {}",
            self.recommended
        );
        self.recommended = wanted;
        self.reason = reason;
        self.lower_since = None;
        Some(wanted)
    }

    /// Engines that are wanted at this moment, and the signal that wants most of them.
    fn wanted(&self, report: &PriorityReport, now: Instant) -> (u32, Reason) {
        let settings = &self.settings;
        let running = settings.engines;
        let more = running.saturating_add(1);
        let mut wanted = (running, Reason::Steady);
        if let Some(users) = needed(report, settings.utilisation) {
            wanted = (users, if users == running { Reason::Steady } else { Reason::Users });
        }
        for (since, reason) in
            [(self.short_since, Reason::Shortage), (self.full_since, Reason::Gpu)]
        {
            if lasts(since, settings.short_for, now) && more > wanted.0 {
                wanted = (more, reason);
            }
        }
        (wanted.0.clamp(settings.least, settings.most.max(settings.least)), wanted.1)
    }
}

fn lasts(since: Option<Instant>, limit: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
}

/// Engines for the users that are here, where the capacity of one is known.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn needed(report: &PriorityReport, utilisation: f64) -> Option<u32> {
    let each = report.capacity? as f64 * utilisation.clamp(0.05, 1.0);
    let users = (report.at.users + report.at.queued) as f64;
    // Both are counts of requests; the cast saturates.
    Some((users / each.max(0.05)).ceil() as u32)
}

/// Users alone keep the cards busy. A card is busy as soon as anything runs on it, so that says
/// something only when users run as many requests as backfill would.
fn cards_are_full(signals: &Signals, threshold: f64) -> bool {
    let Signals { report, floor, gpu_busy } = signals;
    let enough = report.capacity.map_or(*floor, |capacity| capacity.min(*floor));
    let busy = gpu_busy.is_some_and(|busy| threshold > 0.0 && busy >= threshold);
    busy && enough > 0 && report.at.users >= enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::priority::ladder::Level;
    use crate::priority::pressure::Occupancy;

    fn signals(users: usize, shortage: Option<Shortage>) -> Signals {
        let at = Occupancy { users, queued: 0, backfill: 30 };
        let report =
            PriorityReport { at, shortage, level: Level::Normal, preempted: 0, capacity: Some(10) };
        Signals { report, floor: 32, gpu_busy: None }
    }

    /// On an engine that does not tell its capacity.
    fn busy(users: usize, gpu_busy: f64) -> Signals {
        let mut signals = signals(users, None);
        signals.report.capacity = None;
        Signals { gpu_busy: Some(gpu_busy), ..signals }
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut autoscale = Autoscale::new(AutoscaleSettings::default());
        assert_eq!(autoscale.look(&signals(3, None), at(0)), None);
        assert_eq!(autoscale.look(&signals(20, None), at(1)), Some(3));
        assert_eq!(autoscale.reason(), Reason::Users);
        assert_eq!(autoscale.look(&signals(1, None), at(2)), None);
        assert_eq!(autoscale.look(&signals(17, None), at(200)), None, "three are needed again");
        assert_eq!(autoscale.look(&signals(1, None), at(201)), None);
        assert_eq!(autoscale.look(&signals(0, None), at(501)), Some(1));
    }

    #[test]
    fn a_lasting_shortage_asks_for_one_more() {
        let start = Instant::now();
        let mut autoscale = Autoscale::new(AutoscaleSettings::default());
        let short = signals(2, Some(Shortage::StreamLate));
        assert_eq!(autoscale.look(&short, start), None);
        assert_eq!(autoscale.look(&short, start + Duration::from_secs(30)), Some(2));
        assert_eq!(autoscale.reason(), Reason::Shortage);
    }

    #[test]
    fn cards_that_users_alone_keep_busy_ask_for_one_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut autoscale = Autoscale::new(AutoscaleSettings::default());
        assert_eq!(autoscale.look(&busy(32, 0.97), at(0)), None);
        assert_eq!(autoscale.look(&busy(32, 0.5), at(20)), None, "a pause begins anew");
        assert_eq!(autoscale.look(&busy(40, 0.99), at(21)), None);
        assert_eq!(autoscale.look(&busy(40, 0.99), at(51)), Some(2));
        assert_eq!(autoscale.reason(), Reason::Gpu);
        assert_eq!(autoscale.look(&busy(5, 1.0), at(52)), None);
        assert_eq!(autoscale.look(&busy(5, 1.0), at(351)), None, "it falls only after a while");
        assert_eq!(autoscale.look(&busy(5, 1.0), at(352)), Some(1));
        assert_eq!(autoscale.reason(), Reason::Steady);
    }

    #[test]
    fn a_card_that_is_busy_with_backfill_asks_for_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let never = |signals: Signals, settings: AutoscaleSettings| {
            let mut autoscale = Autoscale::new(settings);
            autoscale.look(&signals, at(0));
            autoscale.look(&signals, at(3_600)).is_none()
        };
        let usual = AutoscaleSettings::default();
        assert!(never(busy(31, 1.0), usual), "backfill would add one");
        assert!(never(Signals { floor: 0, ..busy(500, 1.0) }, usual), "nothing to compare with");
        assert!(never(Signals { gpu_busy: None, ..busy(500, 1.0) }, usual));
        assert!(never(busy(500, 1.0), AutoscaleSettings { gpu_busy: 0.0, ..usual }));
        assert!(!never(busy(500, 1.0), usual));
    }
}
