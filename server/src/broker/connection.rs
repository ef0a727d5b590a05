//! One connection to a broker: frames are written from a queue and read beside that, pings show
//! that the other end is alive and what it has received, and whoever breaks the rules is told so by
//! a close code. spec: broker §1, §1.2

use super::inside::Inside;
use super::outgoing::{Hello, Outgoing};
use super::session::Session;
use super::settings::Timings;
use super::shared::Shared;
use super::socket::Socket;
use super::uplink::{Parcel, Wire};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

/// How often the other end's silence is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Longest reason of a close frame. spec: §4
const LONGEST_REASON: usize = 120;

/// What the broker is told when a watchdog wants another connection.
const REDIAL: &str = "reconnect";

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The broker has closed it, with this code and reason.
    Closed(Option<(u16, String)>),
    /// The stream broke.
    Broken(String),
    /// The broker is silent or does not read.
    Silent,
    /// We have closed it, with this code and reason.
    Ours(u16, String),
    /// We have closed it to dial anew.
    Redialled,
    /// The worker stops.
    Stopped,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(None) => f.write_str("the broker has closed the connection"),
            Self::Closed(Some((code, reason))) => {
                write!(f, "the broker has closed the connection: {code} {reason:.200}")
            }
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Silent => f.write_str("the broker is silent"),
            Self::Ours(code, reason) => write!(f, "closed with {code} {reason}"),
            Self::Redialled => f.write_str("the connection was closed to dial anew"),
            Self::Stopped => f.write_str("the worker stops"),
        }
    }
}

/// How a connection went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The registration was accepted.
    pub registered: bool,
    /// How long it lasted.
    pub lasted: Duration,
    /// Why it ended.
    pub end: End,
}

/// Pings that wait for their pongs.
#[derive(Debug, Default)]
struct Pings {
    sent: u64,
    /// Since when the oldest unanswered one waits.
    waiting_since: Option<Instant>,
    /// Frames that have arrived once the ping with this number is answered.
    deliveries: VecDeque<(u64, oneshot::Sender<()>)>,
}

#[derive(Debug, Default)]
struct Pulse(Mutex<Pings>);

impl Pulse {
    /// No call leaves the pings half-changed, so a poisoned lock guards usable ones.
    fn pings(&self) -> MutexGuard<'_, Pings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next ping, and what its pong will confirm.
    fn ping(&self, delivered: Option<oneshot::Sender<()>>) -> Message {
        let mut pings = self.pings();
        pings.sent += 1;
        pings.waiting_since.get_or_insert_with(Instant::now);
        let number = pings.sent;
        pings.deliveries.extend(delivered.map(|told| (number, told)));
        Message::Ping(number.to_be_bytes().to_vec().into())
    }

    /// A pong answers its ping and every one before it.
    fn pong(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let mut pings = self.pings();
        if number > pings.sent {
            return;
        }
        pings.waiting_since = (number < pings.sent).then(Instant::now);
        while pings.deliveries.front().is_some_and(|(ping, _)| *ping <= number) {
            if let Some((_, told)) = pings.deliveries.pop_front() {
                // Whoever waited may have given up.
                let _ = told.send(());
            }
        }
    }

    async fn silent(&self, limit: Duration) {
        loop {
            tokio::time::sleep(LOOK.min(limit)).await;
            if self.pings().waiting_since.is_some_and(|since| since.elapsed() > limit) {
                return;
            }
        }
    }
}

/// Introduces the worker and serves the broker until one of them has enough, or `stop` completes.
pub async fn serve(
    socket: Socket,
    hello: Hello,
    shared: &Arc<Shared>,
    inside: &Arc<dyn Inside>,
    stop: impl Future<Output = ()>,
) -> Outcome {
    let started = Instant::now();
    let timings = shared.settings.timings;
    let (mut writing, mut reading) = socket.split();
    let (wire, parcels) = Wire::new();
    let (fatal, mut failing) = mpsc::channel(1);
    let mut session = Session::new(shared.clone(), inside.clone(), wire.clone(), fatal);
    let pulse = Pulse::default();
    let end = {
        let write = write(&mut writing, parcels, &pulse, timings);
        let read = async {
            if wire.send(&Outgoing::Hello(Box::new(hello))).await.is_err() {
                return End::Broken("nothing can be sent".to_owned());
            }
            read(&mut reading, &mut session, &pulse).await
        };
        tokio::select! {
            end = write => end,
            end = read => end,
            () = pulse.silent(timings.pong) => End::Silent,
            Some(cause) = failing.recv() => {
                End::Ours(1011, format!("heartbeat_failed:{cause}"))
            }
            () = shared.redialled() => End::Redialled,
            () = stop => End::Stopped,
        }
    };
    let registered = session.is_registered();
    if end == End::Stopped {
        farewell(&mut session, &mut writing, timings).await;
    }
    // Whoever waits for a delivery learns now that it is not known.
    drop((session, pulse));
    close(&mut writing, &mut reading, &end, timings).await;
    Outcome { registered, lasted: started.elapsed(), end }
}

async fn write(
    socket: &mut SplitSink<Socket, Message>,
    mut parcels: mpsc::Receiver<Parcel>,
    pulse: &Pulse,
    timings: Timings,
) -> End {
    let mut tick =
        tokio::time::interval_at(tokio::time::Instant::now() + timings.ping, timings.ping);
    loop {
        let (message, ping) = tokio::select! {
            _ = tick.tick() => (pulse.ping(None), None),
            parcel = parcels.recv() => match parcel {
                Some(Parcel { text, delivered }) => (Message::text(text), delivered),
                None => return End::Broken("the session has ended".to_owned()),
            },
        };
        let sending = async {
            match ping {
                None => socket.send(message).await,
                Some(delivered) => {
                    socket.feed(message).await?;
                    socket.send(pulse.ping(Some(delivered))).await
                }
            }
        };
        match tokio::time::timeout(timings.pong, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Broken(error.to_string()),
            Err(_) => return End::Silent,
        }
    }
}

async fn read(socket: &mut SplitStream<Socket>, session: &mut Session, pulse: &Pulse) -> End {
    loop {
        let taken = match socket.next().await {
            None => return End::Closed(None),
            Some(Ok(Message::Text(text))) => session.message(text.as_bytes()).await,
            Some(Ok(Message::Binary(bytes))) => session.message(&bytes).await,
            Some(Ok(Message::Pong(payload))) => {
                pulse.pong(&payload);
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => {
                let said = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                return End::Closed(said);
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(()),
            Some(Err(error)) => return broken(&error),
        };
        if taken.is_err() {
            return End::Broken("nothing can be sent".to_owned());
        }
    }
}

/// What cannot be read is answered with the close code that says why. spec: §1.2
fn broken(error: &WebSocketError) -> End {
    match error {
        WebSocketError::Capacity(_) => End::Ours(1009, "message too big".to_owned()),
        WebSocketError::Utf8(_) => End::Ours(1007, "text is no UTF-8".to_owned()),
        WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => End::Closed(None),
        other => End::Broken(other.to_string()),
    }
}

/// The tools are unregistered by frames that nobody writes from the queue any more.
async fn farewell(
    session: &mut Session,
    socket: &mut SplitSink<Socket, Message>,
    timings: Timings,
) {
    let frames = session.farewell();
    let say = async {
        for frame in frames {
            socket.send(Message::text(frame.to_text())).await?;
        }
        Ok::<_, WebSocketError>(())
    };
    if !matches!(tokio::time::timeout(timings.close, say).await, Ok(Ok(()))) {
        tracing::debug!("the broker was not told that the tools go");
    }
}

/// Closes politely, and waits for the other end as long as the limit on closing allows.
async fn close(
    writing: &mut SplitSink<Socket, Message>,
    reading: &mut SplitStream<Socket>,
    end: &End,
    timings: Timings,
) {
    let frame = match end {
        End::Closed(_) => None,
        End::Broken(_) | End::Silent => return,
        End::Ours(code, reason) => {
            let reason: String = reason.chars().take(LONGEST_REASON).collect();
            Some(CloseFrame { code: CloseCode::from(*code), reason: reason.into() })
        }
        End::Redialled => Some(CloseFrame { code: CloseCode::Away, reason: REDIAL.into() }),
        End::Stopped => Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }),
    };
    let goodbye = async {
        if let Some(frame) = frame {
            writing.send(Message::Close(Some(frame))).await?;
        }
        // The answer to a close frame leaves while reading.
        while let Some(Ok(_)) = reading.next().await {}
        Ok::<_, WebSocketError>(())
    };
    if tokio::time::timeout(timings.close, goodbye).await.is_err() {
        tracing::debug!("the broker did not finish the closing handshake");
    }
}
