//! Graceful degradation: one step down while the engine stays short, one step up after a quiet
//! while. First backfill goes, then queues become shorter, at last the least important clients are
//! shed. spec: proxy §25

use std::time::{Duration, Instant};

/// How far service is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    Normal,
    /// No backfill.
    NoBackfill,
    /// Queues are a quarter as long and as patient.
    ShortQueues,
    /// Clients of low class are refused.
    ShedLow,
}

impl Level {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::NoBackfill => "no_backfill",
            Self::ShortQueues => "short_queues",
            Self::ShedLow => "shed_low",
        }
    }

    /// As exported: 0 to 3.
    #[must_use]
    pub const fn gauge(self) -> i64 {
        self as i64
    }

    const fn down(self) -> Self {
        match self {
            Self::Normal => Self::NoBackfill,
            Self::NoBackfill => Self::ShortQueues,
            Self::ShortQueues | Self::ShedLow => Self::ShedLow,
        }
    }

    const fn up(self) -> Self {
        match self {
            Self::Normal | Self::NoBackfill => Self::Normal,
            Self::ShortQueues => Self::NoBackfill,
            Self::ShedLow => Self::ShortQueues,
        }
    }
}

/// How fast the ladder is climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LadderSettings {
    /// The engine stays short for so long before the next step down.
    pub down_after: Duration,
    /// It is not short for so long before the next step up.
    pub up_after: Duration,
}

impl Default for LadderSettings {
    fn default() -> Self {
        Self { down_after: Duration::from_secs(3), up_after: Duration::from_secs(5) }
    }
}

/// Where on the ladder the proxy stands.
#[derive(Debug)]
pub struct Ladder {
    settings: LadderSettings,
    level: Level,
    /// When the present level, or the present quiet or short while, began.
    since: Instant,
    was_short: bool,
}

impl Ladder {
    /// At the top.
    #[must_use]
    pub const fn new(settings: LadderSettings, now: Instant) -> Self {
        Self { settings, level: Level::Normal, since: now, was_short: false }
    }

    /// The present level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Looks again: `short` says whether the engine is, `backfill_left` whether there is still
    /// backfill to end, in which case users lose nothing yet. The new level, if it changed.
    pub fn look(&mut self, short: bool, backfill_left: bool, now: Instant) -> Option<Level> {
        if short != self.was_short {
            self.was_short = short;
            self.since = now;
        }
        let held = now.saturating_duration_since(self.since);
        let next = match (short, self.level) {
            (true, Level::Normal) => Level::NoBackfill,
            (true, _) if backfill_left => self.level,
            (true, level) if held >= self.settings.down_after => level.down(),
            (false, level) if held >= self.settings.up_after => level.up(),
            _ => self.level,
        };
        if next == self.level {
            return None;
        }
        self.level = next;
        self.since = now;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_reduced_in_order_and_comes_back_in_order() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(LadderSettings::default(), start);
        assert_eq!(ladder.look(false, true, at(1)), None);
        assert_eq!(ladder.look(true, true, at(2)), Some(Level::NoBackfill), "at once");
        assert_eq!(ladder.look(true, true, at(9)), None, "backfill ends first");
        assert_eq!(ladder.look(true, false, at(10)), Some(Level::ShortQueues));
        assert_eq!(ladder.look(true, false, at(12)), None);
        assert_eq!(ladder.look(true, false, at(13)), Some(Level::ShedLow));
        assert_eq!(ladder.look(true, false, at(99)), None);
        assert_eq!(ladder.look(false, false, at(100)), None);
        for (seconds, level) in
            [(105, Level::ShortQueues), (110, Level::NoBackfill), (115, Level::Normal)]
        {
            assert_eq!(ladder.look(false, false, at(seconds)), Some(level));
        }
        assert_eq!(ladder.look(false, false, at(200)), None);
    }
}
