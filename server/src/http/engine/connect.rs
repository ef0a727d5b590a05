//! TCP connections to engines, with the time each took to come about.

use super::error::chain;
use axum::http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::histogram::Histogram;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tower_service::Service;

/// Connects over TCP.
#[derive(Debug, Clone)]
pub struct TimedConnector {
    connector: HttpConnector,
    seconds: Histogram,
}

impl TimedConnector {
    /// Connections that are given up after `limit`; the time of those that came about goes into
    /// `seconds`.
    #[must_use]
    pub fn new(limit: Duration, seconds: Histogram) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        Self { connector, seconds }
    }

    /// Connects to the host of a URL, whichever of its addresses answers.
    ///
    /// # Errors
    /// The system's words.
    pub async fn connect(&self, address: &Uri) -> Result<TokioIo<TcpStream>, String> {
        let mut connector = self.connector.clone();
        let began = Instant::now();
        // It resolves names in a pool of its own and is always ready.
        let connected = connector.call(address.clone()).await.map_err(|error| chain(&error))?;
        self.seconds.observe(began.elapsed().as_secs_f64());
        Ok(connected)
    }
}
