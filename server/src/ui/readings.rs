//! The numbers of `/metrics`, read back from its text: what the dashboard shows is what monitoring
//! sees, whichever module counts it, and a metric that gains a label needs no change here.

use std::collections::BTreeMap;

/// One line of the text.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Reading {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A count. Counters are whole and far below 2^53; anything else counts as nothing.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
    fn count(&self) -> u64 {
        if self.value.is_finite() && self.value >= 0.0 { self.value as u64 } else { 0 }
    }
}

/// A histogram: upper bounds, and how many observations fell into each bucket (one more than there
/// are bounds).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
}

impl Histogram {
    /// What was observed since `earlier`.
    pub(super) fn since(&self, earlier: Option<&Self>) -> Self {
        let before = |i: usize| earlier.and_then(|earlier| earlier.counts.get(i)).unwrap_or(&0);
        let counts = self.counts.iter().enumerate().map(|(i, n)| n.saturating_sub(*before(i)));
        Self { bounds: self.bounds.clone(), counts: counts.collect() }
    }
}

/// All numbers of one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Readings(Vec<Reading>);

impl Readings {
    /// Reads Prometheus text; a line that is none is left out.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Reading> {
        self.0.iter().filter(move |reading| reading.name == name)
    }

    /// The sum over all readings of a name that carry these labels.
    pub(super) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let carries = |reading: &&Reading| {
            labels.iter().all(|(label, value)| reading.label(label) == Some(value))
        };
        self.named(name).filter(carries).map(Reading::count).sum()
    }

    /// The sums of a name by the values of one label.
    pub(super) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for reading in self.named(name) {
            if let Some(value) = reading.label(label) {
                *sums.entry(value.to_owned()).or_default() += reading.count();
            }
        }
        sums
    }

    /// A histogram over all its labels, but for the proxy's own requests.
    pub(super) fn histogram(&self, name: &str) -> Histogram {
        let name = format!("{name}_bucket");
        let mut up_to: Vec<(f64, u64)> = Vec::new();
        for reading in self.named(&name) {
            if reading.label("class") == Some("backfill") {
                continue;
            }
            let Some(bound) = reading.label("le").and_then(|bound| match bound {
                "+Inf" => Some(f64::INFINITY),
                bound => bound.parse().ok(),
            }) else {
                continue;
            };
            match up_to.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += reading.count(),
                None => up_to.push((bound, reading.count())),
            }
        }
        up_to.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = 0;
        let counts = up_to.iter().map(|(_, sum)| {
            let inside = sum.saturating_sub(below);
            below = *sum;
            inside
        });
        Histogram {
            counts: counts.collect(),
            bounds: up_to.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect(),
        }
    }
}

/// `name{label="value",…} number`
fn parse_line(line: &str) -> Option<Reading> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = head.split_once('{') else {
        return Some(Reading { name: head.to_owned(), labels: Vec::new(), value });
    };
    Some(Reading { name: name.to_owned(), labels: parse_labels(labels.strip_suffix('}')?)?, value })
}

fn parse_labels(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        text = rest.get(end + 1..)?;
        text = text.strip_prefix(',').unwrap_or(text);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::inject::{Class, Route};
    use crate::http::usage::Usage;
    use crate::metrics::names;
    use crate::metrics::{Gauges, Metrics, Outcome};
    use std::sync::Arc;

    #[test]
    fn lines_are_read_with_their_labels() {
        let reading = parse_line(r#"a_total{x="1,2",y="q\"\\\n}"} 5"#).unwrap();
        assert_eq!((reading.name.as_str(), reading.count()), ("a_total", 5));
        assert_eq!((reading.label("x"), reading.label("y")), (Some("1,2"), Some("q\"\\\n}")));
        assert_eq!(parse_line("b 1.5").unwrap().value, 1.5);
        for bad in ["# TYPE a counter", "", "a{x=\"1} 2", "a{x} 1", "a b"] {
            assert_eq!(parse_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_proxys_own_text_is_understood() {
        let metrics = Arc::new(Metrics::new());
        for tokens in [5, 7] {
            let mut request =
                metrics.begin(Route::ChatCompletions, Class::Mined, names::OTHER, "engine");
            request.piece();
            request.finish(Outcome::Complete, Some(Usage { input: 3, output: tokens }));
        }
        drop(metrics.begin(Route::Completions, Class::Audited, names::OTHER, "engine"));
        let readings = Readings::parse(&metrics.render(&Gauges::default()).unwrap());
        assert_eq!(readings.count("tensorpow_tokens_total", &[("direction", "output")]), 12);
        let outcomes = readings.by_label("tensorpow_requests_total", "outcome");
        assert_eq!(outcomes.get("complete"), Some(&2));
        assert_eq!(outcomes.get("client_gone"), Some(&1));
        let latency = readings.histogram("tensorpow_request_duration_seconds");
        assert_eq!(latency.counts.iter().sum::<u64>(), 3, "over both routes");
        assert_eq!(latency.counts.len(), latency.bounds.len() + 1);
        assert_eq!(latency.counts.first(), Some(&3));
        assert_eq!(latency.since(Some(&latency)).counts.iter().sum::<u64>(), 0);
        assert_eq!(readings.histogram("no_such"), Histogram::default());
    }
}
