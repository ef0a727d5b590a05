//! An engine's answer on its way to the client. A stream is relayed byte for byte as it arrives:
//! the engine is read only when the client takes, nothing is re-framed, and a stream that breaks
//! off does not look complete. Everything else is buffered, so that a failure still gets its own
//! status. spec: proxy §5.1, §5.2

use super::answer::{Answered, event_id};
use super::engine::{EngineBody, EngineError, EngineTimeouts, chain};
use super::engines::{EngineIndex, Engines};
use super::usage::UsageScan;
use crate::metrics::Outcome;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A buffered answer may be this large.
pub const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// The id of an answer is looked for in so many of its first pieces.
const ID_PIECES: u8 = 4;

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
    /// None once the engine is left.
    engine: Option<EngineBody>,
    timeouts: EngineTimeouts,
    started: Instant,
    last_piece: Instant,
    /// Looks at the limits now and then; arming it anew for every piece would cost more.
    alarm: Pin<Box<Sleep>>,
    state: State,
    usage: UsageScan,
    /// Pieces in which an id is still looked for.
    id_pieces: u8,
    engines: Arc<Engines>,
    index: EngineIndex,
    answered: Answered,
}

impl Relay {
    /// Relays `engine`, giving up when it exceeds the limits on silence and on the whole. `answered`
    /// counts the request until the last byte; if the relay is dropped before, the client has gone.
    #[must_use]
    pub fn new(
        engine: EngineBody,
        timeouts: EngineTimeouts,
        engines: Arc<Engines>,
        index: EngineIndex,
        answered: Answered,
    ) -> Self {
        let now = Instant::now();
        let alarm = now + timeouts.idle.min(timeouts.total);
        Self {
            engine: Some(engine),
            timeouts,
            started: now,
            last_piece: now,
            alarm: Box::pin(tokio::time::sleep_until(alarm)),
            state: State::Flowing,
            usage: UsageScan::default(),
            id_pieces: ID_PIECES,
            engines,
            index,
            answered,
        }
    }

    fn broken(&mut self, error: &EngineError) -> Frame<Bytes> {
        tracing::warn!(%error, "stream broke off");
        self.answered.counted.finish(Outcome::EngineBroke, self.usage.found());
        self.state = State::Flushing;
        Frame::data(Bytes::from_static(BROKEN_EVENT.as_bytes()))
    }

    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            let Some(engine) = &mut self.engine else { return Poll::Ready(None) };
            match Pin::new(engine).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers belong to the engine's framing, which ends here.
                    let Ok(piece) = frame.into_data() else { continue };
                    self.note(&piece);
                    return Poll::Ready(Some(Frame::data(piece)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = EngineError::Broken(chain(&error));
                    self.engines.get(self.index).presence().broke_off();
                    return Poll::Ready(Some(self.broken(&error)));
                }
                Poll::Ready(None) => {
                    self.answered.counted.finish(Outcome::Complete, self.usage.found());
                    self.state = State::Done;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(self.alarm.as_mut().poll(cx));
                    if let Some(limit) = self.exceeded() {
                        let error = EngineError::Timeout(limit);
                        return Poll::Ready(Some(self.broken(&error)));
                    }
                }
            }
        }
    }

    fn note(&mut self, piece: &[u8]) {
        let events = self.usage.feed(piece);
        self.last_piece = Instant::now();
        self.answered.counted.piece();
        self.answered.counted.streamed(events);
        // The first event names the answer; it may come in pieces, then the next one does.
        if self.id_pieces > 0 && self.answered.wants_id() {
            self.id_pieces -= 1;
            if let Some(id) = event_id(piece) {
                self.answered.named(&id, &self.engines);
            }
        }
    }

    /// The limit that is exceeded; without one the alarm is set to the next that may be.
    fn exceeded(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let limits = [
            (self.last_piece + self.timeouts.idle, self.timeouts.idle),
            (self.started + self.timeouts.total, self.timeouts.total),
        ];
        if let Some((_, limit)) = limits.iter().find(|(end, _)| *end <= now) {
            return Some(*limit);
        }
        let next = limits[0].0.min(limits[1].0);
        self.alarm.as_mut().reset(next);
        None
    }
}

impl Drop for Relay {
    /// The client has gone. Where the proof is wanted, the rest is read for nobody.
    fn drop(&mut self) {
        if !self.answered.to_the_end || self.state != State::Flowing {
            return;
        }
        let Some(engine) = self.engine.take() else { return };
        let (idle, left) =
            (self.timeouts.idle, self.timeouts.total.saturating_sub(self.started.elapsed()));
        // The proxy's end ends it too: then there is no runtime to ask.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(left, read_out(engine, idle)));
        }
    }
}

/// Reads an answer that nobody waits for.
async fn read_out(mut engine: EngineBody, idle: Duration) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(idle, engine.frame()).await {}
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
pub async fn buffer<B>(engine: B, limit: Duration) -> Result<Bytes, EngineError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match tokio::time::timeout(limit, Limited::new(engine, MAX_BUFFERED).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(EngineError::TooLarge(MAX_BUFFERED))
        }
        Ok(Err(error)) => Err(EngineError::Broken(chain(error.as_ref()))),
        Err(_) => Err(EngineError::Timeout(limit)),
    }
}
