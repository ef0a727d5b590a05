//! A stand-in for the engines of the group `http`: answers the next request as it is told, and
//! records what it was asked. It writes its bytes itself, so that broken answers are possible.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status, a content type, a body of known length.
    Whole(u16, String, String),
    /// The same, compressed with gzip.
    Gzip(String),
    /// The same in chunks.
    Chunked(u16, String, String),
    /// The connection is closed.
    Drop,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which of the engines.
    pub backend: &'static str,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Recorded {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// One engine.
#[derive(Debug, Clone)]
pub struct Engine {
    name: &'static str,
    answer: Arc<Mutex<Answer>>,
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

impl Engine {
    /// Starts an engine on a free port; several share one record.
    pub async fn start(name: &'static str, recorded: Arc<Mutex<Vec<Recorded>>>) -> (Self, String) {
        let engine = Self { name, answer: Arc::new(Mutex::new(Answer::Drop)), recorded };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = engine.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (engine, url)
    }

    /// Answers this way from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some(request) = self.read(&mut stream).await else { return };
        if request.path == "/health" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
        self.recorded.lock().unwrap().push(request);
        let answer = self.answer.lock().unwrap().clone();
        let head = |status: u16, kind: &str, rest: String| {
            format!(
                "HTTP/1.1 {status} x\r\nX-Engine: e\r\nContent-Type: {kind}\r\nConnection: close\r\n{rest}\r\n"
            )
        };
        let bytes = match answer {
            Answer::Drop => return,
            Answer::Whole(status, kind, body) => {
                let length = format!("Content-Length: {}\r\n", body.len());
                [head(status, &kind, length).into_bytes(), body.into_bytes()].concat()
            }
            Answer::Gzip(body) => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::default());
                packer.write_all(body.as_bytes()).unwrap();
                let packed = packer.finish().unwrap();
                let rest =
                    format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", packed.len());
                [head(200, "application/json; charset=utf-8", rest).into_bytes(), packed].concat()
            }
            Answer::Chunked(status, kind, body) => {
                let mut text = head(status, &kind, "Transfer-Encoding: chunked\r\n".to_owned());
                for piece in body.split_inclusive("\n\n") {
                    text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
                }
                (text + "0\r\n\r\n").into_bytes()
            }
        };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
    }

    async fn read(&self, stream: &mut TcpStream) -> Option<Recorded> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; 65_536];
        let head_end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            match stream.read(&mut piece).await.ok()? {
                0 => return None,
                read => bytes.extend_from_slice(&piece[..read]),
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = bytes.split_off(head_end + 4);
        while body.len() < length {
            match stream.read(&mut piece).await.ok()? {
                0 => return None,
                read => body.extend_from_slice(&piece[..read]),
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Some(Recorded { backend: self.name, method, path, headers, body })
    }
}
