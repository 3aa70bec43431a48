use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::{Doing, Outcome};
use crate::namespace::Namespace;
use crate::wait::within;

/// Asks for a page on loopback: status and body.
pub(crate) async fn get(place: &Namespace, port: u16, path: &str) -> Outcome<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let exchange = async {
        let mut socket = place.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = within("a page", Duration::from_secs(5), exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").doing("an HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.doing("an HTTP status")?;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok((status, whole(body).doing("chunks to their end")?));
    }
    Ok((status, body.to_owned()))
}

/// A body that came in chunks (RFC 9112 section 7.1).
fn whole(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += rest.get(..size)?;
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}
