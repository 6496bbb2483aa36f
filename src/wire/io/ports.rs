//! The two ports of process 1 in a pod, agent or balancer: an open port with probes over HTTP, and a closed port over TLS with the bearer token of
//! the credentials Secret.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum_server::Server;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::names::keys;
use crate::wire::agent::LONGEST_ORDER;

use super::limits::Limits;

/// How long a connection to the open port lasts at most. An answer takes a second.
const LONGEST_PROBE: Duration = Duration::from_secs(10);
/// How long a connection to the closed port stays without a request. Operators ask every minute at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often the certificate files are read again.
const RELOAD: Duration = Duration::from_secs(60);

/// Addresses of the ports, and the certificate of the closed one.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'a> {
    /// `None`: every address, IPv6 too where the pod has it.
    pub listen: Option<IpAddr>,
    /// Number of the open port.
    pub open: u16,
    /// Number of the closed port.
    pub closed: u16,
    /// Folder with `tls.crt` and `tls.key`.
    pub tls: &'a Path,
}

/// The servers, which run until they are stopped.
pub struct Servers(Vec<JoinHandle<()>>);

impl Servers {
    /// Ends the servers.
    pub fn stop(&self) {
        for server in &self.0 {
            server.abort();
        }
    }
}

/// Binds both ports, then serves them in the background.
///
/// # Errors
/// When a port is taken, or the certificate or its key cannot be used.
pub async fn serve(ports: Ports<'_>, open: Router, closed: Router) -> anyhow::Result<Servers> {
    let (open_listener, closed_listener) = (bind(ports.listen, ports.open)?, bind(ports.listen, ports.closed)?);
    let (certificate, key) = (ports.tls.join("tls.crt"), ports.tls.join("tls.key"));
    let tls = RustlsConfig::from_pem_file(&certificate, &key)
        .await
        .with_context(|| format!("cannot use the certificate in {}", ports.tls.display()))?;
    let open_server = open_server(open_listener, LONGEST_PROBE)?;
    let acceptor = RustlsAcceptor::new(tls.clone()).acceptor(Limits::while_used(LONGEST_PAUSE));
    let closed_server = axum_server::from_tcp(closed_listener)?.acceptor(acceptor);
    Ok(Servers(vec![
        tokio::spawn(async move {
            if let Err(error) = open_server.serve(open.into_make_service()).await {
                error!(%error, "the probe port is closed");
            }
        }),
        tokio::spawn(async move {
            if let Err(error) = closed_server.serve(closed.into_make_service()).await {
                error!(%error, "the orders port is closed");
            }
        }),
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RELOAD).await;
                if let Err(error) = tls.reload_from_pem_file(&certificate, &key).await {
                    warn!(%error, "cannot read the certificate again; the old one stays");
                }
            }
        }),
    ]))
}

/// The server of a port that anyone may use. Each request is a connection, of which a peer has so many a second; none lasts longer than `longest`.
///
/// # Errors
/// When the listener cannot be used.
pub fn open_server(listener: TcpListener, longest: Duration) -> io::Result<Server<SocketAddr, Limits>> {
    listener.set_nonblocking(true)?;
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(Limits::with_an_end(longest))
        .http1_only();
    server.http_builder().http1().keep_alive(false);
    Ok(server)
}

/// Binds a port: on one address, or on every address, IPv6 too where there is IPv6.
fn bind(listen: Option<IpAddr>, port: u16) -> anyhow::Result<TcpListener> {
    let listener = match listen {
        Some(address) => TcpListener::bind(SocketAddr::new(address, port)),
        None => TcpListener::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
            .or_else(|_| TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))),
    };
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    listener
        .set_nonblocking(true)
        .context("cannot make a listener non-blocking")?;
    Ok(listener)
}

/// One key of the credentials Secret, exactly as it is in the folder where the Secret is mounted.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn credential(folder: &Path, key: &str) -> anyhow::Result<String> {
    let path = folder.join(key);
    let value =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read the credential {}", path.display()))?;
    ensure!(!value.is_empty(), "the credential {} is empty", path.display());
    Ok(value)
}

/// Lets these routes take bodies of up to [`LONGEST_ORDER`]. Without it axum refuses more than 2 MB.
pub fn with_long_orders(routes: Router) -> Router {
    routes.layer(DefaultBodyLimit::max(LONGEST_ORDER))
}

/// What the check of the token needs.
#[derive(Clone)]
struct Guard {
    credentials: PathBuf,
    on_request: Arc<dyn Fn() + Send + Sync>,
}

/// Lets only requests with the token through, and calls `on_request` for each of them.
pub fn only_with_token(routes: Router, credentials: PathBuf, on_request: impl Fn() + Send + Sync + 'static) -> Router {
    let guard = Guard {
        credentials,
        on_request: Arc::new(on_request),
    };
    routes.layer(middleware::from_fn_with_state(guard, check))
}

/// Checks the token. It is read from its file at each request, because the Secret may have changed.
async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let token = match credential(&guard.credentials, keys::AGENT_TOKEN) {
        Ok(token) => token,
        Err(error) => {
            error!("{error:#}");
            return (StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be read\n").into_response();
        }
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    match given.and_then(|value| value.strip_prefix(b"Bearer ")) {
        Some(given) if equal(given, token.as_bytes()) => {
            (guard.on_request)();
            next.run(request).await
        }
        _ => (StatusCode::UNAUTHORIZED, "a bearer token is needed\n").into_response(),
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode, header};
    use axum::routing::post;
    use axum::{Json, Router};
    use tower::ServiceExt;

    use super::{LONGEST_ORDER, equal, with_long_orders};

    /// A GTID set of 300,000 intervals has 7 MB.
    #[tokio::test]
    async fn a_body_has_a_limit_that_a_long_set_fits() {
        let routes = Router::new().route("/", post(async |Json(text): Json<String>| text.len().to_string()));
        let routes = with_long_orders(routes);
        let quotes = 2;
        for (length, expected) in [
            (7_000_000, StatusCode::OK),
            (LONGEST_ORDER - quotes, StatusCode::OK),
            (LONGEST_ORDER - quotes + 1, StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(format!("\"{}\"", "x".repeat(length)))).unwrap();
            let answer = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), expected, "{length}");
        }
    }

    #[test]
    fn tokens_are_equal_only_if_they_are() {
        assert!(equal(b"abc", b"abc"));
        for other in [&b""[..], b"ab", b"abd", b"abcd"] {
            assert!(!equal(other, b"abc"));
        }
    }
}
