use std::io::{self, Read, Write};
use std::net::SocketAddr;

use crate::place::Place;

/// The most that is read of an answer.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// One GET over a connection of its own, from inside a namespace. HTTP/1.0, so that the end of the body is the end of
/// the connection.
pub fn http_get(from: &impl Place, address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = from.connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(broken)?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}
