//! A listening socket with a task of its own.

use super::listen::{Answers, ConnectionLimits, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A socket that is served by a task of its own.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Serving {
    /// Serves `listener` from now on.
    pub(crate) fn start(
        listener: TcpListener,
        face: impl Answers,
        tls: Option<TlsAcceptor>,
        limits: ConnectionLimits,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        // A sender that is gone means the same.
        let stopped = async move {
            let _ = stopped.await;
        };
        let mut task = JoinSet::new();
        task.spawn(serve(listener, face, tls, limits, stopped));
        Self { stop, task }
    }

    /// Stops accepting and lets the last requests finish.
    pub(crate) async fn stop(mut self) {
        drop(self.stop);
        while self.task.join_next().await.is_some() {}
    }
}
