//! The bytes of NETLINK_SOCK_DIAG messages (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{SocketInfo, State};
use crate::{
    netlink::{HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, aligned, error_number, u16_at, u32_at},
    socket::normalise,
};

/// Address family to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// `inet_diag_sockid` as the kernel wrote it, with the family it goes with: sent back untouched to name the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    family: u8,
    bytes: [u8; SOCKET_ID],
}

/// One message of an answer.
pub(super) enum Answer {
    Socket(SocketInfo),
    /// The list changed while it was dumped.
    Interrupted,
    Done,
    Error(i32),
}

const SOCKET_ID: usize = 48;
const DIAG_MESSAGE: usize = 72;

const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_MARK: u16 = 15;

/// Every state but TIME-WAIT (6) and CLOSED (7).
const WANTED_STATES: u32 = 0x1ffe & !(1 << State::TimeWait as u32) & !(1 << State::Closed as u32);
const ANY_STATE: u32 = u32::MAX;

pub(super) fn dump_request(family: Family) -> Vec<u8> {
    let family = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    request(
        SOCK_DIAG_BY_FAMILY,
        NLM_F_REQUEST | NLM_F_DUMP,
        WANTED_STATES,
        &SocketId {
            family,
            bytes: [0; SOCKET_ID],
        },
    )
}

pub(super) fn destroy_request(id: &SocketId) -> Vec<u8> {
    request(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, ANY_STATE, id)
}

/// The messages of one datagram from the kernel.
pub(super) fn answers(mut datagram: &[u8]) -> impl Iterator<Item = io::Result<Answer>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let length = u32_at(datagram, 0).map_or(0, |length| length as usize);
        let Some(message) = datagram.get(..length).filter(|message| message.len() >= HEADER) else {
            datagram = &[];
            return Some(Err(malformed("a message longer than its datagram")));
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(answer(message))
    })
    // A dump that was interrupted says so on whatever message comes next, DONE included; the caller must hear of it
    // before DONE ends the reading.
    .flat_map(|parsed| match parsed {
        Ok((true, answer)) => vec![Ok(Answer::Interrupted), Ok(answer)],
        Ok((false, answer)) => vec![Ok(answer)],
        Err(error) => vec![Err(error)],
    })
}

/// Whether the dump was interrupted, and the message itself.
fn answer(message: &[u8]) -> io::Result<(bool, Answer)> {
    let kind = u16_at(message, 4).unwrap_or_default();
    let interrupted = u16_at(message, 6).unwrap_or_default() & NLM_F_DUMP_INTR != 0;
    let payload = &message[HEADER..];
    let answer = match kind {
        NLMSG_DONE => match error_number(payload) {
            None | Some(0) => Answer::Done,
            Some(errno) => Answer::Error(errno),
        },
        NLMSG_ERROR => match error_number(payload) {
            None => return Err(malformed("an error without its number")),
            Some(0) => Answer::Done,
            Some(errno) => Answer::Error(errno),
        },
        SOCK_DIAG_BY_FAMILY => Answer::Socket(socket_info(payload)?),
        _ => return Err(malformed("a message of an unknown type")),
    };
    Ok((interrupted, answer))
}

fn socket_info(payload: &[u8]) -> io::Result<SocketInfo> {
    let header = payload
        .get(..DIAG_MESSAGE)
        .ok_or_else(|| malformed("a short inet_diag_msg"))?;
    let family = header[0];
    let mut bytes = [0; SOCKET_ID];
    bytes.copy_from_slice(&header[4..4 + SOCKET_ID]);
    Ok(SocketInfo {
        local: address(family, &bytes, 0, 4)?,
        remote: address(family, &bytes, 2, 20)?,
        state: state(header[1])?,
        mark: mark(&payload[DIAG_MESSAGE..]),
        inode: u32_at(header, 68).unwrap_or_default(),
        id: SocketId { family, bytes },
    })
}

fn request(kind: u16, flags: u16, states: u32, id: &SocketId) -> Vec<u8> {
    const LENGTH: usize = HEADER + 8 + SOCKET_ID;
    let mut message = Vec::with_capacity(LENGTH);
    message.extend((LENGTH as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and sender: one request at a time on a socket of its own needs neither.
    message.extend([0; 8]);
    // Extensions: none, since the mark comes unasked to those who may see it.
    message.extend([id.family, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.extend(id.bytes);
    message
}

/// The mark among the attributes that follow an `inet_diag_msg`.
fn mark(mut attributes: &[u8]) -> u32 {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        if length < 4 {
            break;
        }
        if kind == INET_DIAG_MARK {
            return u32_at(attributes, 4).unwrap_or_default();
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    0
}

/// Ports and addresses in `inet_diag_sockid` are in network order.
fn address(family: u8, id: &[u8; SOCKET_ID], port: usize, ip: usize) -> io::Result<SocketAddr> {
    let port = u16::from_be_bytes([id[port], id[port + 1]]);
    let mut octets = [0u8; 16];
    octets.copy_from_slice(&id[ip..ip + 16]);
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        libc::AF_INET6 => Ipv6Addr::from(octets).into(),
        _ => return Err(malformed("a socket of an unknown family")),
    };
    Ok(normalise(SocketAddr::new(ip, port)))
}

fn state(number: u8) -> io::Result<State> {
    Ok(match number {
        1 => State::Established,
        2 => State::SynSent,
        3 => State::SynReceived,
        4 => State::FinWait1,
        5 => State::FinWait2,
        6 => State::TimeWait,
        7 => State::Closed,
        8 => State::CloseWait,
        9 => State::LastAck,
        10 => State::Listen,
        11 => State::Closing,
        12 => State::NewSynReceived,
        // Bound but neither listening nor connected; asked for by nobody here.
        _ => return Err(malformed("a socket in an unknown state")),
    })
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("sock_diag: the kernel sent {what}"),
    )
}
