use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{Doing, Outcome};
use crate::namespace::Namespace;
use crate::tls::{Facts, TlsSettings, TlsStream};
use crate::tunnel::Tunnel;
use crate::wait::eventually_some;

/// The port of tunnels.
pub const HBONE_PORT: u16 = 15008;
const WINDOW: u32 = 4 << 20;

/// A peer at the far end of tunnels: a node proxy, waypoint or gateway, made by the check. Ends with the value.
#[derive(Debug)]
pub struct HboneServer {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    settings: ServerSettings,
    handler: Handler,
    seen: Mutex<Vec<Connection>>,
    asked: Mutex<Vec<Asked>>,
    failures: Mutex<Vec<String>>,
    drains: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// How a server behaves below its answers.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Its certificate and protocols.
    pub tls: TlsSettings,
    /// Streams it lets a client have at once.
    pub max_streams: u32,
}

impl ServerSettings {
    /// As a node proxy is.
    pub fn new(tls: TlsSettings) -> ServerSettings {
        ServerSettings {
            tls,
            max_streams: 200,
        }
    }
}

/// One connection that a server has seen.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where it came from.
    pub peer: SocketAddr,
    /// What TLS agreed on.
    pub facts: Facts,
    /// Its requests, in order.
    pub requests: Vec<Asked>,
    /// Streams open now.
    pub open: usize,
    /// The most streams that were open at once.
    pub most_open: usize,
    /// Whether it has ended.
    pub closed: bool,
}

/// One request that a server has seen.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// `:scheme`, which CONNECT must not have.
    pub scheme: Option<String>,
    /// `:authority`.
    pub authority: String,
    /// `:path`, which CONNECT must not have.
    pub path: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
}

/// What a server does with a request.
pub enum Reply {
    /// 200, and everything back.
    Echo,
    /// This status and nothing more.
    Status(u16),
    /// No answer as long as the client waits.
    Never,
    /// RST_STREAM in place of an answer.
    Reset(Reason),
    /// 200, these bytes, then RST_STREAM.
    SendThenReset(Bytes, Reason),
    /// 200, and this with what is behind it.
    Tunnel(ServeTunnel),
}

/// What is done behind a 200.
pub type ServeTunnel = Box<dyn FnOnce(Tunnel) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Reply {
    /// 200, and this with what is behind it.
    pub fn tunnel<F>(serve: impl FnOnce(Tunnel) -> F + Send + 'static) -> Reply
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Reply::Tunnel(Box::new(move |tunnel| Box::pin(serve(tunnel))))
    }

    /// 200, and joined with a TCP connection from this namespace to that address.
    pub fn forward(from: &Namespace, to: SocketAddr) -> Reply {
        let from = from.clone();
        Reply::tunnel(async move |mut tunnel: Tunnel| {
            if let Ok(mut onward) = from.connect(to).await {
                // Either end may go away; the check sees it.
                let _ = tokio::io::copy_bidirectional(&mut tunnel, &mut onward).await;
            }
        })
    }
}

type Handler = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

impl HboneServer {
    /// Listens in a namespace; `handler` says what becomes of a request.
    pub fn start(
        place: &Namespace,
        at: SocketAddr,
        settings: ServerSettings,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Outcome<HboneServer> {
        let listener = place.listen(at).doing(format!("listening on {at}"))?;
        let mut server = HboneServer::within(settings, handler);
        server.task = Some(tokio::spawn(accept(listener, server.shared.clone())));
        Ok(server)
    }

    /// A server that listens nowhere: it serves what [`HboneServer::reply`] is the answer to.
    pub fn within(
        settings: ServerSettings,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> HboneServer {
        let shared = Shared {
            settings,
            handler: Box::new(handler),
            seen: Mutex::default(),
            asked: Mutex::default(),
            failures: Mutex::default(),
            drains: watch::Sender::new(0),
        };
        HboneServer {
            shared: Arc::new(shared),
            task: None,
        }
    }

    /// 200, and behind it a tunnel in the tunnel, which this server ends.
    pub fn reply(&self) -> Reply {
        let shared = self.shared.clone();
        Reply::tunnel(move |tunnel: Tunnel| async move {
            let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
            note(serve(tunnel, nowhere, &shared).await, &shared);
        })
    }

    /// Connections so far, in order of their handshakes.
    pub fn seen(&self) -> Vec<Connection> {
        self.shared.connections().clone()
    }

    /// Handshakes that came to nothing, and why.
    pub fn failures(&self) -> Vec<String> {
        self.shared
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Requests of all connections, in the order in which they came.
    pub fn requests(&self) -> Vec<Asked> {
        self.shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the first request of this authority.
    pub async fn request_for(&self, authority: &str) -> Outcome<Asked> {
        let what = format!("a CONNECT with authority {authority}");
        eventually_some(&what, Duration::from_secs(10), || {
            self.requests()
                .into_iter()
                .find(|asked| asked.authority == authority)
        })
        .await
    }

    /// Sends GOAWAY on every connection; those end when their streams have.
    pub fn drain(&self) {
        self.shared.drains.send_modify(|drains| *drains += 1);
    }
}

impl Drop for HboneServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, number: usize, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections().get_mut(number) {
            change(connection);
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((socket, peer)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            note(serve(socket, peer, &shared).await, &shared);
        });
    }
}

fn note(outcome: Outcome, shared: &Shared) {
    if let Err(failure) = outcome {
        let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(failure.to_string());
    }
}

async fn serve<S>(socket: S, peer: SocketAddr, shared: &Arc<Shared>) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut drains = shared.drains.subscribe();
    drains.mark_unchanged();
    let stream = TlsStream::accept(socket, &shared.settings.tls).await?;
    let number = {
        let mut connections = shared.connections();
        connections.push(Connection {
            peer,
            facts: stream.facts(),
            requests: Vec::new(),
            open: 0,
            most_open: 0,
            closed: false,
        });
        connections.len() - 1
    };
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_concurrent_streams(shared.settings.max_streams)
        .handshake::<_, Bytes>(stream)
        .await?;
    let pinger = Arc::new(tokio::sync::Mutex::new(connection.ping_pong().doing("pings")?));
    loop {
        let request = tokio::select! {
            request = connection.accept() => request,
            Ok(()) = drains.changed() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = request else {
            break;
        };
        let (head, body) = request.into_parts();
        let asked = Asked {
            method: head.method,
            scheme: head.uri.scheme().map(ToString::to_string),
            authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: head.uri.path_and_query().map(ToString::to_string),
            headers: head.headers,
        };
        let reply = (shared.handler)(&asked);
        shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(asked.clone());
        shared.with(number, |connection| {
            connection.requests.push(asked);
            connection.open += 1;
            connection.most_open = connection.most_open.max(connection.open);
        });
        let (shared, pinger) = (shared.clone(), pinger.clone());
        tokio::spawn(async move {
            // A client that goes away is what some checks want.
            let _ = answer(respond, body, reply, &pinger).await;
            shared.with(number, |connection| connection.open -= 1);
        });
    }
    shared.with(number, |connection| connection.closed = true);
    Ok(())
}

async fn answer(
    mut respond: SendResponse<Bytes>,
    body: h2::RecvStream,
    reply: Reply,
    pinger: &tokio::sync::Mutex<h2::PingPong>,
) -> Outcome {
    let good = || Response::builder().status(200).body(());
    match reply {
        Reply::Status(status) => {
            respond.send_response(Response::builder().status(status).body(())?, true)?;
        }
        Reply::Never => {
            std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
        }
        Reply::Reset(reason) => respond.send_reset(reason),
        Reply::SendThenReset(bytes, reason) => {
            let mut tunnel = Tunnel::new(respond.send_response(good()?, false)?, body);
            tunnel.send(bytes, false)?;
            // A reset drops what waits to be sent. The answer to a ping shows that nothing does.
            pinger.lock().await.ping(h2::Ping::opaque()).await?;
            tunnel.reset(reason);
        }
        Reply::Echo => {
            let tunnel = Tunnel::new(respond.send_response(good()?, false)?, body);
            let (mut from, mut to) = tokio::io::split(tunnel);
            tokio::io::copy(&mut from, &mut to).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut to).await?;
        }
        Reply::Tunnel(serve) => serve(Tunnel::new(respond.send_response(good()?, false)?, body)).await,
    }
    Ok(())
}
