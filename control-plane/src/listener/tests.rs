//! Clients over TLS, with and without a token.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use bytes::Bytes;
use ca::Authority;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tls::server_auth::{Client, RootSource, ServerIdentity};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::Server;

use super::*;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Refuses whoever has no token; with others it has a call without end, as discovery is.
#[derive(Clone)]
struct Endless;

impl NamedService for Endless {
    const NAME: &'static str = "test.Endless";
}

impl<B> Service<Request<B>> for Endless {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(request.extensions().get::<SocketAddr>().is_some());
        let answer = if request.headers().contains_key("authorization") {
            let (sender, outgoing) = mpsc::channel::<Result<_, Status>>(1);
            tokio::spawn(async move {
                let _ = sender.send(Ok(Bytes::from_static(b"served"))).await;
                std::future::pending::<()>().await;
            });
            let frames = futures_util::StreamExt::map(ReceiverStream::new(outgoing), |bytes| {
                bytes.map(hyper::body::Frame::data)
            });
            Response::new(Body::new(http_body_util::StreamBody::new(frames)))
        } else {
            Status::unauthenticated("no token").into_http()
        };
        std::future::ready(Ok(answer))
    }
}

struct World {
    address: SocketAddr,
    client: Client,
}

impl World {
    async fn start(limits: Limits) -> World {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::load_or_create(folder.path(), now).unwrap();
        let names = ["localhost".to_owned()];
        let life = Duration::from_secs(3600);
        let certificate = authority.issue_server_certificate(&names, life, now).unwrap();
        let identity = ServerIdentity::from_pem(&certificate.chain_pem, &certificate.key).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, accepted) = mpsc::channel(8);
        let acceptor = Arc::new(Acceptor::new(identity));
        tokio::spawn(accept(listener, acceptor, connections, limits));
        let server = Server::builder().add_service(Noting(Endless));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(accepted)));
        World {
            address,
            client: Client::load(&RootSource::Pem(authority.root_pem())).unwrap(),
        }
    }

    /// A connection from this address of loopback, whose handshake is done.
    async fn connect(&self, from: u8) -> tls::Stream<TcpStream> {
        let tcp = self.tcp(from).await;
        let shaking = self.client.connect(tcp, "localhost");
        tokio::time::timeout(PATIENCE, shaking).await.unwrap().unwrap()
    }

    async fn tcp(&self, from: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// A connection that speaks HTTP/2, and what ends with it.
    async fn speak(&self, from: u8) -> (SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<()>) {
        self.try_speak(from).await.expect("it is open")
    }

    /// `None` where the server has closed it already.
    async fn try_speak(&self, from: u8) -> Option<(SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<()>)> {
        let io = TokioIo::new(self.connect(from).await);
        let speaking = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = speaking.await.ok()?;
        let ended = tokio::spawn(async move {
            let _ = connection.await;
        });
        Some((sender, ended))
    }
}

async fn call(sender: &mut SendRequest<Empty<Bytes>>, token: Option<&str>) -> Response<Incoming> {
    try_call(sender, token).await.unwrap()
}

/// An error where the connection is closed.
async fn try_call(
    sender: &mut SendRequest<Empty<Bytes>>,
    token: Option<&str>,
) -> hyper::Result<Response<Incoming>> {
    let mut request = Request::post("https://localhost/test.Endless/Call");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let request = request.body(Empty::new()).unwrap();
    tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .expect("an answer in time")
}

/// Waits until the server has closed it.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let reading = async {
        let mut buffer = [0; 1024];
        while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it is closed");
}

#[tokio::test]
async fn who_shows_no_token_does_not_keep_out_who_does() {
    let world = World::start(Limits {
        all: 4,
        per_address: 2,
        ..Limits::default()
    })
    .await;
    // All places are taken, by connections with and without a handshake.
    let mut idle = [world.connect(2).await, world.connect(2).await];
    let mut silent = [world.tcp(3).await, world.tcp(3).await];
    let mut known = Vec::new();
    for _ in 0..2 {
        let (mut sender, connection) = world.speak(1).await;
        let mut answer = call(&mut sender, Some("good")).await;
        assert!(!answer.headers().contains_key("grpc-status"));
        let served = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(served.into_data().unwrap(), "served");
        known.push((sender, connection, answer));
    }
    closed(&mut idle[0]).await;
    closed(&mut silent[0]).await;
    // However many come: who is known stays.
    for number in 0..40 {
        let from = 2 + number % 4;
        let (mut sender, _connection) = world.speak(from).await;
        let answer = call(&mut sender, None).await;
        assert_eq!(answer.headers()["grpc-status"], "16");
    }
    closed(&mut idle[1]).await;
    closed(&mut silent[1]).await;
    assert!(known.iter().all(|(_, connection, _)| !connection.is_finished()));
    // An address that has and uses all that it may is not given more.
    closed(&mut world.tcp(1).await).await;
    assert!(known.iter().all(|(_, connection, _)| !connection.is_finished()));
    // What goes makes room.
    drop(known.pop());
    let again = async {
        loop {
            let tcp = world.tcp(1).await;
            if let Ok(stream) = world.client.connect(tcp, "localhost").await {
                break stream;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_a_token_is_closed_after_a_while() {
    // A slow machine needs a longer while to show a token in.
    for proof in [300, 3_000, 30_000].map(Duration::from_millis) {
        let limits = Limits {
            proof,
            ..Limits::default()
        };
        let world = World::start(limits).await;
        if who_shows_nothing_is_closed(&world).await {
            return;
        }
    }
    panic!("closed before anything could be shown");
}

/// `false` where the while was over before all had said what they have to say.
async fn who_shows_nothing_is_closed(world: &World) -> bool {
    let Some((mut known, connection)) = world.try_speak(1).await else {
        return false;
    };
    let Ok(answer) = try_call(&mut known, Some("good")).await else {
        return false;
    };
    // Neither of these has shown one.
    let mut idle = world.connect(2).await;
    let Some((mut refused, ended)) = world.try_speak(3).await else {
        return false;
    };
    if try_call(&mut refused, None).await.is_err() {
        return false;
    }
    closed(&mut idle).await;
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    // Who has shown one stays, also without anything under way.
    drop(answer);
    call(&mut known, Some("good")).await;
    assert!(!connection.is_finished());
    true
}
