//! Streams that are left by their clients leave nothing behind: neither at the engine nor here.

use crate::worker::{config, raw_post, wait_for};
use mock_engine::{MockEngine, Settings};
use std::time::Duration;
use tensorpow_server::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_abandoned_streams_leave_no_connection_at_the_engine() {
    const WAVES: usize = 10;
    const AT_A_TIME: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pace = Duration::from_millis(20);
    let engine =
        MockEngine::start(listener, Settings { chunks: 1000, pace, stamps: false, keep: 0 })
            .unwrap();
    let config = config(&format!("http://{}", engine.address), &[]);
    let service = Service::start(config, None).await.unwrap();
    let (address, app) = (service.address(), service.app().clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = service.spawn(async move {
        let _ = stopped.await;
    });
    for wave in 1..=WAVES {
        let mut clients = JoinSet::new();
        for _ in 0..AT_A_TIME {
            clients.spawn(async move {
                let mut client = TcpStream::connect(address).await.unwrap();
                let request = raw_post("/v1/chat/completions", r#"{"stream":true}"#);
                client.write_all(request.as_bytes()).await.unwrap();
                assert!(client.read(&mut [0; 64]).await.unwrap() > 0);
                client
            });
        }
        let clients = clients.join_all().await;
        let under_way = engine.records.connections();
        assert!(under_way >= AT_A_TIME as u64, "{under_way} streams are under way");
        drop(clients);
        let left = (wave * AT_A_TIME) as u64;
        wait_for("the engine to be left", || engine.records.aborted() == left).await;
    }
    // The connections of the proxy's own questions are all that may be left, and they go too.
    wait_for("the connections to go", || engine.records.connections() <= 2).await;
    wait_for("the places to be free", || app.limiter.in_flight() == 0).await;
    assert_eq!(app.metrics.active_requests(), 0);
    drop(stop);
    running.await.unwrap();
    // With it go the connections that were kept for its next question.
    drop(app);
    wait_for("the last connection to go", || engine.records.connections() == 0).await;
}
