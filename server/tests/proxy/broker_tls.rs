//! The broker link over TLS with an authority of one's own: whose certificate is taken, and what is
//! said of the others.

use crate::broker::{ENGINE, LIMIT, broker_status, next, register};
use crate::engine::{MockEngine, Script};
use crate::worker::{Worker, try_config, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tensorpow_server::http::tls::{TlsFiles, acceptor};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;

/// A broker behind TLS, whose certificate an authority has signed that no system knows.
struct Broker {
    listener: TcpListener,
    tls: TlsAcceptor,
    ca: PathBuf,
    folder: tempfile::TempDir,
}

impl Broker {
    /// With a certificate for this name.
    async fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of one's own");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signing = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&signing, &authority).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.pem", authority.pem());
        let (cert, key) =
            (write("cert.pem", leaf.pem()), write("key.pem", signing.serialize_pem()));
        let tls = acceptor(&TlsFiles { cert, key }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls, ca, folder }
    }

    async fn dialled(&self) -> TcpStream {
        tokio::time::timeout(LIMIT, self.listener.accept())
            .await
            .expect("a worker dials")
            .unwrap()
            .0
    }

    async fn accept(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        let stream = self.tls.accept(self.dialled().await).await.expect("TLS");
        tokio_tungstenite::accept_async(stream).await.expect("an upgrade")
    }

    /// A worker that trusts this authority beside the system's.
    async fn worker(&self, ca: Option<&Path>) -> Worker {
        let engine = MockEngine::start(Script::Json(200, ENGINE)).await;
        let port = self.listener.local_addr().unwrap().port();
        let url = format!("wss://localhost:{port}/v1/ws");
        let mut environment = vec![
            ("WORKER_MODE", "broker"),
            ("BROKER_WS_URL", &*url),
            ("PROVIDER_JWT_TOKEN", "eyJ0"),
            ("MAX_CONTEXT_WINDOW", "2048"),
        ];
        environment.extend(ca.map(|ca| ("BROKER_CA_FILE", ca.to_str().unwrap())));
        let config = try_config(&engine.url(), &[], &environment).expect("a configuration");
        let link = config.broker.clone().expect("a broker link").open();
        Worker::start_linked(engine, config, Some(link), None).await
    }

    /// Dials of a worker that ends the handshake, with the time of each.
    async fn refusals<const N: usize>(&self) -> [Instant; N] {
        let mut times = [Instant::now(); N];
        for time in &mut times {
            let stream = self.dialled().await;
            *time = Instant::now();
            let error = self.tls.accept(stream).await.expect_err("the worker breaks off");
            assert!(error.to_string().contains("alert"), "{error}");
        }
        times
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_a_trusted_authority_registers_the_worker() {
    let broker = Broker::new("localhost").await;
    let worker = broker.worker(Some(&broker.ca)).await;
    let mut connection = broker.accept().await;
    assert_eq!(next(&mut connection, "HELLO").await["capacity"], 4);
    register(&mut connection).await;
    assert_eq!(next(&mut connection, "HEARTBEAT").await["busy"], 0);
    assert_eq!(broker_status(&worker)["registered"], true);
    assert_eq!(broker_status(&worker)["unreachable"], Value::Null);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_authority_is_refused_and_tried_again_ever_later() {
    let broker = Broker::new("localhost").await;
    let stranger = Broker::new("localhost").await;
    let worker = broker.worker(Some(&stranger.ca)).await;
    let times: [Instant; 3] = broker.refusals().await;
    for (waited, least) in times.windows(2).map(|pair| pair[1] - pair[0]).zip([1, 2]) {
        let least = Duration::from_secs(least);
        assert!(waited >= least && waited < least * 2, "{waited:?} for {least:?}");
    }
    let why = broker_status(&worker)["unreachable"].as_str().unwrap().to_owned();
    assert!(why.contains("invalid peer certificate") && why.contains("BROKER_CA_FILE"), "{why}");
    assert_eq!(broker_status(&worker)["registered"], false);
    worker.stop().await;

    // The system knows it no better.
    let worker = broker.worker(None).await;
    wait_for("an attempt", || broker_status(&worker)["attempts"] != json!(0)).await;
    if !rustls_native_certs_are_absent() {
        let _: [Instant; 1] = broker.refusals().await;
    }
    wait_for("its end", || broker_status(&worker)["unreachable"].is_string()).await;
    let why = broker_status(&worker)["unreachable"].as_str().unwrap().to_owned();
    assert!(why.contains("BROKER_CA_FILE"), "{why}");
    worker.stop().await;
}

/// Without roots there is no handshake.
fn rustls_native_certs_are_absent() -> bool {
    rustls_native_certs::load_native_certs().certs.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_is_refused() {
    let broker = Broker::new("elsewhere.example").await;
    let worker = broker.worker(Some(&broker.ca)).await;
    let _: [Instant; 1] = broker.refusals().await;
    wait_for("the reason", || broker_status(&worker)["unreachable"].is_string()).await;
    let why = broker_status(&worker)["unreachable"].as_str().unwrap().to_owned();
    assert!(why.contains("not valid for name"), "{why}");
    worker.stop().await;
}

#[tokio::test]
async fn a_file_without_certificates_is_a_mistake_of_the_configuration() {
    let broker = Broker::new("localhost").await;
    let key = broker.folder.path().join("key.pem");
    for file in [key.as_path(), Path::new("/nowhere/ca.pem")] {
        let environment = [
            ("WORKER_MODE", "broker"),
            ("PROVIDER_JWT_TOKEN", "eyJ0"),
            ("BROKER_CA_FILE", file.to_str().unwrap()),
        ];
        let error = try_config("http://127.0.0.1:9", &[], &environment).unwrap_err().to_string();
        assert!(error.contains("BROKER_CA_FILE") && error.contains(".pem"), "{error}");
    }
}
