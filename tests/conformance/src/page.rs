use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::{Doing, Outcome};
use crate::namespace::Namespace;
use crate::wait::within;

/// Asks for a page on loopback: status and body.
pub(crate) async fn get(place: &Namespace, port: u16, path: &str) -> Outcome<(u16, String)> {
    // 1.0: the end of the body is the end of the connection, whatever its size.
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\nconnection: close\r\n\r\n");
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
    Ok((status.doing("an HTTP status")?, body.to_owned()))
}
