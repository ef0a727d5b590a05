//! A client that costs little: prepared bytes out, answers read to their end and no further.

use mock_engine::chunks::{STAMP, now};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A POST of a chat completion as bytes.
#[must_use]
pub fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// Where an answer ends.
enum End {
    /// After so many bytes.
    Length(usize),
    /// After the last chunk.
    Chunked,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await
    }

    /// Reads an answer to its end and tells its status. `on_first` is called when the first bytes of
    /// the body are there.
    ///
    /// # Errors
    /// What the system says; an answer that breaks off is an error too.
    pub async fn receive(&mut self, mut on_first: impl FnMut()) -> Result<u16> {
        self.filled = 0;
        let (status, end, body) = loop {
            self.fill().await?;
            if let Some(head) = self.head() {
                break head;
            }
        };
        match end {
            End::Length(length) => {
                while self.filled < body + length {
                    self.fill().await?;
                }
                on_first();
            }
            End::Chunked => {
                // Only the tail is kept: it tells the end.
                let mut first = true;
                self.buffer.copy_within(body..self.filled, 0);
                self.filled -= body;
                loop {
                    if self.filled > 0 && std::mem::take(&mut first) {
                        on_first();
                    }
                    if self.buffer[..self.filled].ends_with(b"0\r\n\r\n") {
                        break;
                    }
                    let keep = self.filled.min(8);
                    self.buffer.copy_within(self.filled - keep..self.filled, 0);
                    self.filled = keep;
                    self.fill().await?;
                }
            }
        }
        Ok(status)
    }

    /// Reads a stream of stamped chunks to its end and tells its status; `on_chunk` is called with the
    /// time since each has left.
    ///
    /// # Errors
    /// What the system says; a stream that breaks off is an error too.
    pub async fn receive_stamped(&mut self, mut on_chunk: impl FnMut(Duration)) -> Result<u16> {
        /// Longer than a stamp: what is kept of the bytes that were looked through.
        const TAIL: usize = 48;
        self.filled = 0;
        let (status, body) = loop {
            self.fill().await?;
            if let Some((status, _, body)) = self.head() {
                break (status, body);
            }
        };
        self.buffer.copy_within(body..self.filled, 0);
        self.filled -= body;
        loop {
            let arrived = now();
            let bytes = &self.buffer[..self.filled];
            let mut seen = 0;
            while let Some((left, end)) = stamp(&bytes[seen..]) {
                on_chunk(Duration::from_nanos(arrived.saturating_sub(left)));
                seen += end;
            }
            if bytes.ends_with(b"0\r\n\r\n") {
                return Ok(status);
            }
            let keep = seen.max(self.filled.saturating_sub(TAIL));
            self.buffer.copy_within(keep..self.filled, 0);
            self.filled -= keep;
            self.fill().await?;
        }
    }

    /// Reads one piece of whatever comes; its size.
    ///
    /// # Errors
    /// What the system says.
    pub async fn piece(&mut self) -> Result<usize> {
        self.filled = 0;
        self.fill().await
    }

    async fn fill(&mut self) -> Result<usize> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
        if read == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        self.filled += read;
        Ok(read)
    }

    /// Status, end and beginning of the body, once the head is there.
    fn head(&self) -> Option<(u16, End, usize)> {
        let bytes = &self.buffer[..self.filled];
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let status = head.get(9..12)?.parse().ok()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Some((status, length.map_or(End::Chunked, End::Length), end + 4))
    }
}

/// The first whole stamp: its time, and where it ends.
fn stamp(bytes: &[u8]) -> Option<(u64, usize)> {
    let begin = bytes.windows(STAMP.len()).position(|window| window == STAMP)? + STAMP.len();
    let length = bytes[begin..].iter().position(|byte| *byte == b'\n')?;
    let time = std::str::from_utf8(&bytes[begin..begin + length]).ok()?.parse().ok()?;
    Some((time, begin + length))
}
