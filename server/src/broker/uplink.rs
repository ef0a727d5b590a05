//! The way out of the worker: one bounded queue of frames for each connection, and the knowledge
//! which connection is the registered one. A frame that must not be lost is followed by a ping; its
//! pong says that everything before it has arrived. spec: broker §1.1

use super::outgoing::Outgoing;
use tokio::sync::{mpsc, oneshot, watch};

/// Frames that wait for the socket. Whoever has more waits with them.
const QUEUE: usize = 64;

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the broker is gone")]
pub struct Gone;

/// A frame on its way.
#[derive(Debug)]
pub struct Parcel {
    /// The frame's text.
    pub text: String,
    /// Told when the other end has it.
    pub delivered: Option<oneshot::Sender<()>>,
}

/// The queue of one connection.
#[derive(Debug, Clone)]
pub struct Wire(mpsc::Sender<Parcel>);

impl Wire {
    /// A queue, and the end a connection writes from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Parcel>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, frame: &Outgoing) -> Result<(), Gone> {
        let parcel = Parcel { text: frame.to_text(), delivered: None };
        self.0.send(parcel).await.map_err(|_| Gone)
    }

    /// Queues a frame and waits until the other end has it.
    ///
    /// # Errors
    /// [`Gone`] when the connection ended first: the frame may have arrived or not.
    pub async fn deliver(&self, frame: &Outgoing) -> Result<(), Gone> {
        let (delivered, arrived) = oneshot::channel();
        let parcel = Parcel { text: frame.to_text(), delivered: Some(delivered) };
        self.0.send(parcel).await.map_err(|_| Gone)?;
        arrived.await.map_err(|_| Gone)
    }
}

/// Which connection is registered, if one is.
#[derive(Debug, Default)]
pub struct Uplink(watch::Sender<Option<Wire>>);

impl Uplink {
    /// The broker has accepted the registration on this connection.
    pub fn register(&self, wire: &Wire) {
        self.0.send_replace(Some(wire.clone()));
    }

    /// The connection has ended.
    pub fn unregister(&self) {
        self.0.send_replace(None);
    }

    /// The registered connection.
    #[must_use]
    pub fn current(&self) -> Option<Wire> {
        self.0.borrow().clone()
    }

    /// Waits for a registered connection.
    pub async fn ready(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as this.
        let _ = changes.wait_for(Option::is_some).await;
    }
}
