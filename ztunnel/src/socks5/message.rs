//! What a SOCKS client says, and what it is answered (RFC 1928). Pure.
//!
//! Readers are given what has come so far and say how many more bytes surely belong to the message, so that nothing
//! that follows it is ever taken off the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The version spoken.
const VERSION: u8 = 5;
/// The method that asks for no authentication.
const NO_AUTHENTICATION: u8 = 0;
/// The command that opens a connection.
const CONNECT: u8 = 1;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The answer to methods among which is the one without authentication.
pub const ACCEPTED: [u8; 2] = [VERSION, NO_AUTHENTICATION];
/// The answer to methods of which none will do; the client closes then.
pub const NO_ACCEPTABLE_METHOD: [u8; 2] = [VERSION, 0xff];

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// At least so many more bytes belong to it.
    More(usize),
    /// It is whole.
    Done(T),
}

/// Why a message is not one of SOCKS 5.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another version, or no SOCKS at all.
    #[error("the client speaks version {0} of SOCKS, or no SOCKS; version 5 is spoken here")]
    Version(u8),
    /// Not what RFC 1928 allows.
    #[error("the client's SOCKS message is malformed: {0}")]
    Message(&'static str),
}

/// Where a client wants to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A host name in lower case, and a port. A dot at its end says that it is whole.
    Name(String, u16),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A connection.
    Connect(Destination),
    /// Something else than a connection, by its number.
    OtherCommand(u8),
    /// A kind of address that there is not, by its number. What follows it cannot be read.
    OtherAddress(u8),
}

/// What became of a request (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The destination is connected.
    Connected = 0,
    /// None of the others.
    Failed = 1,
    /// Policy forbids it.
    Forbidden = 2,
    /// No route to its network.
    NetworkUnreachable = 3,
    /// It was not found or does not answer.
    HostUnreachable = 4,
    /// It answers that nobody listens.
    Refused = 5,
    /// Only connections are made.
    CommandNotSupported = 7,
    /// No such kind of address.
    AddressNotSupported = 8,
}

/// Reads the client's first message: whether it can do without authentication.
///
/// # Errors
/// When it is none.
pub fn methods(bytes: &[u8]) -> Result<Step<bool>, Malformed> {
    let Some(count) = after_version(bytes, 1)? else {
        return Ok(Step::More(2 - bytes.len()));
    };
    let (count, listed) = (usize::from(count[0]), &bytes[2..]);
    if listed.len() < count {
        return Ok(Step::More(count - listed.len()));
    }
    Ok(Step::Done(listed[..count].contains(&NO_AUTHENTICATION)))
}

/// Reads the client's second message.
///
/// # Errors
/// When it is none.
pub fn request(bytes: &[u8]) -> Result<Step<Request>, Malformed> {
    let Some(head) = after_version(bytes, 3)? else {
        return Ok(Step::More(4 - bytes.len()));
    };
    let (command, reserved, kind) = (head[0], head[1], head[2]);
    if reserved != 0 {
        return Err(Malformed::Message("the reserved byte is not 0"));
    }
    let rest = &bytes[4..];
    let address_length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => match rest.first() {
            None => return Ok(Step::More(1)),
            Some(0) => return Err(Malformed::Message("the host name is empty")),
            Some(length) => 1 + usize::from(*length),
        },
        other => return Ok(Step::Done(Request::OtherAddress(other))),
    };
    let length = address_length + 2;
    if rest.len() < length {
        return Ok(Step::More(length - rest.len()));
    }
    let (address, port) = rest[..length].split_at(address_length);
    let port = u16::from_be_bytes([port[0], port[1]]);
    if command != CONNECT {
        return Ok(Step::Done(Request::OtherCommand(command)));
    }
    if port == 0 {
        return Err(Malformed::Message("port 0 cannot be connected to"));
    }
    let destination = match *address {
        [a, b, c, d] if kind == IPV4 => Destination::Address((Ipv4Addr::new(a, b, c, d), port).into()),
        _ if kind == IPV6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(address);
            let ip = IpAddr::from(Ipv6Addr::from(octets)).to_canonical();
            Destination::Address((ip, port).into())
        }
        _ => named(&address[1..], port)?,
    };
    Ok(Step::Done(Request::Connect(destination)))
}

/// The answer to a request. Where the connection comes from is not told.
pub fn reply(outcome: Outcome) -> [u8; 10] {
    [VERSION, outcome as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// The `length` bytes after the version, once they are there.
fn after_version(bytes: &[u8], length: usize) -> Result<Option<&[u8]>, Malformed> {
    match bytes.first() {
        Some(&VERSION) | None => Ok(bytes.get(1..=length)),
        Some(&other) => Err(Malformed::Version(other)),
    }
}

/// A host name, or an address that was written as one, as some clients do.
fn named(name: &[u8], port: u16) -> Result<Destination, Malformed> {
    let bad = Malformed::Message("the host name is none");
    let text = std::str::from_utf8(name).map_err(|_| bad.clone())?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Destination::Address((ip.to_canonical(), port).into()));
    }
    let text = text.to_ascii_lowercase();
    let labels = text.strip_suffix('.').unwrap_or(&text);
    // What RFC 1035 section 2.3.1 has, and the underscore that services are named with.
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if labels.len() > 253 || !labels.split('.').all(good) {
        return Err(bad);
    }
    Ok(Destination::Name(text, port))
}

#[cfg(test)]
mod tests;
