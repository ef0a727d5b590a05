//! The socket to a broker: TCP, TLS with the system's roots and the operator's where the URL says `wss`, the upgrade
//! with the worker's token. spec: broker §1

use super::settings::BrokerSettings;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Largest message that is read; one byte more closes the connection with 1009. spec: §1
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// A byte stream of either kind.
pub trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// An open WebSocket.
pub type Socket = WebSocketStream<Box<dyn Bytes>>;

/// There is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The broker does not want this worker.
    #[error("the broker refuses the connection with HTTP {status}{hint}")]
    Refused {
        /// Its status.
        status: u16,
        /// What helps, where that is known.
        hint: &'static str,
    },
    /// No TCP connection.
    #[error("no connection to {place}: {error}")]
    Tcp {
        /// Host and port.
        place: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// No TLS.
    #[error("no TLS with {place}: {error}")]
    Tls {
        /// Host and port.
        place: String,
        /// What is wrong.
        error: String,
    },
    /// The upgrade failed otherwise.
    #[error("no WebSocket: {0}")]
    Upgrade(String),
    /// It took too long.
    #[error("no connection within {0:?}")]
    Timeout(std::time::Duration),
}

/// Opens a socket within the limit on opening.
///
/// # Errors
/// [`DialError`].
pub async fn dial(settings: &BrokerSettings) -> Result<Socket, DialError> {
    let limit = settings.timings.open;
    tokio::time::timeout(limit, open(settings)).await.unwrap_or(Err(DialError::Timeout(limit)))
}

async fn open(settings: &BrokerSettings) -> Result<Socket, DialError> {
    let url = &settings.url;
    let place = format!("{}:{}", url.host, url.port);
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
    let stream = stream.map_err(|error| DialError::Tcp { place: place.clone(), error })?;
    // Frames are small and wait for nobody.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Bytes> = match url.tls {
        false => Box::new(stream),
        true => Box::new(secure(stream, settings, place).await?),
    };
    let unusable = |error: WebSocketError| DialError::Upgrade(error.to_string());
    let mut request = url.to_string().into_client_request().map_err(unusable)?;
    if let Some((name, value)) = settings.credential.header() {
        request.headers_mut().insert(name, value);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WebSocketError::Http(answer)) => {
            let status = answer.status().as_u16();
            let hint = match status {
                401 | 403 => {
                    ": check PROVIDER_JWT_TOKEN, it may have expired or be another broker's"
                }
                404 => ": check the path of BROKER_WS_URL, it usually ends in /v1/ws",
                _ => "",
            };
            Err(DialError::Refused { status, hint })
        }
        Err(error) => Err(unusable(error)),
    }
}

async fn secure(
    stream: TcpStream,
    settings: &BrokerSettings,
    place: String,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
    let failed = |error: String| DialError::Tls { place: place.clone(), error };
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    // Read each time: a certificate may have been renewed.
    for own in settings.ca_file.iter().map(|file| authorities(file)) {
        roots.add_parsable_certificates(own.map_err(failed)?);
    }
    if roots.is_empty() {
        return Err(failed(
            "the system has no root certificates: install ca-certificates, set SSL_CERT_FILE, or name the broker's authority in BROKER_CA_FILE"
                .to_owned(),
        ));
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(settings.url.host.clone())
        .map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| failed(untrusted(&error)))
}

/// Certificates of a file, which must hold some.
///
/// # Errors
/// What is wrong with the file.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let problem = |what: String| format!("{}: {what}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| problem(error.to_string()))?;
    let usable = RootCertStore::empty().add_parsable_certificates(found.iter().cloned()).0;
    match usable {
        0 => Err(problem("holds no certificate of an authority in PEM".to_owned())),
        _ => Ok(found),
    }
}

/// Why there is no TLS, with what helps where that is known.
fn untrusted(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let hint = match cause {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {
            ": the broker's certificate is from an authority this machine does not trust; if it is the right one, name its certificate in BROKER_CA_FILE"
        }
        _ => "",
    };
    format!("{error}{hint}")
}
