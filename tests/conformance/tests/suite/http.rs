//! Just enough HTTP/1.1 for bodies that are sent back.

use std::io;

use conformance::{Doing, Outcome, ensure, pattern};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const CHUNK: usize = 64 * 1024;

/// Answers every request of a connection with its own body; the answer's header `saw` names who marked the request.
pub(crate) async fn serve_back(socket: TcpStream) -> io::Result<()> {
    let (from, mut to) = tokio::io::split(socket);
    let mut from = BufReader::with_capacity(CHUNK, from);
    while let Some(head) = head(&mut from).await? {
        let length = length(&head);
        let saw = if head.contains("via-envoy: yes") {
            "envoy"
        } else {
            "nobody"
        };
        let answer = format!("HTTP/1.1 200 OK\r\nsaw: {saw}\r\ncontent-length: {length}\r\n\r\n");
        to.write_all(answer.as_bytes()).await?;
        tokio::io::copy(&mut (&mut from).take(length), &mut to).await?;
        to.flush().await?;
    }
    Ok(())
}

/// Sends a body of the pattern, expects it back whole, and that Envoy has marked the request on its way.
pub(crate) async fn post(socket: TcpStream, seed: u64, size: usize) -> Outcome {
    let (from, mut to) = tokio::io::split(socket);
    let mut from = BufReader::with_capacity(CHUNK, from);
    let sending = tokio::spawn(async move {
        let request = format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {size}\r\n\r\n");
        to.write_all(request.as_bytes()).await?;
        let mut chunk = vec![0; CHUNK];
        let mut sent = 0;
        while sent < size {
            let length = CHUNK.min(size - sent);
            pattern(seed, sent, &mut chunk[..length]);
            to.write_all(&chunk[..length]).await?;
            sent += length;
        }
        // Its end would be the end of the connection.
        io::Result::Ok(to)
    });
    let head = head(&mut from).await?.doing("an answer")?;
    ensure!(head.starts_with("http/1.1 200"), "the answer is {head:?}");
    ensure!(
        head.contains("saw: envoy"),
        "the request has not come through Envoy: {head:?}"
    );
    let mut received = 0;
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    while received < size {
        let limit = CHUNK.min(size - received);
        let length = from.read(&mut chunk[..limit]).await?;
        ensure!(length > 0, "{received} bytes came back of {size}");
        pattern(seed, received, &mut expected[..length]);
        ensure!(
            chunk[..length] == expected[..length],
            "bytes differ after {received} (seed {seed})"
        );
        received += length;
    }
    sending.await??;
    Ok(())
}

/// The lines before a body, lower case; nothing at the end of the connection.
async fn head(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if from.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
        if head[before..].trim().is_empty() {
            return Ok(Some(head.to_lowercase()));
        }
    }
}

fn length(head: &str) -> u64 {
    let lengths = head
        .lines()
        .filter_map(|line| line.strip_prefix("content-length:"));
    lengths
        .filter_map(|length| length.trim().parse().ok())
        .next()
        .unwrap_or(0)
}
