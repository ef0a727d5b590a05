//! The way out of the worker: one bounded queue of frames for each connection, and the knowledge
//! which connection is the registered one. A frame that must not be lost is followed by a ping; its
//! pong says that everything before it has arrived. spec: broker §1.1

use super::outgoing::Outgoing;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{Notify, mpsc, oneshot};

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

/// The connection there is, and what has become of it.
#[derive(Debug)]
struct Open {
    wire: Wire,
    since: SystemTime,
    registered: bool,
}

/// Which connection is open, and whether it is registered.
#[derive(Debug, Default)]
pub struct Uplink {
    open: Mutex<Option<Open>>,
    /// Wakes the one who waits to deliver.
    changed: Notify,
}

impl Uplink {
    /// No change leaves the value half-made, so a poisoned lock guards a usable one.
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a connection.
    pub fn open(&self, wire: &Wire) {
        let open = Open { wire: wire.clone(), since: SystemTime::now(), registered: false };
        *self.lock() = Some(open);
        self.changed.notify_one();
    }

    /// The broker has accepted the registration.
    pub fn register(&self) {
        if let Some(open) = &mut *self.lock() {
            open.registered = true;
        }
        self.changed.notify_one();
    }

    /// The connection has ended.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// The connection, registered or not.
    #[must_use]
    pub fn current(&self) -> Option<Wire> {
        self.lock().as_ref().map(|open| open.wire.clone())
    }

    /// True once the broker has accepted the registration.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.lock().as_ref().is_some_and(|open| open.registered)
    }

    /// Whether a proof that arrived then may leave: what was found without a connection waits for
    /// the next registration. spec: §1.1
    #[must_use]
    pub fn is_ready_for(&self, received: Option<SystemTime>) -> bool {
        self.lock().as_ref().is_some_and(|open| {
            open.registered || received.is_some_and(|received| received >= open.since)
        })
    }

    /// True for a proof that arrived on the connection there is.
    #[must_use]
    pub fn is_of_now(&self, received: Option<SystemTime>) -> bool {
        let open = self.lock();
        open.as_ref().zip(received).is_some_and(|(open, received)| received >= open.since)
    }

    /// What was not ready may be by now.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Waits for another answer of [`Self::is_ready_for`]. For one at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
