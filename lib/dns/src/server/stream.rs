//! One client's TCP connection.
//!
//! Queries may follow each other without waiting (RFC 7766 §6.2.1.1), and answers come as they are ready. What is
//! forwarded goes over one connection to the client's server, ids and all, so that answers of many messages (zone
//! transfers) and sessions pass unchanged.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::{QueryInfo, Shared, prefer, server_failure};
use crate::answer::{Forward, answer};
use crate::forward::ANSWER_DEADLINE;
use crate::framing::{MessageReader, write_message};
use crate::message::Raw;
use crate::{Reply, Transport};

/// How long a TCP connection may be silent while no answer is due.
pub const TCP_IDLE_DEADLINE: Duration = Duration::from_secs(5);

/// How many forwarded queries of one connection wait for their answers; after that, no more are read.
pub const MAX_PIPELINED: usize = 16;

/// Record types whose answers may be several messages (RFC 5936 §2.2, RFC 1995 §4).
const TRANSFERS: [u16; 2] = [251, 252];
/// The operation of stateful sessions, in which servers speak unasked (RFC 8490 §5.1).
const STATEFUL: u8 = 6;

/// Answers until the client is done or silent.
pub(super) async fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let asked = shared.forwarder.upstream.asked_by_stream(&stream);
    let (read, write) = stream.into_split();
    let progress = Progress::default();
    let (answers, to_client) = mpsc::channel(MAX_PIPELINED);
    let (queries, to_server) = mpsc::channel(MAX_PIPELINED);
    let relay = Relay {
        shared,
        asked,
        progress: &progress,
        answers: answers.clone(),
        waiting: Vec::new(),
        server: None,
    };
    tokio::try_join!(
        read_queries(shared, MessageReader::new(read), &progress, answers, queries),
        relay.run(to_server),
        write_answers(write, &progress, to_client),
    )?;
    Ok(())
}

/// What the reader has to know of the others, to tell a silent client from one that waits.
#[derive(Default)]
struct Progress {
    forwarded: AtomicUsize,
    written: AtomicUsize,
}

/// A query on its way to the server.
struct Query {
    bytes: Vec<u8>,
    info: QueryInfo,
    forward: Forward,
}

async fn read_queries(
    shared: &Shared,
    mut client: MessageReader<OwnedReadHalf>,
    progress: &Progress,
    answers: mpsc::Sender<Vec<u8>>,
    queries: mpsc::Sender<Query>,
) -> io::Result<()> {
    loop {
        let written = progress.written.load(Ordering::Relaxed);
        let bytes = match timeout(TCP_IDLE_DEADLINE, client.next()).await {
            Ok(message) => match message? {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
            Err(_) => {
                let idle = progress.forwarded.load(Ordering::Relaxed) == 0
                    && progress.written.load(Ordering::Relaxed) == written;
                if idle {
                    return Ok(());
                }
                continue;
            }
        };
        let info = shared.observe(&bytes, Transport::Tcp);
        match answer(&bytes, &*shared.resolver, Transport::Tcp) {
            // On a stream there is no way back from what is not understood.
            Reply::Refuse => return Err(io::Error::new(io::ErrorKind::InvalidData, "no DNS query")),
            Reply::Answer(bytes) => answers.send(bytes).await.map_err(ended)?,
            Reply::Forward(forward) => {
                progress.forwarded.fetch_add(1, Ordering::Relaxed);
                let query = Query { bytes, info, forward };
                queries.send(query).await.map_err(ended)?;
            }
        }
    }
}

async fn write_answers(
    mut client: OwnedWriteHalf,
    progress: &Progress,
    mut answers: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(bytes) = answers.recv().await {
        timeout(TCP_IDLE_DEADLINE, write_message(&mut client, &bytes)).await??;
        progress.written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The way of forwarded queries to the server, and of its answers back.
struct Relay<'s> {
    shared: &'s Shared,
    asked: Option<SocketAddr>,
    progress: &'s Progress,
    answers: mpsc::Sender<Vec<u8>>,
    waiting: Vec<Waiting>,
    server: Option<(MessageReader<OwnedReadHalf>, OwnedWriteHalf)>,
}

/// A query that the server has.
struct Waiting {
    id: [u8; 2],
    info: QueryInfo,
    began: Instant,
    /// When it is given up; it moves on with every message of a transfer.
    deadline: Instant,
    transfer: bool,
    answered: bool,
    exists: Option<Vec<u8>>,
    failure: Vec<u8>,
}

impl Relay<'_> {
    async fn run(mut self, mut queries: mpsc::Receiver<Query>) -> io::Result<()> {
        let mut more = true;
        while more || !self.waiting.is_empty() {
            let first = self.waiting.iter().map(|query| query.deadline).min();
            tokio::select! {
                query = queries.recv(), if more && self.waiting.len() < MAX_PIPELINED => match query {
                    Some(query) => self.take(query).await?,
                    None => more = false,
                },
                message = next(&mut self.server) => match message {
                    Ok(Some(bytes)) => self.answered(bytes).await?,
                    Ok(None) | Err(_) => {
                        self.server = None;
                        self.give_up(|_| true).await?;
                    }
                },
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                    let now = Instant::now();
                    self.give_up(|query| query.deadline <= now).await?;
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, query: Query) -> io::Result<()> {
        let settled = self
            .shared
            .settle(&query.bytes, query.forward, Transport::Tcp)
            .await;
        let forward = match settled {
            Reply::Forward(forward) => forward,
            Reply::Answer(bytes) => return self.send(bytes).await,
            Reply::Refuse => return Err(io::Error::new(io::ErrorKind::InvalidData, "no DNS query")),
        };
        self.shared.observer.upstream_request(query.info);
        let Some(raw) = Raw::new(&query.bytes) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no DNS query"));
        };
        let now = Instant::now();
        self.waiting.push(Waiting {
            id: raw.id(),
            info: query.info,
            began: now,
            deadline: now + ANSWER_DEADLINE,
            transfer: raw.question_type().is_some_and(|kind| TRANSFERS.contains(&kind)),
            answered: false,
            exists: forward.exists,
            failure: server_failure(&query.bytes),
        });
        if let Err(error) = self.pass_on(&query.bytes).await {
            tracing::debug!(%error, "a DNS query cannot be forwarded");
            self.server = None;
            self.give_up(|_| true).await?;
        }
        Ok(())
    }

    async fn pass_on(&mut self, query: &[u8]) -> io::Result<()> {
        let (_, write) = match &mut self.server {
            Some(server) => server,
            None => {
                let stream = self.shared.forwarder.connect(self.asked).await;
                let (read, write) = stream.map_err(io::Error::other)?.into_split();
                self.server.insert((MessageReader::new(read), write))
            }
        };
        timeout(ANSWER_DEADLINE, write_message(write, query)).await?
    }

    async fn answered(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let Some(raw) = Raw::new(&bytes) else {
            return Ok(());
        };
        let found = self.waiting.iter_mut().position(|query| query.id == raw.id());
        let Some(at) = found else {
            // Too late, or unasked.
            return match raw.operation() {
                STATEFUL => self.answers.send(bytes).await.map_err(ended),
                _ => Ok(()),
            };
        };
        let query = &mut self.waiting[at];
        if !query.answered {
            query.answered = true;
            let after = query.began.elapsed();
            self.shared.observer.upstream_answered(query.info, after);
        }
        query.deadline = Instant::now() + ANSWER_DEADLINE;
        if query.transfer && raw.response_code() == 0 {
            return self.answers.send(bytes).await.map_err(ended);
        }
        let exists = self.waiting.swap_remove(at).exists;
        self.send(prefer(exists, bytes)).await
    }

    /// Says to the client that no answer will come to these queries.
    async fn give_up(&mut self, which: impl Fn(&Waiting) -> bool) -> io::Result<()> {
        let (given_up, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|query| which(query));
        self.waiting = kept;
        for query in given_up {
            if query.answered {
                // The end of a transfer, as far as can be seen without reading it.
                self.progress.forwarded.fetch_sub(1, Ordering::Relaxed);
            } else {
                self.shared.observer.upstream_failure(query.info);
                self.send(query.failure).await?;
            }
        }
        Ok(())
    }

    /// The last message to a query.
    async fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.progress.forwarded.fetch_sub(1, Ordering::Relaxed);
        self.answers.send(bytes).await.map_err(ended)
    }
}

/// The server's next message; never, where there is no server.
async fn next(
    server: &mut Option<(MessageReader<OwnedReadHalf>, OwnedWriteHalf)>,
) -> io::Result<Option<Vec<u8>>> {
    match server {
        Some((read, _)) => read.next().await,
        None => std::future::pending().await,
    }
}

/// The writer is gone, and with it the client.
fn ended<T>(_: mpsc::error::SendError<T>) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
