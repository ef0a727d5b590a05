//! Single values as Prometheus metrics: what a piece of the proxy counts by itself and shows when
//! it is asked, beside the registry of [`crate::metrics`].

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

fn one(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(out.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A value that goes up and down.
///
/// # Errors
/// The encoder's.
pub fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    one(out, name, help, &ConstGauge::new(value))
}

/// A value that only grows.
///
/// # Errors
/// The encoder's.
pub fn counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    one(out, name, help, &ConstCounter::new(value))
}

/// Values that only grow, told apart by one label.
///
/// # Errors
/// The encoder's.
pub fn labelled_counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = out.encode_descriptor(name, help, None, kind)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

/// Values that go up and down, told apart by one label.
///
/// # Errors
/// The encoder's.
pub fn labelled_gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'static str, i64)>,
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = out.encode_descriptor(name, help, None, kind)?;
    for (value, now) in values {
        ConstGauge::new(now).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
