//! Where a redirected datagram was going (linux/netfilter/nfnetlink_conntrack.h).
//!
//! SO_ORIGINAL_DST answers for TCP and SCTP alone. For UDP the kernel's connection tracking is asked by the addresses of
//! the answer: from the socket that took the datagram to the one that sent it.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use nix::sys::socket::SockProtocol;

use crate::{
    Namespace,
    netlink::{HEADER, NLM_F_REQUEST, NLMSG_ERROR, NetlinkSocket, aligned, error_number, u16_at, u32_at},
};

/// Asks the connection tracking of one namespace, through one socket that stays open. Needs CAP_NET_ADMIN.
pub struct Conntrack(Mutex<Asking>);

struct Asking {
    socket: NetlinkSocket,
    sequence: u32,
}

impl Conntrack {
    /// Opens the socket.
    pub fn in_namespace(namespace: &Namespace) -> io::Result<Self> {
        let socket = NetlinkSocket::open(namespace, SockProtocol::NetlinkNetFilter)?;
        Ok(Self(Mutex::new(Asking { socket, sequence: 0 })))
    }

    /// The destination that a UDP datagram had before netfilter changed it. `client` sent it, `local` is the address of
    /// the socket that took it; without wildcards and of one family. `None`: the kernel knows of no such exchange.
    /// The kernel answers within the call; nothing is waited for.
    pub fn original_destination(
        &self,
        client: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<Option<SocketAddr>> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asking.sequence = asking.sequence.wrapping_add(1);
        let sequence = asking.sequence;
        asking.socket.send(&request(sequence, client, local)?)?;
        let mut buffer = [0; RECEIVE_BUFFER];
        loop {
            let length = asking.socket.receive(&mut buffer)?;
            match answer(&buffer[..length], sequence)? {
                Answer::Original(original) => return Ok(Some(original)),
                Answer::Error(libc::ENOENT) => return Ok(None),
                Answer::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                // Late, for a question that was given up.
                Answer::Other => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Original(SocketAddr),
    Error(i32),
    Other,
}

/// One entry, with room to spare.
const RECEIVE_BUFFER: usize = 8 * 1024;
/// Bytes of `nfgenmsg`.
const FAMILY_HEADER: usize = 4;

const CTNETLINK: u16 = 1 << 8;
const MESSAGE_NEW: u16 = CTNETLINK;
const MESSAGE_GET: u16 = CTNETLINK | 1;
const NESTED: u16 = 0x8000;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const IP_V6_SOURCE: u16 = 3;
const IP_V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

/// Asks for the exchange in which answers go from `local` to `client`.
fn request(sequence: u32, client: SocketAddr, local: SocketAddr) -> io::Result<Vec<u8>> {
    let (family, addresses) = match (local.ip(), client.ip()) {
        (IpAddr::V4(local), IpAddr::V4(client)) => (
            libc::AF_INET,
            [
                attribute(IP_V4_SOURCE, &local.octets()),
                attribute(IP_V4_DESTINATION, &client.octets()),
            ],
        ),
        (IpAddr::V6(local), IpAddr::V6(client)) => (
            libc::AF_INET6,
            [
                attribute(IP_V6_SOURCE, &local.octets()),
                attribute(IP_V6_DESTINATION, &client.octets()),
            ],
        ),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{client} and {local} are of two families"),
            ));
        }
    };
    let protocol = [
        attribute(PROTOCOL_NUMBER, &[libc::IPPROTO_UDP as u8]),
        attribute(PROTOCOL_SOURCE_PORT, &local.port().to_be_bytes()),
        attribute(PROTOCOL_DESTINATION_PORT, &client.port().to_be_bytes()),
    ];
    let tuple = [
        attribute(TUPLE_IP | NESTED, &addresses.concat()),
        attribute(TUPLE_PROTOCOL | NESTED, &protocol.concat()),
    ];
    let tuple = attribute(TUPLE_REPLY | NESTED, &tuple.concat());
    let length = HEADER + FAMILY_HEADER + tuple.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(MESSAGE_GET.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend([family as u8, 0, 0, 0]);
    message.extend(tuple);
    Ok(message)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(aligned(length));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(length), 0);
    bytes
}

fn answer(message: &[u8], sequence: u32) -> io::Result<Answer> {
    let (Some(kind), Some(answered)) = (u16_at(message, 4), u32_at(message, 8)) else {
        return Err(malformed());
    };
    if answered != sequence {
        return Ok(Answer::Other);
    }
    let payload = message.get(HEADER..).ok_or_else(malformed)?;
    match kind {
        NLMSG_ERROR => error_number(payload).map(Answer::Error).ok_or_else(malformed),
        MESSAGE_NEW => original(payload).map(Answer::Original).ok_or_else(malformed),
        _ => Ok(Answer::Other),
    }
}

fn original(payload: &[u8]) -> Option<SocketAddr> {
    let tuple = find(payload.get(FAMILY_HEADER..)?, TUPLE_ORIGINAL)?;
    let addresses = find(tuple, TUPLE_IP)?;
    let v4 = || -> Option<[u8; 4]> { find(addresses, IP_V4_DESTINATION)?.try_into().ok() };
    let v6 = || -> Option<[u8; 16]> { find(addresses, IP_V6_DESTINATION)?.try_into().ok() };
    let ip = v4().map(IpAddr::from).or_else(|| v6().map(IpAddr::from))?;
    let port = find(find(tuple, TUPLE_PROTOCOL)?, PROTOCOL_DESTINATION_PORT)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
}

/// The value of the first attribute of this kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & !NESTED;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "conntrack: the kernel sent what cannot be read",
    )
}

#[cfg(test)]
mod tests;
