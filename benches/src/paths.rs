use hbone::client::{Client, ConnectRequest};
use hbone::server::Incoming;
use hbone::{Settings, Tunnel};
use relay::{Counters, End, TcpEnd, relay};
use tls::ConfigCache;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Mesh, workload};

/// How bytes get from the client to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One TCP connection: the floor.
    Tcp,
    /// One TCP connection with mutual TLS.
    Tls,
    /// A stream of an HBONE tunnel: mutual TLS and HTTP/2 on one TCP connection.
    Hbone,
    /// TCP, a relay, TCP, a relay, TCP: the floor of any pair of proxies.
    RelayedTcp,
    /// TCP, a relay, an HBONE tunnel, a relay, TCP: the shape of the product.
    RelayedHbone,
}

impl Kind {
    /// All of them, the floor first.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::Tls,
        Self::Hbone,
        Self::RelayedTcp,
        Self::RelayedHbone,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Hbone => "hbone",
            Self::RelayedTcp => "relayed tcp",
            Self::RelayedHbone => "relayed hbone",
        }
    }
}

/// What the application at the far end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Takes bytes and answers one byte for each [`Path::BULK`] of them.
    Bulk,
    /// Sends every [`Path::MESSAGE`] bytes back.
    PingPong,
}

/// Open connections over which one client talks to an application.
pub struct Path {
    work: Work,
    ends: Vec<Box<dyn Io>>,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Path {
    /// Bytes per step of [`Work::Bulk`].
    pub const BULK: usize = 16 << 20;
    /// Bytes of a message of [`Work::PingPong`].
    pub const MESSAGE: usize = 1024;

    /// Opens `connections` of this kind; those through HBONE share one tunnel connection.
    ///
    /// # Panics
    /// When loopback connections or handshakes fail: a bench cannot go on without.
    pub async fn open(kind: Kind, work: Work, connections: usize) -> Self {
        let tunnel = match kind {
            Kind::Hbone => Some(
                tunnel(move |incoming| async move {
                    apply(work, incoming.accept([]).expect("a client")).await;
                })
                .await,
            ),
            Kind::RelayedHbone => Some(
                tunnel(move |incoming| async move {
                    let tunnel = incoming.accept([]).expect("a client");
                    relay_on(tunnel, application(work).await).await;
                })
                .await,
            ),
            _ => None,
        };
        let mut ends: Vec<Box<dyn Io>> = Vec::new();
        for _ in 0..connections {
            ends.push(match (kind, &tunnel) {
                (Kind::Tls, _) => Box::new(tls_application(work).await),
                (Kind::Hbone, Some(client)) => Box::new(stream(client).await),
                (Kind::RelayedHbone, Some(client)) => {
                    let (near, far) = sockets().await;
                    tokio::spawn(relay_on(stream(client).await, far));
                    Box::new(near)
                }
                (Kind::RelayedTcp, _) => {
                    let (near, first) = sockets().await;
                    let (second, third) = sockets().await;
                    tokio::spawn(relay_on(TcpEnd::new(second), first));
                    tokio::spawn(async move { relay_on(TcpEnd::new(third), application(work).await).await });
                    Box::new(near)
                }
                _ => Box::new(application(work).await),
            });
        }
        Self { work, ends }
    }

    /// Does the work: sends [`Path::BULK`] bytes to the last byte on the first connection, or a message and awaits
    /// its return on each connection at once; `steps` times.
    ///
    /// # Panics
    /// When a connection breaks.
    pub async fn run(&mut self, steps: u64) {
        match self.work {
            Work::Bulk => self.bulk(steps).await,
            Work::PingPong => self.ping_pong(steps).await,
        }
    }

    async fn bulk(&mut self, steps: u64) {
        let block = vec![7; 256 << 10];
        let end = &mut self.ends[0];
        for _ in 0..steps {
            for _ in 0..Self::BULK / block.len() {
                end.write_all(&block).await.expect("the connection stays");
            }
            end.flush().await.expect("the connection stays");
            end.read_u8().await.expect("the connection stays");
        }
    }

    async fn ping_pong(&mut self, rounds: u64) {
        let all: Vec<_> = self
            .ends
            .drain(..)
            .map(|mut end| {
                tokio::spawn(async move {
                    let mut message = vec![1; Self::MESSAGE];
                    for _ in 0..rounds {
                        end.write_all(&message).await.expect("the connection stays");
                        end.flush().await.expect("the connection stays");
                        end.read_exact(&mut message).await.expect("the connection stays");
                    }
                    end
                })
            })
            .collect();
        for one in all {
            self.ends.push(one.await.expect("no panic"));
        }
    }
}

async fn apply(work: Work, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 256 << 10];
    match work {
        Work::Bulk => {
            let mut left = Path::BULK;
            while let Ok(read @ 1..) = stream.read(&mut buffer[..left.min(256 << 10)]).await {
                left -= read;
                if left == 0 {
                    left = Path::BULK;
                    if stream.write_all(&[1]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
        Work::PingPong => {
            while stream.read_exact(&mut buffer[..Path::MESSAGE]).await.is_ok() {
                if stream.write_all(&buffer[..Path::MESSAGE]).await.is_err() || stream.flush().await.is_err()
                {
                    return;
                }
            }
        }
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.expect("a connection"), far.expect("a connection").0);
    near.set_nodelay(true).expect("a TCP socket");
    far.set_nodelay(true).expect("a TCP socket");
    (near, far)
}

/// An application, and a socket to it.
async fn application(work: Work) -> TcpStream {
    let (near, far) = sockets().await;
    tokio::spawn(apply(work, far));
    near
}

async fn relay_on(end: impl End, socket: TcpStream) {
    relay(end, TcpEnd::new(socket), &Counters::new()).await;
}

async fn secured() -> (tls::Stream<TcpStream>, tls::Stream<TcpStream>) {
    let mesh = Mesh::new();
    let (client, server) = (workload(&mesh, "client"), workload(&mesh, "server"));
    let configs = ConfigCache::new();
    let accepted = [server.identity().clone()];
    let (near, far) = sockets().await;
    let (client, server) = (configs.client(&client, &accepted), configs.server(&server));
    let (near, far) = tokio::join!(tls::connect(near, &client), tls::accept(far, &server));
    (near.expect("a handshake").0, far.expect("a handshake").0)
}

async fn tls_application(work: Work) -> tls::Stream<TcpStream> {
    let (near, far) = secured().await;
    tokio::spawn(apply(work, far));
    near
}

/// A tunnel connection whose server gives every stream to `serve`.
async fn tunnel<F>(serve: impl Fn(Incoming) -> F + Send + 'static) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let (near, far) = secured().await;
    let (client, server) = tokio::join!(
        hbone::client::handshake(near, Settings::client()),
        hbone::server::handshake(far, Settings::server())
    );
    let ((client, driver), mut server) = (client.expect("HTTP/2"), server.expect("HTTP/2"));
    tokio::spawn(driver);
    tokio::spawn(async move {
        while let Some(Ok(incoming)) = server.accept().await {
            tokio::spawn(serve(incoming));
        }
    });
    client
}

async fn stream(client: &Client) -> Tunnel {
    let request = ConnectRequest {
        authority: "10.0.0.1:80".into(),
        headers: Vec::new(),
    };
    client.connect(request).await.expect("a tunnel").0
}
