//! A listening socket with a task of its own, and the threads that serve what it accepts.

use super::lanes::Lanes;
use super::listen::{Answers, ConnectionLimits, serve};
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A socket that is served by a task of its own.
#[derive(Debug)]
pub(crate) struct Serving {
    lanes: Arc<Lanes>,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Serving {
    /// Serves `listener` from now on.
    ///
    /// # Errors
    /// What the system says when there are no threads to do that.
    pub(crate) fn start(
        listener: TcpListener,
        face: impl Answers,
        tls: Option<TlsAcceptor>,
        limits: ConnectionLimits,
    ) -> io::Result<Self> {
        let lanes = Arc::new(Lanes::start(limits.lanes)?);
        let (stop, stopped) = oneshot::channel();
        // A sender that is gone means the same.
        let stopped = async move {
            let _ = stopped.await;
        };
        let mut task = JoinSet::new();
        let served_on = lanes.clone();
        task.spawn(async move {
            serve(listener, face, tls, limits, &served_on, stopped).await;
        });
        Ok(Self { lanes, stop, task })
    }

    /// The threads that serve.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Stops accepting and lets the last requests finish.
    pub(crate) async fn stop(mut self) {
        drop(self.stop);
        while self.task.join_next().await.is_some() {}
        if let Some(lanes) = Arc::into_inner(self.lanes) {
            lanes.stop().await;
        }
    }
}
