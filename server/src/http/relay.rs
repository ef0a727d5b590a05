//! An engine's answer on its way to the client. A stream is relayed byte for byte as it arrives:
//! the engine is read only when the client takes, nothing is re-framed, and a stream that breaks
//! off does not look complete. Everything else is buffered, so that a failure still gets its own
//! status. spec: proxy §5.1, §5.2

use super::engine::{EngineError, chain};
use super::usage::UsageScan;
use crate::metrics::{InFlight, Outcome};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A buffered answer may be this large.
pub const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// Ends a broken event and tells the client why no more will come.
const BROKEN_EVENT: &str = "\n\ndata: {\"error\":{\"message\":\"the inference engine broke off its answer\",\"type\":\"server_error\",\"code\":\"engine_failed\"}}\n\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Pieces arrive.
    Flowing,
    /// The error event is handed out; it must be flushed before the connection is cut.
    Flushing,
    /// The next poll cuts the connection.
    Cutting,
    /// Nothing more.
    Done,
}

/// The body of a streamed answer.
#[derive(Debug)]
pub struct Relay {
    engine: Incoming,
    idle: Pin<Box<Sleep>>,
    idle_limit: Duration,
    state: State,
    usage: UsageScan,
    in_flight: InFlight,
}

impl Relay {
    /// Relays `engine`, giving up when it is silent for `idle_limit`. `in_flight` counts the
    /// request until the last byte; if the relay is dropped before, the client has gone.
    #[must_use]
    pub fn new(engine: Incoming, idle_limit: Duration, in_flight: InFlight) -> Self {
        Self {
            engine,
            idle: Box::pin(tokio::time::sleep(idle_limit)),
            idle_limit,
            state: State::Flowing,
            usage: UsageScan::default(),
            in_flight,
        }
    }

    fn broken(&mut self, error: &EngineError) -> Frame<Bytes> {
        tracing::warn!(%error, "stream broke off");
        self.in_flight.finish(Outcome::EngineBroke, self.usage.found());
        self.state = State::Flushing;
        Frame::data(Bytes::from_static(BROKEN_EVENT.as_bytes()))
    }

    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            match Pin::new(&mut self.engine).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers belong to the engine's framing, which ends here.
                    let Ok(piece) = frame.into_data() else { continue };
                    let events = self.usage.feed(&piece);
                    let deadline = Instant::now() + self.idle_limit;
                    self.idle.as_mut().reset(deadline);
                    self.in_flight.first_byte();
                    self.in_flight.streamed(events);
                    return Poll::Ready(Some(Frame::data(piece)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = EngineError::Broken(chain(&error));
                    return Poll::Ready(Some(self.broken(&error)));
                }
                Poll::Ready(None) => {
                    self.in_flight.finish(Outcome::Complete, self.usage.found());
                    self.state = State::Done;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(self.idle.as_mut().poll(cx));
                    let error = EngineError::Timeout(self.idle_limit);
                    return Poll::Ready(Some(self.broken(&error)));
                }
            }
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = EngineError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EngineError>>> {
        match self.state {
            State::Flowing => self.poll_engine(cx).map(|frame| frame.map(Ok)),
            State::Flushing => {
                // Being pending once makes the server flush what it holds.
                self.state = State::Cutting;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Cutting => {
                // An error instead of an end: the client sees no chunked terminator.
                self.state = State::Done;
                Poll::Ready(Some(Err(EngineError::Broken("see the error event".to_owned()))))
            }
            State::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Reads a whole answer.
///
/// # Errors
/// [`EngineError`] when it breaks off, exceeds [`MAX_BUFFERED`] or takes longer than `limit`.
pub async fn buffer(engine: Incoming, limit: Duration) -> Result<Bytes, EngineError> {
    match tokio::time::timeout(limit, Limited::new(engine, MAX_BUFFERED).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(EngineError::TooLarge(MAX_BUFFERED))
        }
        Ok(Err(error)) => Err(EngineError::Broken(chain(error.as_ref()))),
        Err(_) => Err(EngineError::Timeout(limit)),
    }
}
