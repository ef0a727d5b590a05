//! The PUSH sockets. They connect (never bind), at the first message for them; libzmq reconnects
//! by itself and queues while nobody listens, up to the high-water mark.

use std::fmt;
use std::time::Duration;

use crate::settings::{EgressSettings, Endpoint};

/// Part of the flush time kept back so that closing ends before the one who waits gives up.
const MARGIN: Duration = Duration::from_millis(50);

/// Why a socket did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many messages wait as the socket may hold.
    HighWaterMark,
    /// libzmq refused to open, connect or send.
    Socket(zmq::Error),
}

impl Refused {
    /// The counter's label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::HighWaterMark => "high_water_mark",
            Self::Socket(_) => "socket_error",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HighWaterMark => {
                f.write_str("the socket's queue is full; does anybody listen at the destination?")
            }
            Self::Socket(why) => write!(f, "socket error: {why}"),
        }
    }
}

/// One destination with its socket, if open.
struct Pipe {
    endpoint: Endpoint,
    high_water_mark: i32,
    socket: Option<zmq::Socket>,
}

impl Pipe {
    /// Sends a message of one frame without blocking, opening the socket if need be.
    fn send(&mut self, context: &zmq::Context, bytes: &[u8]) -> Result<(), Refused> {
        let socket = match self.socket.take() {
            Some(open) => open,
            None => self.open(context).map_err(Refused::Socket)?,
        };
        let sent = loop {
            match socket.send(bytes, zmq::DONTWAIT) {
                Err(zmq::Error::EINTR) => {}
                other => break other,
            }
        };
        match sent {
            Ok(()) | Err(zmq::Error::EAGAIN) => self.socket = Some(socket),
            // A socket in an unknown state is closed here; the next proof opens a new one.
            Err(_) => {}
        }
        sent.map_err(|why| match why {
            zmq::Error::EAGAIN => Refused::HighWaterMark,
            other => Refused::Socket(other),
        })
    }

    fn open(&self, context: &zmq::Context) -> Result<zmq::Socket, zmq::Error> {
        let socket = context.socket(zmq::PUSH)?;
        socket.set_sndhwm(self.high_water_mark)?;
        socket.set_linger(1000)?;
        socket.set_ipv6(true)?;
        socket.connect(&self.endpoint.to_string())?;
        Ok(socket)
    }
}

/// The primary socket and the optional one to the proxy.
pub(super) struct Sockets {
    context: zmq::Context,
    primary: Pipe,
    proxy: Option<Pipe>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    pub(super) fn new(settings: &EgressSettings) -> Self {
        let pipe = |endpoint: &Endpoint| Pipe {
            endpoint: endpoint.clone(),
            high_water_mark: settings.high_water_mark,
            socket: None,
        };
        Self {
            context: zmq::Context::new(),
            primary: pipe(&settings.primary),
            proxy: settings.proxy.as_ref().map(pipe),
        }
    }

    pub(super) fn send_primary(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.primary.send(&self.context, bytes)
    }

    /// Sends to the proxy; nothing happens when none is configured.
    pub(super) fn send_proxy(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.proxy {
            Some(proxy) => proxy.send(&self.context, bytes),
            None => Ok(()),
        }
    }

    /// Closes the sockets; messages they still hold have until `left` to leave. Blocks that long
    /// at most.
    pub(super) fn close(self, left: Duration) {
        let linger = left.saturating_sub(MARGIN).min(Duration::from_secs(1));
        let linger = i32::try_from(linger.as_millis()).unwrap_or(1000);
        let pipes = [Some(self.primary), self.proxy];
        for socket in pipes.into_iter().flatten().filter_map(|pipe| pipe.socket) {
            // Without it the socket keeps the second it was opened with.
            let _ = socket.set_linger(linger);
        }
        drop(self.context);
    }
}
