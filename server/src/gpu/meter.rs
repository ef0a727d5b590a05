//! What the cards of this machine have drawn since the start, and how much of that time they worked:
//! the readings of [`super::gauges`], added up. A card that counts its energy itself is believed,
//! of any other the watts of two readings are taken for what it drew between them. A time in which
//! the driver said nothing counts for nothing. spec: proxy §25

use super::gauges::{Reading, STALE};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is known since the start; what no card says is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metered {
    /// Watt-hours of all cards.
    pub watt_hours: Option<f64>,
    /// Share of the time in which the cards worked, 0 to 1.
    pub busy: Option<f64>,
    /// The same of the last reading; missing when that is old.
    pub busy_now: Option<f64>,
}

/// A card's last reading.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    energy: Option<f64>,
    power: Option<f64>,
    utilisation: Option<f64>,
}

#[derive(Debug, Default)]
struct Sums {
    cards: BTreeMap<u32, Last>,
    /// A card has said what it draws.
    draws: bool,
    joules: f64,
    /// Seconds, times the cards that said how busy they were.
    seconds: f64,
    busy_seconds: f64,
    busy_now: Option<(f64, Instant)>,
}

/// A meter; its copies show the same.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Sums>>);

impl Meter {
    /// Adds what all cards say at one moment.
    pub fn add(&self, readings: &[Reading], at: Instant) {
        let mut sums = self.lock();
        for reading in readings {
            let now = Last {
                at,
                energy: reading.energy,
                power: reading.power,
                utilisation: reading.utilisation,
            };
            sums.draws |= now.energy.is_some() || now.power.is_some();
            if let Some(before) = sums.cards.insert(reading.index, now) {
                sums.between(&before, &now);
            }
        }
        let busy: Vec<f64> = readings.iter().filter_map(|reading| reading.utilisation).collect();
        #[allow(clippy::cast_precision_loss)] // cards of one machine
        let mean = busy.iter().sum::<f64>() / busy.len() as f64;
        sums.busy_now = (!busy.is_empty()).then_some((mean, at));
    }

    /// What has come together.
    #[must_use]
    pub fn metered(&self) -> Metered {
        self.metered_at(Instant::now())
    }

    fn metered_at(&self, now: Instant) -> Metered {
        let sums = self.lock();
        let fresh = |(_, at): &(f64, Instant)| now.saturating_duration_since(*at) < STALE;
        Metered {
            watt_hours: sums.draws.then_some(sums.joules / 3600.0),
            busy: (sums.seconds > 0.0).then(|| (sums.busy_seconds / sums.seconds).clamp(0.0, 1.0)),
            busy_now: sums.busy_now.filter(fresh).map(|(busy, _)| busy),
        }
    }

    /// Sums are numbers: a poisoned lock guards usable ones.
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    /// Counts the time between two readings of one card.
    fn between(&mut self, before: &Last, now: &Last) {
        let passed = now.at.saturating_duration_since(before.at);
        let seconds = passed.as_secs_f64();
        let known = passed <= STALE;
        let mean = |a: Option<f64>, b: Option<f64>| Some(f64::midpoint(a?, b?)).filter(|_| known);
        let counted = before.energy.zip(now.energy).map(|(before, now)| now - before);
        // A driver that was loaded anew counts from zero.
        if let Some(joules) = counted.filter(|joules| *joules >= 0.0) {
            self.joules += joules;
        } else if let Some(watts) = mean(before.power, now.power) {
            self.joules += watts * seconds;
        }
        if let Some(busy) = mean(before.utilisation, now.utilisation) {
            self.seconds += seconds;
            self.busy_seconds += busy * seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn card(index: u32, power: f64, utilisation: f64) -> Reading {
        let (power, utilisation) = (Some(power), Some(utilisation));
        Reading { index, power, utilisation, ..Reading::default() }
    }

    fn close(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-9)
    }

    #[test]
    fn watts_become_watt_hours_and_busy_times_a_share() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(meter.metered(), Metered::default());
        meter.add(&[card(0, 100.0, 0.0), card(1, 300.0, 1.0)], at(0));
        let first = meter.metered_at(at(0));
        assert!(close(first.watt_hours, 0.0) && first.busy.is_none(), "{first:?}");
        meter.add(&[card(0, 500.0, 1.0), card(1, 300.0, 1.0)], at(36));
        let both = meter.metered_at(at(36));
        // 36 s at 300 W each.
        assert!(close(both.watt_hours, 6.0) && close(both.busy, 0.75), "{both:?}");
        assert!(close(both.busy_now, 1.0), "{both:?}");
        assert_eq!(meter.clone().metered_at(at(36)), both);
    }

    #[test]
    fn a_silence_counts_for_nothing_but_for_a_card_that_counts_itself() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let counting = |joules| Reading { energy: Some(joules), ..card(1, 1e6, 0.5) };
        meter.add(&[card(0, 100.0, 1.0), counting(7_200.0)], at(0));
        assert_eq!(meter.metered_at(at(3_600)).busy_now, None, "it is old");
        meter.add(&[card(0, 100.0, 1.0), counting(10_800.0)], at(3_600));
        let later = meter.metered_at(at(3_600));
        assert!(close(later.watt_hours, 1.0) && later.busy.is_none(), "{later:?}");
        // The driver was loaded anew: the watts are all there is.
        meter.add(&[counting(0.0)], at(3_600));
        let again = Reading { power: Some(0.0), ..counting(36.0) };
        meter.add(&[again], at(3_601));
        assert!(close(meter.metered_at(at(3_601)).watt_hours, 1.01), "{:?}", meter.metered());
    }

    #[test]
    fn cards_that_say_nothing_leave_nothing_known() {
        let (meter, now) = (Meter::default(), Instant::now());
        for _ in 0..3 {
            meter.add(&[Reading::default()], now);
            meter.add(&[], now);
        }
        assert_eq!(meter.metered(), Metered::default());
    }
}
