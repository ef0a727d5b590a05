//! Connections to engines, with the time each took to come about.

use axum::http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use prometheus_client::metrics::histogram::Histogram;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
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
}

impl Service<Uri> for TimedConnector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (began, seconds) = (Instant::now(), self.seconds.clone());
        let connecting = self.connector.call(uri);
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_ok() {
                seconds.observe(began.elapsed().as_secs_f64());
            }
            connected
        })
    }
}
