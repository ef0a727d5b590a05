//! How many engines the present load needs, as one number for an autoscaler. Backfill never asks for
//! more machines: only users at the engines, users at the door and a lasting shortage do. A change
//! of mind is slow and logged. spec: proxy §25

use crate::priority::PriorityReport;
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
            short_for: Duration::from_secs(30),
            settle: Duration::from_secs(300),
        }
    }
}

/// Keeps the recommendation.
#[derive(Debug)]
pub struct Autoscale {
    settings: AutoscaleSettings,
    recommended: u32,
    short_since: Option<Instant>,
    lower_since: Option<Instant>,
}

impl Autoscale {
    /// Begins with what runs.
    #[must_use]
    pub fn new(settings: AutoscaleSettings) -> Self {
        let recommended = settings.engines.clamp(settings.least, settings.most.max(settings.least));
        Self { settings, recommended, short_since: None, lower_since: None }
    }

    /// The recommendation.
    #[must_use]
    pub const fn recommended(&self) -> u32 {
        self.recommended
    }

    /// Looks again; the new recommendation, if it changed.
    pub fn look(&mut self, report: &PriorityReport, now: Instant) -> Option<u32> {
        let Self { settings, .. } = *self;
        self.short_since = report.shortage.and(self.short_since.or(Some(now)));
        let long = |since: Option<Instant>, limit| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
        };
        let mut wanted = needed(report, settings.utilisation).unwrap_or(settings.engines);
        if long(self.short_since, settings.short_for) {
            wanted = wanted.max(settings.engines.saturating_add(1));
        }
        let wanted = wanted.clamp(settings.least, settings.most.max(settings.least));
        if wanted >= self.recommended {
            self.lower_since = None;
        } else {
            self.lower_since = self.lower_since.or(Some(now));
        }
        let rises = wanted > self.recommended;
        if !rises && !long(self.lower_since, settings.settle) {
            return None;
        }
        self.recommended = wanted;
        self.lower_since = None;
        tracing::info!(
            users = report.at.users,
            queued = report.at.queued,
            backfill = report.at.backfill,
            "autoscaling: {wanted} engines recommended"
        );
        Some(wanted)
    }
}

/// Engines for the users that are here, where the capacity of one is known.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn needed(report: &PriorityReport, utilisation: f64) -> Option<u32> {
    let each = report.capacity? as f64 * utilisation.clamp(0.05, 1.0);
    let users = (report.at.users + report.at.queued) as f64;
    // Both are counts of requests; the cast saturates.
    Some((users / each.max(0.05)).ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::priority::ladder::Level;
    use crate::priority::pressure::{Occupancy, Shortage};

    fn report(users: usize, shortage: Option<Shortage>) -> PriorityReport {
        let at = Occupancy { users, queued: 0, backfill: 30 };
        PriorityReport { at, shortage, level: Level::Normal, preempted: 0, capacity: Some(10) }
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut autoscale = Autoscale::new(AutoscaleSettings::default());
        assert_eq!(autoscale.look(&report(3, None), at(0)), None);
        assert_eq!(autoscale.look(&report(20, None), at(1)), Some(3));
        assert_eq!(autoscale.look(&report(1, None), at(2)), None);
        assert_eq!(autoscale.look(&report(17, None), at(200)), None, "three are needed again");
        assert_eq!(autoscale.look(&report(1, None), at(201)), None);
        assert_eq!(autoscale.look(&report(0, None), at(501)), Some(1));
    }

    #[test]
    fn a_lasting_shortage_asks_for_one_more() {
        let start = Instant::now();
        let mut autoscale = Autoscale::new(AutoscaleSettings::default());
        let short = report(2, Some(Shortage::StreamLate));
        assert_eq!(autoscale.look(&short, start), None);
        assert_eq!(autoscale.look(&short, start + Duration::from_secs(30)), Some(2));
    }
}
