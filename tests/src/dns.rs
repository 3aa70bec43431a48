//! Asking for names, and a name server to be asked.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::place::Place;
use crate::pod::Pod;

/// An answer to a DNS question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code: 0 good, 2 server failure, 3 no such name (RFC 1035 §4.1.1).
    pub code: u8,
    /// Whether it says that there is more than it holds.
    pub truncated: bool,
    /// The addresses in the answer.
    pub addresses: Vec<IpAddr>,
}

/// Record types (RFC 1035 §3.2.2, RFC 3596 §2.1).
pub const A: u16 = 1;
/// IPv6 addresses.
pub const AAAA: u16 = 28;

const ID: u16 = 0x5a17;
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks a DNS server for the IPv4 addresses of a name, over UDP from inside a namespace.
pub fn query(from: &impl Place, server: SocketAddr, name: &str) -> io::Result<Answer> {
    query_type(from, server, name, A)
}

/// As [`query`], for another record type.
pub fn query_type(from: &impl Place, server: SocketAddr, name: &str, kind: u16) -> io::Result<Answer> {
    read(&exchange(from, server, &question(name, kind))?)
}

/// As [`query`], over TCP.
pub fn query_over_stream(from: &impl Place, server: SocketAddr, name: &str) -> io::Result<Answer> {
    read(&exchange_over_stream(from, server, &question(name, A))?)
}

/// Sends a datagram and returns the one that comes back.
pub fn exchange(from: &impl Place, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = from.inside(|| UdpSocket::bind("0.0.0.0:0"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// Sends a message on a new connection and returns the one that comes back.
pub fn exchange_over_stream(from: &impl Place, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = from.connect(server)?;
    write_framed(&mut stream, query)?;
    read_framed(&mut stream)
}

/// A recursive query for one name, without extensions.
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut question = Vec::new();
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        question.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).expect("a label"));
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend(kind.to_be_bytes());
    question.extend([0, 1]);
    question
}

/// A name server inside a pod that knows one answer to everything: the query with [`NameServer::MARK`] behind it. Ends
/// with the value.
pub struct NameServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    asked: Mutex<Vec<(IpAddr, Vec<u8>)>>,
}

impl NameServer {
    /// What its answers end with.
    pub const MARK: &[u8] = b"from the name server";

    /// Listens on port 53 of the pod.
    pub fn start(pod: &Pod) -> NameServer {
        let shared = Arc::new(Shared::default());
        let tick = Duration::from_millis(20);
        let socket = pod.inside(|| UdpSocket::bind("0.0.0.0:53")).expect("port 53");
        socket.set_read_timeout(Some(tick)).expect("a socket option");
        let own = shared.clone();
        let datagrams = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !own.ended.load(Ordering::Acquire) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&own.answer(client, &buffer[..length]), client);
                }
            }
        });
        let listener = pod.listen(53);
        listener.set_nonblocking(true).expect("a socket option");
        let own = shared.clone();
        let streams = std::thread::spawn(move || {
            while !own.ended.load(Ordering::Acquire) {
                let Ok((mut stream, client)) = listener.accept() else {
                    std::thread::sleep(tick);
                    continue;
                };
                let _ = stream.set_nonblocking(false);
                if let Ok(query) = read_framed(&mut stream) {
                    let _ = write_framed(&mut stream, &own.answer(client, &query));
                }
            }
        });
        NameServer {
            shared,
            threads: vec![datagrams, streams],
        }
    }

    /// Who asked what, byte for byte but for the id.
    pub fn asked(&self) -> Vec<(IpAddr, Vec<u8>)> {
        self.shared.asked.lock().expect("not poisoned").clone()
    }
}

impl Shared {
    fn answer(&self, client: SocketAddr, query: &[u8]) -> Vec<u8> {
        let behind_id = query.get(2..).unwrap_or_default().to_vec();
        self.asked
            .lock()
            .expect("not poisoned")
            .push((client.ip(), behind_id));
        let mut answer = query.to_vec();
        if let Some(flags) = answer.get_mut(2) {
            *flags |= 0x80;
        }
        answer.extend(NameServer::MARK);
        answer
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn read(answer: &[u8]) -> io::Result<Answer> {
    parse(answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{answer:?}")))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(0)? != ID || word(2)? & 0x8000 == 0 {
        return None;
    }
    let mut addresses = Vec::new();
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(bytes, at)? + 4;
    }
    for _ in 0..word(6)? {
        at = skip_name(bytes, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        match kind {
            A => addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            AAAA => addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
        at += 10 + length;
    }
    addresses.sort();
    Some(Answer {
        code: (word(2)? & 0xf) as u8,
        truncated: word(2)? & 0x0200 != 0,
        addresses,
    })
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
