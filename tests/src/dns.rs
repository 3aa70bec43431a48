use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::place::Place;

/// An answer to a DNS question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code: 0 good, 2 server failure, 3 no such name (RFC 1035 §4.1.1).
    pub code: u8,
    /// The IPv4 addresses in the answer.
    pub addresses: Vec<IpAddr>,
}

/// Asks a DNS server for the IPv4 addresses of a name, over UDP from inside a namespace.
pub fn query(from: &impl Place, server: SocketAddr, name: &str) -> io::Result<Answer> {
    const ID: u16 = 0x5a17;
    let socket = from.inside(|| UdpSocket::bind("0.0.0.0:0"))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut question = Vec::new();
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        question.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send_to(&question, server)?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer)?;
    parse(&answer[..length], ID, question.len())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{:?}", &answer[..length])))
}

fn parse(bytes: &[u8], id: u16, question_length: usize) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(0)? != id || word(2)? & 0x8000 == 0 {
        return None;
    }
    let mut addresses = Vec::new();
    let mut at = question_length;
    for _ in 0..word(6)? {
        at = skip_name(bytes, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        if let (1, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(IpAddr::V4(Ipv4Addr::from(octets)));
        }
        at += 10 + length;
    }
    addresses.sort();
    Some(Answer {
        code: (word(2)? & 0xf) as u8,
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
