//! What the cards of this machine say about themselves, as gauges: utilisation, memory, power and
//! temperature. NVIDIA's management library is asked every few seconds on a thread of its own, since
//! a driver in trouble may take its time; where it is not installed there are no gauges and nothing
//! is said. Engines on other machines have exporters of their own. spec: proxy §25

use super::meter::Meter;
use super::nvidia;
use crate::metrics::names;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the cards are asked.
pub const EVERY: Duration = Duration::from_secs(15);
/// What is older is not shown: the driver has stopped answering.
pub(super) const STALE: Duration = Duration::from_secs(60);

/// One card at one moment. What the driver does not say is missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Its number, as in `nvidia-smi`.
    pub index: u32,
    /// What it is called.
    pub name: String,
    /// Share of the time in which it worked, 0 to 1.
    pub utilisation: Option<f64>,
    /// Bytes of memory in use.
    pub memory_used: Option<u64>,
    /// Bytes of memory.
    pub memory_total: Option<u64>,
    /// Watts it draws.
    pub power: Option<f64>,
    /// Joules it has drawn since its driver was loaded.
    pub energy: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
}

/// The cards of a machine.
pub trait Cards {
    /// One reading for each card that answers.
    fn read(&mut self) -> Vec<Reading>;
}

/// NVIDIA's management library.
#[derive(Debug)]
struct Nvidia(Nvml);

impl Cards for Nvidia {
    #[allow(clippy::cast_precision_loss)] // millijoules, exact up to 2^53
    fn read(&mut self) -> Vec<Reading> {
        let count = self.0.device_count().unwrap_or(0);
        let card = |index| {
            let card = self.0.device_by_index(index).ok()?;
            let memory = card.memory_info().ok();
            let busy = card.utilization_rates().ok();
            let temperature = card.temperature(TemperatureSensor::Gpu).ok();
            Some(Reading {
                index,
                name: card.name().unwrap_or_default(),
                utilisation: busy.map(|busy| f64::from(busy.gpu) / 100.0),
                memory_used: memory.as_ref().map(|memory| memory.used),
                memory_total: memory.map(|memory| memory.total),
                power: card.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
                energy: card.total_energy_consumption().ok().map(|joules| joules as f64 / 1000.0),
                temperature: temperature.map(f64::from),
            })
        };
        (0..count).filter_map(card).collect()
    }
}

#[derive(Debug)]
struct Latest {
    readings: Vec<Reading>,
    at: Instant,
}

/// The last readings, as metrics. Dropping it ends the thread that reads.
#[derive(Debug)]
pub struct GpuGauges {
    latest: Arc<Mutex<Option<Latest>>>,
    meter: Meter,
    _stop: Sender<()>,
}

impl GpuGauges {
    /// The NVIDIA cards of this machine, if it has any.
    ///
    /// # Errors
    /// When there is no thread to read them on.
    pub fn nvidia() -> std::io::Result<Self> {
        Self::reading(EVERY, || match nvidia::open() {
            Ok(library) => Some(Nvidia(library)),
            Err(error) => {
                tracing::debug!(%error, "no gauges of graphics cards");
                None
            }
        })
    }

    /// Any cards; `open` is called on the thread that reads, and may find none.
    ///
    /// # Errors
    /// When there is no such thread.
    pub fn reading<C: Cards>(
        every: Duration,
        open: impl FnOnce() -> Option<C> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let latest = Arc::new(Mutex::new(None));
        let meter = Meter::default();
        let (written, adds) = (latest.clone(), meter.clone());
        let read = move || {
            if let Some(mut cards) = open() {
                keep_reading(&mut cards, &written, &adds, every, &stopped);
            }
        };
        std::thread::Builder::new().name("gpu-gauges".to_owned()).spawn(read)?;
        Ok(Self { latest, meter, _stop: stop })
    }

    /// What the readings add up to.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// The readings, unless they are old.
    fn readings(&self) -> Vec<Reading> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = latest.as_ref().filter(|latest| latest.at.elapsed() < STALE);
        fresh.map(|latest| latest.readings.clone()).unwrap_or_default()
    }
}

fn keep_reading(
    cards: &mut impl Cards,
    latest: &Mutex<Option<Latest>>,
    meter: &Meter,
    every: Duration,
    stopped: &Receiver<()>,
) {
    loop {
        let readings = cards.read();
        let at = Instant::now();
        meter.add(&readings, at);
        let read = Latest { readings, at };
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        // The other end is never used but dropped.
        if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Collector for GpuGauges {
    #[allow(clippy::cast_precision_loss)] // bytes of memory, exact up to 2^53
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Value = fn(&Reading) -> Option<f64>;
        let gauges: [(&str, &str, Value); 5] = [
            ("gpu_utilisation_ratio", "Share of the time a card works", |it| it.utilisation),
            ("gpu_memory_used_bytes", "Memory of a card in use", |it| {
                it.memory_used.map(|bytes| bytes as f64)
            }),
            ("gpu_memory_total_bytes", "Memory of a card", |it| {
                it.memory_total.map(|bytes| bytes as f64)
            }),
            ("gpu_power_watts", "What a card draws", |it| it.power),
            ("gpu_temperature_celsius", "How hot a card is", |it| it.temperature),
        ];
        let readings = self.readings();
        for (name, help, value) in gauges {
            let known: Vec<_> =
                readings.iter().filter_map(|card| Some((card, value(card)?))).collect();
            if known.is_empty() {
                continue;
            }
            let kind = ConstGauge::new(0_f64).metric_type();
            let mut family = out.encode_descriptor(name, help, None, kind)?;
            for (card, value) in known {
                let labels = [
                    ("gpu", card.index.to_string()),
                    ("name", names::escape(&card.name).into_owned()),
                ];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    /// Cards that say this, once; afterwards nothing.
    struct Fake(Option<Vec<Reading>>, Sender<()>);

    impl Cards for Fake {
        fn read(&mut self) -> Vec<Reading> {
            // Nobody may be listening any more.
            let _ = self.1.send(());
            self.0.take().unwrap_or_default()
        }
    }

    fn text(gauges: GpuGauges) -> String {
        let mut registry = Registry::with_prefix("tensorpow");
        registry.register_collector(Box::new(gauges));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn fake(readings: Vec<Reading>, every: Duration) -> (GpuGauges, Receiver<()>) {
        let (sender, read) = channel();
        let cards = Fake(Some(readings), sender);
        (GpuGauges::reading(every, move || Some(cards)).unwrap(), read)
    }

    fn wait_until_read(gauges: &GpuGauges) {
        let began = Instant::now();
        while gauges.readings().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(10), "no reading");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn every_card_has_its_lines_and_what_it_does_not_say_has_none() {
        let full = Reading {
            index: 0,
            name: "Card \"A\"".to_owned(),
            utilisation: Some(0.97),
            memory_used: Some(85_899_345_920),
            memory_total: Some(150_754_820_096),
            power: Some(612.5),
            energy: None,
            temperature: Some(61.0),
        };
        let shy = Reading { index: 1, name: "B".to_owned(), power: Some(70.0), ..full.clone() };
        let shy = Reading { utilisation: None, memory_used: None, temperature: None, ..shy };
        let (gauges, _read) = fake(vec![full, shy], EVERY);
        wait_until_read(&gauges);
        let text = text(gauges);
        for line in [
            "# TYPE tensorpow_gpu_power_watts gauge",
            "tensorpow_gpu_utilisation_ratio{gpu=\"0\",name=\"Card \\\"A\\\"\"} 0.97\n",
            "tensorpow_gpu_memory_used_bytes{gpu=\"0\",name=\"Card \\\"A\\\"\"} 85899345920.0\n",
            "tensorpow_gpu_memory_total_bytes{gpu=\"1\",name=\"B\"} 150754820096.0\n",
            "tensorpow_gpu_power_watts{gpu=\"0\",name=\"Card \\\"A\\\"\"} 612.5\n",
            "tensorpow_gpu_power_watts{gpu=\"1\",name=\"B\"} 70.0\n",
            "tensorpow_gpu_temperature_celsius{gpu=\"0\",name=\"Card \\\"A\\\"\"} 61.0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("utilisation_ratio{gpu=\"1\""), "{text}");
    }

    /// A card that goes on saying the same.
    struct Steady;

    impl Cards for Steady {
        fn read(&mut self) -> Vec<Reading> {
            let (power, utilisation) = (Some(360.0), Some(0.5));
            vec![Reading { power, utilisation, ..Reading::default() }]
        }
    }

    #[test]
    fn what_is_read_is_metered() {
        let gauges = GpuGauges::reading(Duration::from_millis(5), || Some(Steady)).unwrap();
        let (meter, began) = (gauges.meter(), Instant::now());
        let metered = loop {
            let metered = meter.metered();
            if metered.watt_hours.is_some_and(|hours| hours > 0.001) {
                break metered;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{metered:?}");
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!((metered.busy, metered.busy_now), (Some(0.5), Some(0.5)));
        // 360 W are a tenth of a watt-hour a second.
        let hours = metered.watt_hours.unwrap();
        assert!(hours <= began.elapsed().as_secs_f64() / 10.0, "{hours}");
    }

    #[test]
    fn without_cards_there_are_no_gauges() {
        let none = GpuGauges::reading(EVERY, || None::<Fake>).unwrap();
        assert_eq!(text(none), "# EOF\n");
        let (empty, read) = fake(Vec::new(), EVERY);
        read.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(text(empty), "# EOF\n");
    }

    #[test]
    fn a_machine_without_the_library_is_no_error() {
        // With one, its cards are shown; both are fine here.
        let gauges = GpuGauges::nvidia().unwrap();
        assert!(text(gauges).ends_with("# EOF\n"));
    }

    #[test]
    fn cards_are_asked_again_and_no_more_once_nobody_wants_to_know() {
        let (gauges, read) = fake(Vec::new(), Duration::from_millis(1));
        for _ in 0..3 {
            read.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(gauges);
        let began = Instant::now();
        // The thread's end closes the channel.
        while read.recv_timeout(Duration::from_secs(10)) != Err(RecvTimeoutError::Disconnected) {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
        }
    }
}
