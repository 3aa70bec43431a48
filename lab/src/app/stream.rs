use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::pattern::Pattern;

const CHUNK: usize = 64 * 1024;

/// What to send.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// `host:port` of an echo server.
    pub address: String,
    /// Bytes in total, shared out over the connections.
    pub bytes: u64,
    /// Connections at once.
    pub connections: u32,
    /// Chooses the bytes.
    pub seed: u64,
    /// All must be done by then.
    pub timeout: Duration,
}

/// What came back.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Connections opened.
    pub connections: u32,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes that came back and were the right ones.
    pub verified: u64,
    /// How long it took.
    pub seconds: f64,
    /// Chooses the bytes.
    pub seed: u64,
    /// What went wrong, one line for a connection; empty when every byte was right and every connection ended clean
    /// (our FIN answered by theirs, nothing behind the last byte).
    pub errors: Vec<String>,
}

/// Sends pseudo-random bytes over several connections at once, ends each with a half-close, and compares every byte of
/// the echo.
pub async fn stream(options: &StreamOptions) -> StreamReport {
    let begun = Instant::now();
    let connections = options.connections.max(1);
    let share = options.bytes / u64::from(connections);
    let rest = options.bytes % u64::from(connections);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..connections {
        let bytes = share + u64::from(u64::from(index) < rest);
        let (address, seed, timeout) = (options.address.clone(), options.seed, options.timeout);
        tasks.spawn(async move {
            let outcome = tokio::time::timeout(timeout, one(&address, bytes, seed, u64::from(index))).await;
            match outcome {
                Ok(result) => (index, result),
                Err(_) => (index, Err((0, format!("not done within {timeout:?}")))),
            }
        });
    }
    let mut report = StreamReport {
        connections,
        sent: options.bytes,
        verified: 0,
        seconds: 0.0,
        seed: options.seed,
        errors: Vec::new(),
    };
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((_, Ok(verified))) => report.verified += verified,
            Ok((index, Err((verified, text)))) => {
                report.verified += verified;
                report.errors.push(format!("connection {index}: {text}"));
            }
            Err(panic) => report.errors.push(panic.to_string()),
        }
    }
    report.errors.sort();
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

/// One connection: the bytes verified, or those verified before it went wrong and what went wrong.
async fn one(address: &str, bytes: u64, seed: u64, index: u64) -> Result<u64, (u64, String)> {
    let connection = TcpStream::connect(address)
        .await
        .map_err(|error| (0, format!("connecting: {error}")))?;
    let _ = connection.set_nodelay(true);
    let (reader, writer) = connection.into_split();
    let sender = tokio::spawn(send(writer, bytes, Pattern::new(seed, index)));
    let verified = verify(reader, bytes, Pattern::new(seed, index)).await;
    match (verified, sender.await) {
        (Ok(()), Ok(Ok(_writer))) => Ok(bytes),
        (Ok(()), Ok(Err(error))) => Err((bytes, format!("sending: {error}"))),
        (Err((verified, text)), Ok(Err(error))) => Err((verified, format!("{text}; sending: {error}"))),
        (Err(wrong), _) => Err(wrong),
        (Ok(()), Err(panic)) => Err((bytes, panic.to_string())),
    }
}

/// Sends and half-closes. Gives the writer back: dropping it early would not harm, but keeping it makes the order plain.
async fn send(mut writer: OwnedWriteHalf, bytes: u64, mut pattern: Pattern) -> io::Result<OwnedWriteHalf> {
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK as u64) as usize;
        pattern.fill(&mut chunk[..now]);
        writer.write_all(&chunk[..now]).await?;
        left -= now as u64;
    }
    writer.shutdown().await?;
    Ok(writer)
}

async fn verify(mut reader: OwnedReadHalf, bytes: u64, mut pattern: Pattern) -> Result<(), (u64, String)> {
    let mut got = vec![0; CHUNK];
    let mut expected = vec![0; CHUNK];
    let mut verified: u64 = 0;
    loop {
        let count = match reader.read(&mut got).await {
            Ok(0) if verified == bytes => return Ok(()),
            Ok(0) => return Err((verified, format!("closed after {verified} of {bytes} bytes"))),
            Ok(count) => count,
            Err(error) => {
                return Err((
                    verified,
                    format!("receiving after {verified} of {bytes} bytes: {error}"),
                ));
            }
        };
        if verified + count as u64 > bytes {
            return Err((verified, format!("{count} bytes more came back than were sent")));
        }
        pattern.fill(&mut expected[..count]);
        if let Some(at) = (0..count).find(|at| got[*at] != expected[*at]) {
            let position = verified + at as u64;
            return Err((
                position,
                format!("byte {position} is {:#04x}, not {:#04x}", got[at], expected[at]),
            ));
        }
        verified += count as u64;
    }
}
