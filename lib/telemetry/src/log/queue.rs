//! The queue between those who log and the one thread that writes.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait to be written. Those beyond it are dropped.
pub const MAX_QUEUED_LINES: usize = 10_000;

/// How many bytes of lines may wait to be written. Lines beyond it are dropped.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;

/// The longest line in bytes. Longer ones are cut.
pub const MAX_LINE: usize = 160 << 10;

/// How long the end of the process waits for a slow reader of the log.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How many lines had to be dropped. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct DroppedLines(Arc<AtomicU64>);

impl DroppedLines {
    /// The number so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before has to be written when this is answered.
    Flush(SyncSender<()>),
}

/// The end that lines go in. Never blocks.
#[derive(Clone)]
pub(crate) struct Queue {
    sender: SyncSender<Entry>,
    bytes: Arc<AtomicUsize>,
    dropped: DroppedLines,
}

impl Queue {
    /// Starts the thread that writes to `output`.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
        let (sender, receiver) = sync_channel(MAX_QUEUED_LINES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let dropped = DroppedLines::default();
        let writer = Writer {
            receiver,
            bytes: bytes.clone(),
            dropped: dropped.clone(),
        };
        // It ends when the last queue and the guard are gone. Nobody joins it: a reader that never reads would
        // keep the process from ending.
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(output))?;
        let guard = LogGuard {
            sender: sender.clone(),
            dropped: dropped.clone(),
        };
        Ok((
            Self {
                sender,
                bytes,
                dropped,
            },
            guard,
        ))
    }

    pub(crate) fn push(&self, line: &[u8]) {
        let line = shorten(line);
        let length = line.len();
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > MAX_QUEUED_BYTES
            || self.sender.try_send(Entry::Line(line)).is_err()
        {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.dropped.add(1);
        }
    }
}

/// A line within [`MAX_LINE`], with its line end.
fn shorten(line: &[u8]) -> Vec<u8> {
    if line.len() <= MAX_LINE {
        return line.to_vec();
    }
    let mut short = line[..MAX_LINE - 1].to_vec();
    short.push(b'\n');
    short
}

/// Each event is written by one call, which becomes one entry.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = &'q Self;

    fn make_writer(&'q self) -> Self::Writer {
        self
    }
}

struct Writer {
    receiver: Receiver<Entry>,
    bytes: Arc<AtomicUsize>,
    dropped: DroppedLines,
}

impl Writer {
    fn run(self, output: impl Write) {
        let mut output = BufWriter::with_capacity(64 << 10, output);
        while let Ok(mut entry) = self.receiver.recv() {
            // As long as there is more, lines share a system call.
            loop {
                self.take(entry, &mut output);
                match self.receiver.try_recv() {
                    Ok(next) => entry = next,
                    Err(_) => break,
                }
            }
            if output.flush().is_err() {
                self.dropped.add(1);
            }
        }
    }

    fn take(&self, entry: Entry, output: &mut impl Write) {
        match entry {
            Entry::Line(line) => {
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                if output.write_all(&line).is_err() {
                    self.dropped.add(1);
                }
            }
            Entry::Flush(done) => {
                if output.flush().is_err() {
                    self.dropped.add(1);
                }
                // Whoever asked may have given up waiting.
                let _ = done.try_send(());
            }
        }
    }
}

/// Keeps the log: dropping it writes what is queued, for two seconds at most.
pub struct LogGuard {
    sender: SyncSender<Entry>,
    dropped: DroppedLines,
}

impl LogGuard {
    /// How many lines had to be dropped.
    pub fn dropped(&self) -> DroppedLines {
        self.dropped.clone()
    }

    /// Waits until everything logged before is written, for two seconds at most. Says whether it is.
    pub fn flush(&self) -> bool {
        let until = Instant::now() + FLUSH_DEADLINE;
        let (done, is_done) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.sender.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(again)) if Instant::now() < until => {
                    entry = again;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return false,
            }
        }
        is_done
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .is_ok()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard")
            .field("dropped", &self.dropped.count())
            .finish_non_exhaustive()
    }
}
