use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The largest body that is kept.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// What became of a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The name is not known.
    Unresolved,
    /// The connection was refused (RST to SYN, or port unreachable).
    Refused,
    /// No route to the address.
    Unreachable,
    /// The connection was reset (RST).
    Reset,
    /// The connection was closed (FIN) without an answer.
    Empty,
    /// No answer in time.
    Timeout,
    /// Anything else: not HTTP, a bad URL.
    Other,
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {text}")]
pub struct RequestFailed {
    /// What was asked for.
    pub url: String,
    /// What happened.
    pub kind: FailureKind,
    /// The same for people.
    pub text: String,
}

/// Asks for an `http://` URL and gives status and body.
pub async fn get(url: &str, timeout: Duration) -> Result<(StatusCode, Bytes), RequestFailed> {
    let failed = |(kind, text): (FailureKind, String)| RequestFailed {
        url: url.to_owned(),
        kind,
        text,
    };
    match tokio::time::timeout(timeout, exchange(url)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed((
            FailureKind::Timeout,
            format!("no answer within {timeout:?}"),
        ))),
    }
}

async fn exchange(url: &str) -> Result<(StatusCode, Bytes), (FailureKind, String)> {
    let other = |text: String| (FailureKind::Other, text);
    let uri: Uri = url
        .parse()
        .map_err(|error| other(format!("not a URL: {error}")))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(other("only http:// is spoken here".to_owned()));
    }
    let authority = uri
        .authority()
        .ok_or_else(|| other("the URL names no host".to_owned()))?;
    let port = uri.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let connection = TcpStream::connect((host, port))
        .await
        .map_err(|error| connect_failure(&error))?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| other(error.to_string()))?;
    let driver = tokio::spawn(driver);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", authority.as_str())
        .header("user-agent", "ztctl-app")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| other(error.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| exchange_failure(&error))?;
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), BODY_MAX)
        .collect()
        .await
        .map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => exchange_failure(&error),
            Err(error) => other(error.to_string()),
        })?
        .to_bytes();
    driver.abort();
    Ok((status, body))
}

/// What a failed connection attempt means.
pub(super) fn connect_failure(error: &io::Error) -> (FailureKind, String) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (FailureKind::Refused, "connection refused".to_owned()),
        io::ErrorKind::ConnectionReset => (FailureKind::Reset, "connection reset".to_owned()),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            (FailureKind::Unreachable, format!("unreachable: {error}"))
        }
        io::ErrorKind::TimedOut => (FailureKind::Timeout, "timed out while connecting".to_owned()),
        // getaddrinfo's errors carry no number.
        _ if error.raw_os_error().is_none() => (FailureKind::Unresolved, format!("name not found: {error}")),
        _ => (FailureKind::Other, error.to_string()),
    }
}

fn exchange_failure(error: &hyper::Error) -> (FailureKind, String) {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    return (FailureKind::Reset, "connection reset".to_owned());
                }
                io::ErrorKind::UnexpectedEof => return (FailureKind::Empty, "empty reply".to_owned()),
                _ => {}
            }
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (
            FailureKind::Empty,
            "empty reply: the connection was closed without an answer".to_owned(),
        )
    } else {
        (FailureKind::Other, error.to_string())
    }
}
