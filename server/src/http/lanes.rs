//! The threads that serve connections, each with a runtime of its own: a client's connection, its timers
//! and the connections to engines that answer it stay on one thread. Nothing is handed over between
//! threads on the way of a request, which costs more than all that the proxy does with it.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Most lanes.
const MOST: usize = 64;
/// What is still being computed on a lane when it ends gets this time.
const LAST_WORK: Duration = Duration::from_secs(1);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// The lane this thread is, from 1 on; 0 on every other thread.
#[must_use]
pub fn current() -> usize {
    NUMBER.get()
}

/// A lane for each processor.
#[must_use]
pub fn usual() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST)
}

/// One thread with its runtime.
#[derive(Debug)]
struct Lane {
    handle: Handle,
    /// Connections.
    serves: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// All of them. Dropped, they end by themselves; nobody waits for that.
#[derive(Debug, Default)]
pub struct Lanes(Vec<Lane>);

/// Counts a connection as long as it lives.
struct Serving(Arc<AtomicUsize>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// So many threads, at most 64; none leaves everything to the runtime that calls.
    ///
    /// # Errors
    /// What the system says when it has no thread left.
    pub fn start(count: usize) -> io::Result<Self> {
        (1..=count.min(MOST)).map(Lane::start).collect::<io::Result<_>>().map(Self)
    }

    /// Their runtimes.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|lane| &lane.handle)
    }

    /// Serves a connection on the lane that has the fewest.
    ///
    /// # Errors
    /// What the system says when the connection cannot change its thread.
    pub fn spawn<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let emptiest = self.0.iter().min_by_key(|lane| lane.serves.load(Ordering::Relaxed));
        let Some(lane) = emptiest else {
            tokio::spawn(serve(stream));
            return Ok(());
        };
        let stream = stream.into_std()?;
        lane.serves.fetch_add(1, Ordering::Relaxed);
        let counted = Serving(lane.serves.clone());
        lane.handle.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
            drop(counted);
        });
        Ok(())
    }

    /// Ends them, with what still runs on them.
    pub async fn stop(self) {
        let stopped = |lane: Lane| {
            drop(lane.stop);
            lane.thread
        };
        let threads: Vec<_> = self.0.into_iter().map(stopped).collect();
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // Its runtime lets no panic out.
                let _ = thread.join();
            }
        });
        let _ = ended.await;
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(format!("lane {number} work"))
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread =
            std::thread::Builder::new().name(format!("lane {number}")).spawn(move || {
                NUMBER.set(number);
                // A sender that is gone means the same.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(LAST_WORK);
            })?;
        Ok(Self { handle, serves: Arc::default(), stop, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers each connection with the number of its lane, and keeps it.
    async fn serve(lanes: &Lanes, connections: usize) -> Vec<(usize, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..connections {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let number = |mut stream: TcpStream| async move {
                let lane = u8::try_from(current()).unwrap();
                stream.write_all(&[lane]).await.unwrap();
                let _ = stream.read(&mut [0]).await;
            };
            lanes.spawn(stream, number).unwrap();
            clients.push((usize::from(client.read_u8().await.unwrap()), client));
        }
        clients
    }

    #[tokio::test]
    async fn connections_are_spread_and_stay_where_they_are() {
        let lanes = Lanes::start(3).unwrap();
        assert_eq!(current(), 0);
        let mut clients = serve(&lanes, 6).await;
        let mut numbers: Vec<_> = clients.iter().map(|(lane, _)| *lane).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 1, 2, 2, 3, 3]);
        // Who has lost connections gets the next.
        clients.retain(|(lane, _)| *lane != 2);
        let began = std::time::Instant::now();
        while lanes.0[1].serves.load(Ordering::Relaxed) > 0 {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(serve(&lanes, 2).await.iter().all(|(lane, _)| *lane == 2));
        lanes.stop().await;
        let mut end = [0];
        let (_, client) = &mut clients[0];
        assert_eq!(client.read(&mut end).await.unwrap_or(0), 0, "it ends with its lane");
    }

    #[tokio::test]
    async fn without_lanes_the_caller_serves() {
        let lanes = Lanes::start(0).unwrap();
        assert_eq!(serve(&lanes, 1).await[0].0, 0);
        lanes.stop().await;
    }
}
