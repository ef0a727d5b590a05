//! The body of a stream: its chunks one by one, as fast as they are taken or at a pace, on request with
//! the time at which each has left.

use crate::records::Answering;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// What stands before a time.
pub const STAMP: &[u8] = b": left at ";

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds by this process's own clock.
#[must_use]
pub fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Chunks on their way.
#[derive(Debug)]
pub struct Chunks {
    waiting: VecDeque<Bytes>,
    pace: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    stamps: bool,
    answering: Option<Answering>,
}

impl Chunks {
    /// These chunks, a pause before each, and a stamp where that is wanted.
    #[must_use]
    pub fn new(chunks: impl IntoIterator<Item = Bytes>, pace: Duration, stamps: bool) -> Self {
        let pause = (!pace.is_zero()).then(|| Box::pin(tokio::time::sleep(pace)));
        Self { waiting: chunks.into_iter().collect(), pace, pause, stamps, answering: None }
    }

    /// With somebody who wants to know when they are left.
    #[must_use]
    pub fn watched(mut self, answering: Answering) -> Self {
        self.answering = Some(answering);
        self
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pace = self.pace;
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            pause.as_mut().reset(tokio::time::Instant::now() + pace);
        }
        match self.waiting.pop_front() {
            Some(chunk) if self.stamps => {
                let mut stamped = Vec::with_capacity(chunk.len() + 32);
                stamped.extend_from_slice(STAMP);
                stamped.extend_from_slice(now().to_string().as_bytes());
                stamped.push(b'\n');
                stamped.extend_from_slice(&chunk);
                Poll::Ready(Some(Ok(Frame::data(stamped.into()))))
            }
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => {
                if let Some(answering) = &mut self.answering {
                    answering.finish();
                }
                Poll::Ready(None)
            }
        }
    }
}
