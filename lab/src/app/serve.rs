use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once by one server; more wait in the listening queue.
const CONNECTIONS_MAX: usize = 10_000;
/// How much is read before it is echoed.
const ECHO_CHUNK: usize = 64 * 1024;
/// The longest method that counts as HTTP, with the space behind it.
const METHODS: [&str; 10] = [
    "GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT ", "PRI ",
];

/// Who the server says it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// Pod name.
    pub pod: String,
    /// Pod namespace.
    pub namespace: String,
    /// Node name.
    pub node: String,
}

impl About {
    /// From the environment that the lab gives to every container.
    pub fn from_environment() -> About {
        let read = |name: &str| std::env::var(name).unwrap_or_default();
        About {
            pod: read("POD_NAME"),
            namespace: read("POD_NAMESPACE"),
            node: read("NODE_NAME"),
        }
    }
}

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Ports to listen on, all addresses.
    pub ports: Vec<u16>,
    /// Reset (RST) an echo connection once so many bytes were echoed: to test that a reset stays a reset.
    pub reset_after: Option<u64>,
    /// What the JSON answer says.
    pub about: About,
}

/// Serves until a listener breaks, which is the only way it returns.
pub async fn serve(options: ServeOptions) -> io::Result<Infallible> {
    let mut listeners = Vec::new();
    for port in &options.ports {
        listeners.push(listen(*port).await?);
    }
    let options = Arc::new(options);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept_all(listener, options.clone(), slots.clone()));
    }
    match tasks.join_next().await {
        Some(Ok(error)) => Err(error),
        Some(Err(panic)) => Err(io::Error::other(panic)),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no port to listen on",
        )),
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    let wrong = |error: io::Error| io::Error::new(error.kind(), format!("listening on port {port}: {error}"));
    match TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(wrong(error)),
        // No IPv6 here.
        Err(_) => TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
            .await
            .map_err(wrong),
    }
}

async fn accept_all(listener: TcpListener, options: Arc<ServeOptions>, slots: Arc<Semaphore>) -> io::Error {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return io::Error::other("the server is closing");
        };
        match listener.accept().await {
            Ok((connection, peer)) => {
                let options = options.clone();
                tokio::spawn(async move {
                    // A broken connection is its caller's to notice.
                    let _ = serve_connection(connection, peer, options).await;
                    drop(slot);
                });
            }
            // Out of descriptors, or the caller went away while it waited: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_connection(
    mut connection: TcpStream,
    peer: SocketAddr,
    options: Arc<ServeOptions>,
) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut seen = Vec::with_capacity(ECHO_CHUNK);
    let http = loop {
        match looks_like_http(&seen) {
            Some(answer) => break answer,
            None if connection.read_buf(&mut seen).await? == 0 => break false,
            None => {}
        }
    };
    let (reader, writer) = connection.into_split();
    if http {
        answer_http(seen, reader, writer, peer, options).await
    } else {
        echo(seen, reader, writer, &options).await
    }
}

/// Whether these first bytes are an HTTP request; `None` when more are needed to tell.
pub(super) fn looks_like_http(bytes: &[u8]) -> Option<bool> {
    let mut undecided = false;
    for method in METHODS {
        let method = method.as_bytes();
        if bytes.starts_with(method) {
            return Some(true);
        }
        undecided |= method.starts_with(bytes);
    }
    if undecided { None } else { Some(false) }
}

async fn echo(
    seen: Vec<u8>,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    options: &ServeOptions,
) -> io::Result<()> {
    let mut chunk = seen;
    let mut echoed: u64 = 0;
    loop {
        writer.write_all(&chunk).await?;
        echoed = echoed.saturating_add(chunk.len() as u64);
        if options.reset_after.is_some_and(|limit| echoed >= limit) {
            // Closing with unsent linger time zero is how a program sends RST.
            socket2::SockRef::from(reader.as_ref()).set_linger(Some(Duration::ZERO))?;
            // Dropping the half would send FIN first.
            writer.forget();
            return Ok(());
        }
        chunk.clear();
        if reader.read_buf(&mut chunk).await? == 0 {
            return writer.shutdown().await;
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    about: &'a About,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    method: &'a str,
    path: String,
    headers: BTreeMap<String, String>,
    body_bytes: usize,
}

async fn answer_http(
    seen: Vec<u8>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    peer: SocketAddr,
    options: Arc<ServeOptions>,
) -> io::Result<()> {
    let peer = plain(peer);
    let local = writer.local_addr().ok().map(plain);
    let io = tokio::io::join(Cursor::new(seen).chain(reader), writer);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let options = options.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let mut body_bytes: usize = 0;
            while let Some(frame) = body.frame().await {
                body_bytes = body_bytes.saturating_add(frame?.data_ref().map_or(0, Bytes::len));
            }
            let headers = head
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect();
            let answer = Answer {
                about: &options.about,
                peer,
                local,
                method: head.method.as_str(),
                path: head
                    .uri
                    .path_and_query()
                    .map_or_else(|| head.uri.to_string(), ToString::to_string),
                headers,
                body_bytes,
            };
            let mut text = serde_json::to_string(&answer).unwrap_or_else(|error| error.to_string());
            text.push('\n');
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(
                hyper::header::CONTENT_TYPE,
                hyper::header::HeaderValue::from_static("application/json"),
            );
            Ok::<_, hyper::Error>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(true);
    builder
        .serve_connection(TokioIo::new(io), service)
        .await
        .map_err(io::Error::other)
}

/// An IPv4 address as such, also on a socket that speaks both families.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
