use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How to hold a connection.
#[derive(Clone, Debug)]
pub struct HoldOptions {
    /// `host:port` of an echo server.
    pub address: String,
    /// A line is sent this often.
    pub interval: Duration,
    /// Give up holding after so long, and say that it was still open.
    pub at_most: Duration,
    /// After so many lines, end it ourselves.
    pub lines: Option<u64>,
    /// End it with RST in place of FIN.
    pub reset: bool,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldEnd {
    /// The other side closed (FIN) while we held.
    Fin,
    /// The other side reset (RST).
    Reset,
    /// Nothing came back any more and the kernel gave up.
    Timeout,
    /// It was still open when the time was over.
    StillOpen,
    /// We closed it after our lines, and the other side closed too.
    ClosedByUs,
    /// We reset it after our lines.
    ResetByUs,
    /// Another error.
    Other,
}

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct HoldReport {
    /// How it ended.
    pub ended: HoldEnd,
    /// Milliseconds from the established connection to its end.
    pub after_ms: u64,
    /// Lines sent.
    pub lines_sent: u64,
    /// Lines that came back.
    pub lines_echoed: u64,
    /// The error's text, if there was one.
    pub error: Option<String>,
}

/// Opens a connection, calls `connected`, and sends a line every interval until the connection ends.
pub async fn hold(options: &HoldOptions, connected: impl FnOnce(&TcpStream)) -> io::Result<HoldReport> {
    let connection = TcpStream::connect(&options.address).await?;
    connection.set_nodelay(true)?;
    connected(&connection);
    let begun = Instant::now();
    let mut lines = Lines { sent: 0, echoed: 0 };
    let outcome = tokio::time::timeout(options.at_most, lines.exchange(connection, options)).await;
    let (ended, error) = match outcome {
        Ok(Ok(ended)) => (ended, None),
        Ok(Err(error)) => (end_of(&error), Some(error.to_string())),
        Err(_) => (HoldEnd::StillOpen, None),
    };
    Ok(HoldReport {
        ended,
        after_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        lines_sent: lines.sent,
        lines_echoed: lines.echoed,
        error,
    })
}

struct Lines {
    sent: u64,
    echoed: u64,
}

impl Lines {
    async fn exchange(&mut self, mut connection: TcpStream, options: &HoldOptions) -> io::Result<HoldEnd> {
        let mut tick = tokio::time::interval(options.interval.max(Duration::from_millis(1)));
        let mut buffer = [0; 4096];
        let mut sending = true;
        loop {
            tokio::select! {
                count = connection.read(&mut buffer) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(if sending { HoldEnd::Fin } else { HoldEnd::ClosedByUs });
                    }
                    self.echoed += buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                _ = tick.tick(), if sending => {
                    if options.lines == Some(self.sent) {
                        if options.reset {
                            socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
                            return Ok(HoldEnd::ResetByUs);
                        }
                        connection.shutdown().await?;
                        sending = false;
                        continue;
                    }
                    connection.write_all(format!("line {}\n", self.sent).as_bytes()).await?;
                    self.sent += 1;
                }
            }
        }
    }
}

fn end_of(error: &io::Error) -> HoldEnd {
    match error.kind() {
        // EPIPE: the reset was seen by an earlier call.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            HoldEnd::Reset
        }
        io::ErrorKind::TimedOut => HoldEnd::Timeout,
        _ => HoldEnd::Other,
    }
}
