mod lookup;

use std::sync::Mutex;

use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::Upstream;
use crate::answer::tests::{Names, addresses, query};
use crate::framing::{MessageReader, write_message};

const LONG: Duration = Duration::from_secs(20);

/// Sockets of this process's own loopback, and the server that every client means.
#[derive(Default)]
struct Loopback {
    asked: Option<SocketAddr>,
}

impl Upstream for Loopback {
    fn udp(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(UdpSocket::bind("127.0.0.1:0"))
    }

    fn tcp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(server))
    }

    fn asked(&self, client: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
        assert!(client.ip().is_loopback() && local.port() != 0);
        self.asked
    }

    fn asked_by_stream(&self, _: &TcpStream) -> Option<SocketAddr> {
        self.asked
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
    fn overloaded(&self, query: QueryInfo) {
        self.push(format!("overloaded {}", query.transport.as_str()));
    }
}

struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    counts: Arc<Counts>,
    tasks: [JoinHandle<io::Result<()>>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(upstreams: &[SocketAddr]) -> Running {
    serve_names(names(), upstreams, Loopback::default()).await
}

fn names() -> Names {
    let many: Vec<String> = (0..200).map(|i| format!("10.0.0.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let web: &[&str] = &["10.96.0.7"];
    Names::new(&[("web.shop.svc.cluster.local", web), ("big.svc", &many)], None)
}

async fn serve_names(names: impl Resolver, upstreams: &[SocketAddr], loopback: Loopback) -> Running {
    let forwarder = Forwarder::new(upstreams, Arc::new(loopback));
    let counts = Arc::new(Counts::default());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
    let server = Server::new(Arc::new(names), forwarder, counts.clone());
    let streams = server.clone();
    let tasks = [
        tokio::spawn(async move { server.serve_udp(socket, std::future::pending()).await }),
        tokio::spawn(async move { streams.serve_tcp(listener, std::future::pending()).await }),
    ];
    Running {
        udp,
        tcp,
        counts,
        tasks,
    }
}

async fn client(server: &Running) -> UdpSocket {
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

async fn ask(server: &Running, query: &Message) -> Message {
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
    let mut stream = Stream::to(server.tcp).await;
    // Several queries on one connection, the second one before the first is answered.
    for message in [&big, &web] {
        stream.write(&message.to_vec().unwrap()).await;
    }
    let first = stream.read().await;
    assert_eq!(Message::from_vec(&first).unwrap().answers.len(), 200);
    let second = stream.read().await;
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

/// One end of a connection on which messages are spoken.
struct Stream {
    read: MessageReader<tokio::net::tcp::OwnedReadHalf>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Stream {
    fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read: MessageReader::new(read),
            write,
        }
    }

    async fn to(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    async fn accepted(listener: &TcpListener) -> Self {
        Self::new(timeout(LONG, listener.accept()).await.unwrap().unwrap().0)
    }

    async fn write(&mut self, message: &[u8]) {
        write_message(&mut self.write, message).await.unwrap();
    }

    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        timeout(LONG, self.read.next()).await.expect("a message in time")
    }

    async fn read(&mut self) -> Vec<u8> {
        self.next().await.unwrap().expect("a message before the end")
    }
}

fn with_id(message: &Message, id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec().unwrap();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes
}

#[tokio::test]
async fn queries_of_a_stream_are_forwarded_over_one_stream_and_answered_as_they_are_ready() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(&[upstream.local_addr().unwrap()]).await;
    let mut client = Stream::to(server.tcp).await;
    let text = query("example.org.", RecordType::TXT);
    let (first, second) = (with_id(&text, 1), with_id(&text, 2));
    client.write(&first).await;
    let mut asked = Stream::accepted(&upstream).await;
    assert_eq!(asked.read().await, first, "byte for byte");
    // While that one waits: a name that is known, and another one that is not.
    client
        .write(&with_id(&query("web.shop.svc.cluster.local.", RecordType::A), 3))
        .await;
    assert_eq!(client.read().await[..2], [0, 3]);
    client.write(&second).await;
    assert_eq!(asked.read().await, second);
    let large = vec![b'x'; 40_000];
    asked.write(&as_answer(&second, &large)).await;
    assert_eq!(client.read().await, as_answer(&second, &large));
    asked.write(&as_answer(&first, b"late")).await;
    assert_eq!(client.read().await, as_answer(&first, b"late"));
}

#[tokio::test]
async fn a_zone_transfer_passes_with_all_its_messages() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(&[upstream.local_addr().unwrap()]).await;
    let mut client = Stream::to(server.tcp).await;
    let transfer = query("example.org.", RecordType::AXFR).to_vec().unwrap();
    client.write(&transfer).await;
    let mut asked = Stream::accepted(&upstream).await;
    let seen = asked.read().await;
    for part in 0..50u8 {
        asked.write(&as_answer(&seen, &[part])).await;
    }
    for part in 0..50u8 {
        assert_eq!(client.read().await, as_answer(&transfer, &[part]));
    }
}

#[tokio::test]
async fn a_stream_whose_server_goes_away_is_told_and_served_on() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(&[upstream.local_addr().unwrap()]).await;
    let mut client = Stream::to(server.tcp).await;
    let text = query("example.org.", RecordType::TXT);
    client.write(&with_id(&text, 1)).await;
    let mut asked = Stream::accepted(&upstream).await;
    asked.read().await;
    drop(asked);
    let failed = Message::from_vec(&client.read().await).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(failed.metadata.id, 1);
    client.write(&with_id(&text, 2)).await;
    let mut asked = Stream::accepted(&upstream).await;
    let seen = asked.read().await;
    asked.write(&as_answer(&seen, b"")).await;
    assert_eq!(client.read().await[..2], [0, 2]);
    let counts = server.counts.0.lock().unwrap().clone();
    assert_eq!(
        counts,
        [
            "tcp TXT", "upstream", "failure", "tcp TXT", "upstream", "answered"
        ]
    );
}

#[tokio::test]
async fn a_client_that_asks_without_end_waits_for_its_answers() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(&[upstream.local_addr().unwrap()]).await;
    let mut client = Stream::to(server.tcp).await;
    let text = query("example.org.", RecordType::TXT);
    let count = u16::try_from(MAX_PIPELINED * 4).unwrap();
    for id in 0..count {
        client.write(&with_id(&text, id)).await;
    }
    let mut asked = Stream::accepted(&upstream).await;
    let mut open = Vec::new();
    for _ in 0..MAX_PIPELINED {
        open.push(asked.read().await);
    }
    for answered in 0..count {
        let seen = open.remove(0);
        asked.write(&as_answer(&seen, b"")).await;
        let answer = client.read().await;
        assert_eq!(answer, as_answer(&seen, b""));
        if usize::from(answered) + MAX_PIPELINED < usize::from(count) {
            open.push(asked.read().await);
        }
    }
}

#[tokio::test]
async fn the_server_that_the_client_meant_is_asked_and_no_other() {
    let (configured, configured_address) = upstream().await;
    let (meant, meant_address) = upstream().await;
    let loopback = Loopback {
        asked: Some(meant_address),
    };
    let server = serve_names(names(), &[configured_address], loopback).await;
    let client = client(&server).await;
    let sent = query("example.org.", RecordType::A).to_vec().unwrap();
    client.send(&sent).await.unwrap();
    let (seen, from) = next(&meant).await;
    // In trouble, but it is what the client asked: it has a list of its own.
    let mut refused = as_answer(&seen, b"");
    refused[3] |= 5;
    meant.send_to(&refused, from).await.unwrap();
    assert_eq!(receive(&client).await[2..], refused[2..]);
    let mut byte = [0];
    let none = configured.try_recv(&mut byte).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::WouldBlock);

    let listener = TcpListener::bind(meant_address).await.unwrap();
    let mut stream = Stream::to(server.tcp).await;
    stream.write(&sent).await;
    assert_eq!(Stream::accepted(&listener).await.read().await, sent);
}

#[tokio::test]
async fn a_server_that_denies_a_known_name_is_corrected() {
    let (upstream, address) = upstream().await;
    let server = serve(&[address]).await;
    let client = client(&server).await;
    let sent = query("web.shop.svc.cluster.local.", RecordType::SRV)
        .to_vec()
        .unwrap();
    for (code, relayed) in [(3u8, false), (0, true), (5, true)] {
        client.send(&sent).await.unwrap();
        let (seen, from) = next(&upstream).await;
        let mut answer = as_answer(&seen, b"mark");
        answer[3] |= code;
        upstream.send_to(&answer, from).await.unwrap();
        let received = receive(&client).await;
        assert_eq!(received.ends_with(b"mark"), relayed, "{code}");
        if !relayed {
            let received = Message::from_vec(&received).unwrap();
            assert_eq!(received.metadata.response_code, ResponseCode::NoError);
            assert_eq!(received.authorities.len(), 1);
        }
    }
}

/// A name that becomes known when it is asked for.
#[derive(Default)]
struct OnDemand(std::sync::atomic::AtomicBool);

impl Resolver for OnDemand {
    fn lookup(&self, name: &str) -> Option<Vec<std::net::IpAddr>> {
        let known = name == "late.example" && self.0.load(std::sync::atomic::Ordering::SeqCst);
        known.then(|| vec!["10.96.0.8".parse().unwrap()])
    }

    fn demand(&self, _: &str) -> Option<BoxFuture<'_, ()>> {
        Some(Box::pin(async {
            tokio::task::yield_now().await;
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }))
    }
}

#[tokio::test]
async fn a_name_that_becomes_known_on_demand_is_answered() {
    let late = query("late.example.", RecordType::A);
    let server = serve_names(OnDemand::default(), &[], Loopback::default()).await;
    assert_eq!(addresses(&ask(&server, &late).await), ["10.96.0.8"]);
    let server = serve_names(OnDemand::default(), &[], Loopback::default()).await;
    let mut stream = Stream::to(server.tcp).await;
    stream.write(&late.to_vec().unwrap()).await;
    let answer = Message::from_vec(&stream.read().await).unwrap();
    assert_eq!(addresses(&answer), ["10.96.0.8"]);
    let other = ask(&server, &query("other.example.", RecordType::A)).await;
    assert_eq!(other.metadata.response_code, ResponseCode::ServFail, "forwarded");
}

#[tokio::test]
async fn connections_have_a_bound_over_all_listeners() {
    let server = serve(&[]).await;
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = Stream::to(server.tcp).await;
        stream
            .write(
                &query("web.shop.svc.cluster.local.", RecordType::A)
                    .to_vec()
                    .unwrap(),
            )
            .await;
        stream.read().await;
        open.push(stream);
    }
    let mut beyond = Stream::to(server.tcp).await;
    assert!(!matches!(beyond.next().await, Ok(Some(_))), "closed");
    assert!(
        server
            .counts
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|what| what == "overloaded tcp")
    );
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
async fn what_has_come_before_the_end_is_answered() {
    let (upstream, address) = upstream().await;
    let forwarder = Forwarder::new(&[address], Arc::new(Loopback::default()));
    let server = Server::new(Arc::new(names()), forwarder, Arc::new(Silent));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    let known = query("web.shop.svc.cluster.local.", RecordType::A);
    for id in 0..20 {
        client.send(&with_id(&known, id)).await.unwrap();
    }
    let sent = with_id(&query("example.org.", RecordType::A), 20);
    client.send(&sent).await.unwrap();
    let mut stream = Stream::to(listener.local_addr().unwrap()).await;
    stream.write(&with_id(&known, 21)).await;

    // Told to stop before any of it was looked at.
    let (datagrams, streams) = (server.clone(), server);
    let datagrams = tokio::spawn(async move { datagrams.serve_udp(socket, std::future::ready(())).await });
    let streams = tokio::spawn(async move { streams.serve_tcp(listener, std::future::ready(())).await });
    let (seen, from) = next(&upstream).await;
    upstream.send_to(&as_answer(&seen, b"late"), from).await.unwrap();
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..=20 {
        let answer = receive(&client).await;
        answered.insert(u16::from_be_bytes([answer[0], answer[1]]));
    }
    assert_eq!(answered, (0..=20).collect());
    assert_eq!(stream.read().await[..2], [0, 21]);
    drop(stream);
    for ended in [datagrams, streams] {
        timeout(LONG, ended).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_connects_without_pause_does_not_put_off_the_end() {
    let server = Server::new(
        Arc::new(names()),
        Forwarder::new(&[], Arc::new(Loopback::default())),
        Arc::new(Silent),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        // Until nobody listens any more.
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let served = server.serve_tcp(listener, std::future::ready(()));
    timeout(DRAIN_DEADLINE, served)
        .await
        .expect("an end within the deadline")
        .unwrap();
    client.join().unwrap();
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let server = serve(&[]).await;
    let client = client(&server).await;
    for garbage in [&b""[..], b"x", &[0xff; 600]] {
        client.send(garbage).await.unwrap();
    }
    let mut stream = Stream::to(server.tcp).await;
    stream.write(b"garbage").await;
    assert!(
        !matches!(stream.next().await, Ok(Some(_))),
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
