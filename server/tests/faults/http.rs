//! HTTP with nothing between the test and the socket: a connection a request, and an answer that is
//! whole or an error.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The key of the proxy's clients.
pub(crate) const KEY: &str = "faults";

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) async fn get(address: &str, path: &str) -> Result<Answer, String> {
    exchange(address, &head("GET", path, "")).await
}

pub(crate) async fn post(address: &str, path: &str, body: &str) -> Result<Answer, String> {
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    exchange(address, &(head("POST", path, &more) + body)).await
}

fn head(method: &str, path: &str, more: &str) -> String {
    let always = format!("Host: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n");
    format!("{method} {path} HTTP/1.1\r\n{always}{more}\r\n")
}

async fn exchange(address: &str, request: &str) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(text)?;
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return Err(format!("no head: {read:?}")) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let mut answer = Answer { status: status.unwrap_or(0), head, body: bytes.split_off(end + 4) };
    let length: Option<usize> = answer.header("content-length").and_then(|it| it.parse().ok());
    let whole = match length {
        Some(length) => (answer.body.len() == length).then(|| std::mem::take(&mut answer.body)),
        None => unchunked(&answer.body),
    };
    match whole {
        Some(body) => Ok(Answer { body, ..answer }),
        None => Err(format!("{}, then broken off", answer.status)),
    }
}

/// A chunked body up to its terminator; `None` without one.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return (rest == b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
