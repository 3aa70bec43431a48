use std::sync::Mutex;

use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::task::JoinHandle;

use super::*;
use crate::Upstream;
use crate::answer::tests::{Names, addresses, query};

const LONG: Duration = Duration::from_secs(20);

/// Sockets of this process's own loopback.
struct Loopback;

impl Upstream for Loopback {
    fn udp(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(UdpSocket::bind("127.0.0.1:0"))
    }

    fn tcp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(server))
    }
}

#[derive(Default)]
struct Counts(Mutex<Vec<String>>);

impl Counts {
    fn push(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Observer for Counts {
    fn request(&self, query: QueryInfo) {
        self.push(format!("{} {}", query.transport.as_str(), query.query_type));
    }
    fn upstream_request(&self, _: QueryInfo) {
        self.push("upstream");
    }
    fn upstream_failure(&self, _: QueryInfo) {
        self.push("failure");
    }
    fn upstream_answered(&self, _: QueryInfo, _: Duration) {
        self.push("answered");
    }
    fn overloaded(&self, transport: Transport) {
        self.push(format!("overloaded {}", transport.as_str()));
    }
}

struct Server {
    udp: SocketAddr,
    tcp: SocketAddr,
    counts: Arc<Counts>,
    tasks: [JoinHandle<io::Result<()>>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(upstreams: &[SocketAddr]) -> Server {
    let many: Vec<String> = (0..200).map(|i| format!("10.0.0.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names = Names::new(
        &[("web.shop.svc.cluster.local", &["10.96.0.7"]), ("big.svc", &many)],
        None,
    );
    let names: Arc<dyn Resolver> = Arc::new(names);
    let forwarder = Forwarder::new(upstreams, Arc::new(Loopback));
    let counts = Arc::new(Counts::default());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
    let tasks = [
        tokio::spawn(serve_udp(
            socket,
            names.clone(),
            forwarder.clone(),
            counts.clone(),
        )),
        tokio::spawn(serve_tcp(listener, names, forwarder, counts.clone())),
    ];
    Server {
        udp,
        tcp,
        counts,
        tasks,
    }
}

async fn client(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.udp).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let length = timeout(LONG, socket.recv(&mut buffer))
        .await
        .expect("an answer in time")
        .unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask(server: &Server, query: &Message) -> Message {
    let socket = client(server).await;
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    Message::from_vec(&receive(&socket).await).unwrap()
}

/// A name server that hands its queries to the test.
async fn upstream() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn next(upstream: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 4096];
    let (length, from) = timeout(LONG, upstream.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// The query as an answer, with bytes at the end by which it is known.
fn as_answer(query: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer.extend(mark);
    answer
}

#[tokio::test]
async fn known_names_are_answered_over_both_transports() {
    let server = serve(&[]).await;
    let web = query("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(addresses(&ask(&server, &web).await), ["10.96.0.7"]);
    let big = query("big.svc.", RecordType::A);
    assert!(
        ask(&server, &big).await.metadata.truncation,
        "the client is sent to TCP"
    );
    let mut stream = TcpStream::connect(server.tcp).await.unwrap();
    // Several queries on one connection, the second one before the first is answered.
    for message in [&big, &web] {
        write_message(&mut stream, &message.to_vec().unwrap())
            .await
            .unwrap();
    }
    let first = timeout(LONG, read_message(&mut stream)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&first).unwrap().answers.len(), 200);
    let second = timeout(LONG, read_message(&mut stream)).await.unwrap().unwrap();
    assert_eq!(addresses(&Message::from_vec(&second).unwrap()), ["10.96.0.7"]);
    let counts = server.counts.0.lock().unwrap().clone();
    assert_eq!(counts, ["udp A", "udp A", "tcp A", "tcp A"]);
}

#[tokio::test]
async fn other_queries_pass_byte_for_byte_and_forgeries_do_not() {
    let (upstream, address) = upstream().await;
    let server = serve(&[address]).await;
    let client = client(&server).await;
    let mut sent = query("example.org.", RecordType::Unknown(4711)).to_vec().unwrap();
    // Another operation, and bytes at the end that no one here understands.
    sent[2] |= 6 << 3;
    sent.extend(b"opaque");
    client.send(&sent).await.unwrap();
    let (seen, from) = next(&upstream).await;
    assert_eq!(seen[2..], sent[2..]);

    // The wrong id, the wrong question, no answer at all: none may reach the client.
    let mut wrong_id = as_answer(&seen, b"forged");
    wrong_id[0] ^= 0xff;
    let mut wrong_question = as_answer(&seen, b"forged");
    wrong_question[14] ^= 0x01;
    let mut short = as_answer(&seen, b"");
    short.truncate(10);
    for forged in [wrong_id, wrong_question, short, seen.clone()] {
        upstream.send_to(&forged, from).await.unwrap();
    }
    // Another sender with everything right.
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger
        .send_to(&as_answer(&seen, b"forged"), from)
        .await
        .unwrap();
    upstream
        .send_to(&as_answer(&seen, b"genuine"), from)
        .await
        .unwrap();
    let received = receive(&client).await;
    assert_eq!(received, as_answer(&sent, b"genuine"), "with the client's own id");
}

#[tokio::test]
async fn ids_and_ports_towards_a_server_are_fresh_for_each_query() {
    let (upstream, address) = upstream().await;
    let server = serve(&[address]).await;
    let client = client(&server).await;
    let bytes = query("example.org.", RecordType::A).to_vec().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..16 {
        client.send(&bytes).await.unwrap();
        let (seen, from) = next(&upstream).await;
        ids.insert([seen[0], seen[1]]);
        ports.insert(from.port());
    }
    // By chance two may be the same, but never most of them.
    assert!(
        ids.len() > 12 && ports.len() > 12,
        "{} ids, {} ports",
        ids.len(),
        ports.len()
    );
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_silent_or_in_trouble() {
    let (silent, silent_address) = upstream().await;
    let (troubled, troubled_address) = upstream().await;
    let (good, good_address) = upstream().await;
    let server = serve(&[silent_address, troubled_address, good_address]).await;
    let client = client(&server).await;
    let sent = query("example.org.", RecordType::A).to_vec().unwrap();
    client.send(&sent).await.unwrap();
    next(&silent).await;
    let (seen, from) = next(&troubled).await;
    let mut failure = as_answer(&seen, b"");
    failure[3] |= 2;
    troubled.send_to(&failure, from).await.unwrap();
    let (seen, from) = next(&good).await;
    good.send_to(&as_answer(&seen, b"good"), from).await.unwrap();
    assert_eq!(receive(&client).await, as_answer(&sent, b"good"));
    let counts = server.counts.0.lock().unwrap().clone();
    assert_eq!(counts, ["udp A", "upstream", "answered"]);
}

#[tokio::test]
async fn without_a_server_the_client_is_told_at_once() {
    // A port where nobody listens: the kernel says so.
    let (gone, address) = upstream().await;
    drop(gone);
    for servers in [vec![], vec![address]] {
        let server = serve(&servers).await;
        let answer = ask(&server, &query("example.org.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.queries[0].name().to_ascii(), "example.org.");
        let counts = server.counts.0.lock().unwrap().clone();
        assert_eq!(counts, ["udp A", "upstream", "failure"]);
    }
}

#[tokio::test]
async fn queries_of_a_stream_are_forwarded_over_a_stream() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(&[upstream.local_addr().unwrap()]).await;
    let mut client = TcpStream::connect(server.tcp).await.unwrap();
    let sent = query("example.org.", RecordType::TXT).to_vec().unwrap();
    write_message(&mut client, &sent).await.unwrap();
    let (mut stream, _) = timeout(LONG, upstream.accept()).await.unwrap().unwrap();
    let seen = timeout(LONG, read_message(&mut stream)).await.unwrap().unwrap();
    assert_eq!(seen[2..], sent[2..]);
    let large = vec![b'x'; 40_000];
    write_message(&mut stream, &as_answer(&seen, &large))
        .await
        .unwrap();
    let received = timeout(LONG, read_message(&mut client)).await.unwrap().unwrap();
    assert_eq!(received, as_answer(&sent, &large));
}

#[tokio::test]
async fn a_flood_is_turned_away_and_counted_and_does_not_hold_up_known_names() {
    let (_silent, address) = upstream().await;
    let server = serve(&[address]).await;
    let flood = client(&server).await;
    let bytes = query("example.org.", RecordType::A).to_vec().unwrap();
    let overloaded = || {
        server
            .counts
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|what| what == "overloaded udp")
    };
    // Datagrams may be lost in the kernel, so it is not counted how many it takes.
    for _ in 0..MAX_FORWARDS * 20 {
        flood.send(&bytes).await.unwrap();
        if overloaded() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let answer = Message::from_vec(&receive(&flood).await).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(overloaded());
    let web = ask(&server, &query("web.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(addresses(&web), ["10.96.0.7"]);
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let server = serve(&[]).await;
    let client = client(&server).await;
    for garbage in [&b""[..], b"x", &[0xff; 600]] {
        client.send(garbage).await.unwrap();
    }
    let mut stream = TcpStream::connect(server.tcp).await.unwrap();
    write_message(&mut stream, b"garbage").await.unwrap();
    assert!(
        timeout(LONG, read_message(&mut stream)).await.unwrap().is_err(),
        "the connection is closed"
    );
    let web = ask(&server, &query("web.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(addresses(&web), ["10.96.0.7"]);
}

/// Time is simulated where nothing else is waited for.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let server = serve(&[]).await;
    let mut stream = TcpStream::connect(server.tcp).await.unwrap();
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut byte)
        .await
        .unwrap();
    assert_eq!(read, 0);
}
