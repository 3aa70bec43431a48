use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};

/// What a packet carries above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with its flags.
    Tcp {
        /// SYN.
        syn: bool,
        /// ACK.
        ack: bool,
        /// FIN.
        fin: bool,
        /// RST.
        rst: bool,
        /// The sequence number.
        sequence: u32,
    },
    /// UDP.
    Udp,
    /// Another protocol, by its number (RFC 5237); ports are 0.
    Other(u8),
}

/// An IP packet that was seen on a wire.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When, since the Unix epoch.
    pub time: Duration,
    /// From where.
    pub src: SocketAddr,
    /// To where.
    pub dst: SocketAddr,
    /// What it carries.
    pub transport: Transport,
    /// The bytes above TCP, UDP or IP.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Whether it is TCP.
    pub fn is_tcp(&self) -> bool {
        matches!(self.transport, Transport::Tcp { .. })
    }

    /// Whether it is the first packet of a TCP connection.
    pub fn opens(&self) -> bool {
        matches!(
            self.transport,
            Transport::Tcp {
                syn: true,
                ack: false,
                ..
            }
        )
    }

    /// Whether it is a TCP reset.
    pub fn resets(&self) -> bool {
        matches!(self.transport, Transport::Tcp { rst: true, .. })
    }

    /// Whether either end has this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.src.port() == port || self.dst.port() == port
    }

    /// Whether either end has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.src.ip() == address || self.dst.ip() == address
    }

    /// Whether the payload holds these bytes.
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty() && self.payload.windows(needle.len()).any(|window| window == needle)
    }
}

/// The IP packets of a capture file (little endian, microseconds or nanoseconds; Ethernet or Linux cooked v2).
/// A last record that is cut short is left out.
pub(crate) fn read(file: &[u8]) -> Vec<Packet> {
    let word = |at: usize| {
        file.get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let nanoseconds = match word(0) {
        Some(0xa1b2_c3d4) => 1000,
        Some(0xa1b2_3c4d) => 1,
        other => panic!("not a capture file: it begins with {other:x?}"),
    };
    let skip = match word(20).map(|link| link & 0xffff) {
        Some(1) => 0,
        // Linux cooked v2: 20 bytes, of which the first two are the EtherType.
        Some(276) => 20,
        other => panic!("a capture of link type {other:?}"),
    };
    let mut packets = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(part), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
        let begin = at + 16;
        at = begin + length as usize;
        let Some(bytes) = file.get(begin..at) else { break };
        let time = Duration::new(seconds.into(), part * nanoseconds);
        packets.extend(parse(bytes, skip, time));
    }
    packets
}

fn parse(bytes: &[u8], skip: usize, time: Duration) -> Option<Packet> {
    let headers = if skip == 0 {
        LaxPacketHeaders::from_ethernet(bytes).ok()?
    } else {
        let kind = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        if kind != 0x0800 && kind != 0x86dd {
            return None;
        }
        LaxPacketHeaders::from_ip(bytes.get(skip..)?).ok()?
    };
    let (src, dst, protocol): (IpAddr, IpAddr, u8) = match headers.net? {
        NetHeaders::Ipv4(header, _) => (header.source.into(), header.destination.into(), header.protocol.0),
        NetHeaders::Ipv6(header, _) => (
            header.source.into(),
            header.destination.into(),
            header.next_header.0,
        ),
        NetHeaders::Arp(_) => return None,
    };
    let (ports, transport) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (
            (tcp.source_port, tcp.destination_port),
            Transport::Tcp {
                syn: tcp.syn,
                ack: tcp.ack,
                fin: tcp.fin,
                rst: tcp.rst,
                sequence: tcp.sequence_number,
            },
        ),
        Some(TransportHeader::Udp(udp)) => ((udp.source_port, udp.destination_port), Transport::Udp),
        _ => ((0, 0), Transport::Other(protocol)),
    };
    Some(Packet {
        time,
        src: SocketAddr::new(src, ports.0),
        dst: SocketAddr::new(dst, ports.1),
        transport,
        payload: headers.payload.slice().to_vec(),
    })
}
