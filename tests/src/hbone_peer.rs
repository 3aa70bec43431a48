use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::place::Place;
use crate::pod::Pod;
use crate::tls_peer::{Credentials, TlsPeer};

/// The port of tunnels.
pub const HBONE_PORT: u16 = 15008;
/// No single step takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One tunnel that the test opens itself, with whatever certificate and whatever requests.
pub struct HboneClient {
    runtime: Runtime,
    requests: h2::client::SendRequest<Bytes>,
    /// The local address of its socket.
    pub local: SocketAddr,
    /// Whether the server's certificate carries the name that was asked for.
    pub server_is_expected: bool,
}

/// As long as this lives, a client does nothing.
pub struct StandStill {
    _over: std::sync::mpsc::Sender<()>,
}

/// The answer to one request, and what can be sent and received behind it.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    send: h2::SendStream<Bytes>,
    recv: h2::RecvStream,
}

/// A request that was sent.
pub(crate) type Pending = JoinHandle<io::Result<Answer>>;

impl HboneClient {
    /// TCP, TLS and HTTP/2 from inside a namespace. An error is also what the server says after the handshake proper:
    /// in TLS 1.3 a client hears only then whether its certificate was accepted.
    pub fn open(
        from: &impl Place,
        to: SocketAddr,
        shown: Option<&Credentials>,
        expected_server: &str,
    ) -> io::Result<HboneClient> {
        HboneClient::open_with(from, to, shown, expected_server, &h2::client::Builder::new())
    }

    /// As [`HboneClient::open`], with other settings of HTTP/2.
    pub fn open_with(
        from: &impl Place,
        to: SocketAddr,
        shown: Option<&Credentials>,
        expected_server: &str,
        http2: &h2::client::Builder,
    ) -> io::Result<HboneClient> {
        let runtime = runtime();
        let socket = from.connect(to)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let opening = async {
            let tls = TlsPeer::connect(TcpStream::from_std(socket)?, shown).await?;
            let server_is_expected = tls.peer_is(expected_server);
            let (requests, mut connection) = http2.handshake(tls).await.map_err(io::Error::other)?;
            let mut pings = connection.ping_pong().expect("not taken before");
            let driver = tokio::spawn(connection);
            // An answer to a ping proves that the server has accepted the tunnel.
            if let Err(error) = pings.ping(h2::Ping::opaque()).await {
                return Err(match driver.await {
                    Ok(Err(reason)) => io::Error::other(format!("{reason:?}")),
                    _ => io::Error::other(error),
                });
            }
            Ok((requests, server_is_expected))
        };
        let (requests, server_is_expected) = within(&runtime, opening)?;
        Ok(HboneClient {
            runtime,
            requests,
            local,
            server_is_expected,
        })
    }

    /// From here on nothing is read from the socket, nor written to it, until what this gives is dropped.
    pub fn stand_still(&self) -> StandStill {
        let (over, until) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel();
        // It has one worker, which is kept busy.
        self.runtime.spawn(async move {
            let _ = begun.send(());
            let _ = until.recv();
        });
        begins.recv().expect("a worker");
        StandStill { _over: over }
    }

    /// CONNECT to this authority.
    pub fn connect(&self, authority: &str) -> Answer {
        self.request(Method::CONNECT, authority)
    }

    /// A request; for any method but CONNECT it asks for `https://AUTHORITY/`.
    pub fn request(&self, method: Method, authority: &str) -> Answer {
        let pending = self.begin(method, authority);
        self.finish(pending)
            .unwrap_or_else(|error| panic!("asking for {authority}: {error}"))
    }

    /// Sends a request and does not wait for the answer.
    pub fn begin(&self, method: Method, authority: &str) -> Pending {
        let mut request = Request::new(());
        let uri = if method == Method::CONNECT {
            authority.to_owned()
        } else {
            format!("https://{authority}/")
        };
        *request.uri_mut() = uri.parse::<Uri>().expect("an authority");
        *request.method_mut() = method;
        let mut requests = self.requests.clone();
        self.runtime.spawn(async move {
            let (answer, send) = requests.send_request(request, false).map_err(io::Error::other)?;
            let (head, recv) = answer.await.map_err(io::Error::other)?.into_parts();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                send,
                recv,
            })
        })
    }

    /// Waits for the answer.
    pub fn finish(&self, pending: Pending) -> io::Result<Answer> {
        within(&self.runtime, async { pending.await.map_err(io::Error::other)? })
    }

    /// Sends these bytes and waits for as many.
    pub fn exchange(&self, answer: &mut Answer, bytes: &[u8]) -> io::Result<Vec<u8>> {
        within(&self.runtime, async {
            answer
                .send
                .send_data(Bytes::copy_from_slice(bytes), false)
                .map_err(io::Error::other)?;
            let mut received = Vec::new();
            while received.len() < bytes.len() {
                let Some(chunk) = answer.recv.data().await else {
                    break;
                };
                let chunk = chunk.map_err(io::Error::other)?;
                let _ = answer.recv.flow_control().release_capacity(chunk.len());
                received.extend(chunk);
            }
            Ok(received)
        })
    }
}

/// How an [`Impostor`] behaves.
pub enum Behaviour {
    /// Shows this certificate, offers these protocols, answers requests with this status; echoes behind 200.
    Tls(Credentials, Vec<&'static str>, u16),
    /// Sends these bytes at once and no TLS.
    Plaintext(&'static [u8]),
}

/// Stands at a captured pod's port 15008 in place of its proxy: its socket is bound to the pod's address, which the
/// kernel prefers to the proxy's on all addresses. Ends with the value.
pub struct Impostor {
    _runtime: Runtime,
    seen: Arc<Mutex<Seen>>,
}

/// What an [`Impostor`] has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections.
    pub connections: usize,
    /// Finished handshakes, from its own point of view.
    pub handshakes: usize,
    /// Requests: method, authority, headers.
    pub requests: Vec<(Method, String, HeaderMap)>,
    /// For each request the other end of the tunnel that it came in.
    pub tunnels: Vec<SocketAddr>,
    /// Bytes inside tunnels.
    pub bytes: usize,
}

impl Impostor {
    /// Takes the pod's port.
    pub fn start(pod: &Pod, behaviour: Behaviour) -> Impostor {
        let runtime = runtime();
        let listener = pod.inside(|| {
            let address = pod.at(HBONE_PORT);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(64)?;
            socket.set_nonblocking(true)?;
            Ok(std::net::TcpListener::from(socket))
        });
        let listener = listener.expect("taking the proxy's port");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (own, behaviour) = (seen.clone(), Arc::new(behaviour));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                own.lock().expect("no panic").connections += 1;
                let (seen, behaviour) = (own.clone(), behaviour.clone());
                // A peer that goes away in disgust is what is wanted.
                tokio::spawn(async move { serve(socket, &behaviour, &seen).await });
            }
        });
        Impostor {
            _runtime: runtime,
            seen,
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn serve(socket: TcpStream, behaviour: &Behaviour, seen: &Arc<Mutex<Seen>>) -> io::Result<()> {
    let (credentials, protocols, status) = match behaviour {
        Behaviour::Tls(credentials, protocols, status) => (credentials, protocols, *status),
        Behaviour::Plaintext(bytes) => {
            let mut socket = socket;
            tokio::io::AsyncWriteExt::write_all(&mut socket, bytes).await?;
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut rest).await?;
            return Ok(());
        }
    };
    let caller = socket.peer_addr()?;
    let tls = TlsPeer::accept(socket, credentials, protocols).await?;
    seen.lock().expect("no panic").handshakes += 1;
    let mut connection = h2::server::handshake(tls).await.map_err(io::Error::other)?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.map_err(io::Error::other)?;
        let (head, mut body) = request.into_parts();
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        {
            let mut seen = seen.lock().expect("no panic");
            seen.requests.push((head.method, authority, head.headers));
            seen.tunnels.push(caller);
        }
        let response = Response::builder()
            .status(status)
            .body(())
            .map_err(io::Error::other)?;
        let mut send = respond
            .send_response(response, status != 200)
            .map_err(io::Error::other)?;
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
                seen.lock().expect("no panic").bytes += chunk.len();
                if status == 200 && send.send_data(chunk, false).is_err() {
                    return;
                }
            }
            if status == 200 {
                let _ = send.send_data(Bytes::new(), true);
            }
        });
    }
    Ok(())
}

fn within<T>(runtime: &Runtime, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    runtime.block_on(async {
        timeout(PATIENCE, work).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not within {PATIENCE:?}"),
            ))
        })
    })
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}
