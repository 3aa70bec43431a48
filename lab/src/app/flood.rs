use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{FailureKind, connect_failure};

const QUESTION: &[u8] = b"ping\n";

/// How to flood.
#[derive(Clone, Debug)]
pub struct FloodOptions {
    /// `host:port` of an echo server.
    pub address: String,
    /// How long.
    pub duration: Duration,
    /// Connections at once.
    pub concurrency: u32,
    /// How long one connection may take.
    pub timeout: Duration,
}

/// What became of the connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FloodReport {
    /// Connections tried.
    pub attempts: u64,
    /// Established and answered.
    pub answered: u64,
    /// Refused while connecting.
    pub refused: u64,
    /// Reset after they were established.
    pub reset: u64,
    /// Closed without an answer.
    pub closed: u64,
    /// Neither answered nor closed in time.
    pub timeout: u64,
    /// Anything else, such as no route.
    pub other: u64,
    /// When the first answered connection was begun; Unix time in seconds.
    pub first_answered_at: Option<f64>,
    /// When the last answered connection was begun; Unix time in seconds.
    pub last_answered_at: Option<f64>,
}

/// Opens connection after connection until the time is over; each asks once and is closed.
pub async fn flood(options: &FloodOptions) -> FloodReport {
    let end = Instant::now() + options.duration;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..options.concurrency.max(1) {
        let options = options.clone();
        tasks.spawn(async move {
            let mut report = FloodReport::default();
            while Instant::now() < end {
                report.count(&options).await;
            }
            report
        });
    }
    let mut total = FloodReport::default();
    while let Some(Ok(report)) = tasks.join_next().await {
        total.add(&report);
    }
    total
}

impl FloodReport {
    async fn count(&mut self, options: &FloodOptions) {
        self.attempts += 1;
        let begun = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let counter = match tokio::time::timeout(options.timeout, ask(&options.address)).await {
            Ok(Ok(())) => {
                self.first_answered_at.get_or_insert(begun);
                self.last_answered_at = Some(begun);
                &mut self.answered
            }
            Err(_) | Ok(Err(FailureKind::Timeout)) => &mut self.timeout,
            Ok(Err(FailureKind::Refused)) => &mut self.refused,
            Ok(Err(FailureKind::Reset)) => &mut self.reset,
            Ok(Err(FailureKind::Empty)) => &mut self.closed,
            Ok(Err(_)) => &mut self.other,
        };
        *counter += 1;
    }

    fn add(&mut self, other: &FloodReport) {
        self.attempts += other.attempts;
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.closed += other.closed;
        self.timeout += other.timeout;
        self.other += other.other;
        let pick = |a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        self.first_answered_at = pick(self.first_answered_at, other.first_answered_at, f64::min);
        self.last_answered_at = pick(self.last_answered_at, other.last_answered_at, f64::max);
    }
}

async fn ask(address: &str) -> Result<(), FailureKind> {
    let mut connection = TcpStream::connect(address)
        .await
        .map_err(|error| connect_failure(&error).0)?;
    let reset = |_| FailureKind::Reset;
    connection.write_all(QUESTION).await.map_err(reset)?;
    let mut answer = [0; QUESTION.len()];
    match connection.read_exact(&mut answer).await {
        Ok(_) if answer == QUESTION => Ok(()),
        Ok(_) => Err(FailureKind::Other),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(FailureKind::Empty),
        Err(_) => Err(FailureKind::Reset),
    }
}
