//! What a capture tells of TLS: streams put together from packets, and the records in them (RFC 8446).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::pcap::{Packet, Transport};

/// A TCP connection whose beginning was captured.
#[derive(Debug)]
pub struct Conversation {
    /// Who opened it.
    pub client: SocketAddr,
    /// Whom.
    pub server: SocketAddr,
    /// All bytes from the client.
    pub from_client: Vec<u8>,
    /// All bytes from the server.
    pub from_server: Vec<u8>,
}

/// What the two hellos of a handshake say.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The versions that the client offers.
    pub offered_versions: Vec<u16>,
    /// The version that the server has chosen.
    pub version: u16,
    /// The cipher suite that the server has chosen.
    pub suite: u16,
    /// The key exchange that the server has chosen.
    pub group: u16,
    /// Whether the client names a server in the clear.
    pub server_name: bool,
}

/// The connections in a capture that begin in it. Panics when bytes in their middle are missing.
pub fn conversations(packets: &[Packet]) -> Vec<Conversation> {
    let mut all = Vec::new();
    for (at, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.opens()) {
        // A repeated SYN is no second connection, and a port that is used again begins with another number.
        let same = |other: &&Packet| other.opens() && (other.src, other.dst) == (packet.src, packet.dst);
        let repeats = packets[..at]
            .iter()
            .filter(same)
            .any(|earlier| sequence(earlier) == sequence(packet));
        if repeats {
            continue;
        }
        let until = packets[at + 1..]
            .iter()
            .position(|later| same(&later) && sequence(later) != sequence(packet))
            .map_or(packets.len(), |distance| at + 1 + distance);
        let part = &packets[at..until];
        all.push(Conversation {
            client: packet.src,
            server: packet.dst,
            from_client: direction(part, packet.src, packet.dst),
            from_server: direction(part, packet.dst, packet.src),
        });
    }
    all
}

impl Conversation {
    /// Panics unless all of it is TLS 1.3: two hellos in the clear, then nothing but encrypted records. `None` when it
    /// was cut off before there were any of those.
    #[track_caller]
    pub fn expect_tls13(&self) -> Option<Handshake> {
        let name = format!("{} to {}", self.client, self.server);
        let (from_client, from_server) = (
            records(&self.from_client, &name),
            records(&self.from_server, &name),
        );
        for records in [&from_client, &from_server] {
            for (position, (kind, _)) in records.iter().enumerate() {
                let good = match position {
                    0 => *kind == HANDSHAKE,
                    1 => matches!(*kind, CHANGE_CIPHER_SPEC | APPLICATION_DATA),
                    _ => *kind == APPLICATION_DATA,
                };
                assert!(good, "{name}: record {position} is of type {kind}");
            }
        }
        if from_client.len() < 2 || from_server.len() < 2 {
            return None;
        }
        let client = hello(from_client[0].1, 1);
        let server = hello(from_server[0].1, 2);
        let offered = client.extension(SUPPORTED_VERSIONS).expect("versions");
        Some(Handshake {
            offered_versions: offered[1..].chunks(2).map(number).collect(),
            version: number(server.extension(SUPPORTED_VERSIONS).expect("a version")),
            suite: server.suite,
            group: number(&server.extension(KEY_SHARE).expect("a key")[..2]),
            server_name: client.extension(SERVER_NAME).is_some(),
        })
    }
}

/// Without meaning, for old middle boxes (RFC 8446 §D.4).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

struct Hello<'a> {
    /// The chosen suite; of a client's hello, nothing.
    suite: u16,
    extensions: Vec<(u16, &'a [u8])>,
}

impl Hello<'_> {
    fn extension(&self, kind: u16) -> Option<&[u8]> {
        self.extensions
            .iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, body)| *body)
    }
}

/// A ClientHello (1) or ServerHello (2), RFC 8446 §4.1.
#[track_caller]
fn hello(body: &[u8], kind: u8) -> Hello<'_> {
    assert_eq!(body.first(), Some(&kind), "the kind of hello");
    let mut rest = &body[4 + 2 + 32..];
    take(&mut rest, 1);
    let suite = if kind == 1 {
        take(&mut rest, 2);
        take(&mut rest, 1);
        0
    } else {
        let suite = number(&rest[..2]);
        rest = &rest[3..];
        suite
    };
    let (mut list, mut extensions) = (take(&mut rest, 2), Vec::new());
    while list.len() >= 4 {
        let kind = number(&list[..2]);
        list = &list[2..];
        extensions.push((kind, take(&mut list, 2)));
    }
    Hello { suite, extensions }
}

/// A vector with a length of that many bytes before it.
fn take<'a>(rest: &mut &'a [u8], width: usize) -> &'a [u8] {
    let length = rest[..width]
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (body, after) = rest[width..].split_at(length);
    *rest = after;
    body
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The records of a stream with their types. One that is cut short at the end still counts.
#[track_caller]
fn records<'a>(mut bytes: &'a [u8], name: &str) -> Vec<(u8, &'a [u8])> {
    let mut records = Vec::new();
    while bytes.len() >= 5 {
        let length = usize::from(number(&bytes[3..5]));
        assert!(
            bytes[1] == 3 && length <= 16384 + 256,
            "{name}: no TLS record: {:x?}",
            &bytes[..5]
        );
        let end = bytes.len().min(5 + length);
        records.push((bytes[0], &bytes[5..end]));
        bytes = &bytes[end..];
    }
    records
}

/// The bytes of one direction, in order.
fn direction(packets: &[Packet], src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    let own = || {
        packets
            .iter()
            .filter(|packet| (packet.src, packet.dst) == (src, dst))
    };
    let begins = |packet: &&Packet| matches!(packet.transport, Transport::Tcp { syn: true, .. });
    let Some(first) = own().find(begins).and_then(sequence) else {
        return Vec::new();
    };
    let mut parts: BTreeMap<u32, &[u8]> = BTreeMap::new();
    for packet in own().filter(|packet| !packet.payload.is_empty()) {
        let offset = sequence(packet).unwrap_or(0).wrapping_sub(first.wrapping_add(1));
        // The longest of those that begin here.
        let part = parts.entry(offset).or_default();
        if packet.payload.len() > part.len() {
            *part = &packet.payload;
        }
    }
    let mut bytes = Vec::new();
    for (offset, part) in parts {
        let known = bytes.len().checked_sub(offset as usize);
        let known = known.unwrap_or_else(|| panic!("{src} to {dst}: bytes are missing before {offset}"));
        bytes.extend(part.get(known..).unwrap_or_default());
    }
    bytes
}

fn sequence(packet: &Packet) -> Option<u32> {
    match packet.transport {
        Transport::Tcp { sequence, .. } => Some(sequence),
        _ => None,
    }
}
