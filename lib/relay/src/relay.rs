use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use crate::{Chunks, Counters, End, Ended, Fault, MAX_CHUNK_BYTES, Read, Reason, Side};

/// Moves bytes both ways until both directions have closed or one side fails.
///
/// Dropping the future resets both sides: a stream that was cut short must never look complete.
pub fn relay<A: End, B: End>(a: A, b: B, counters: &Counters) -> impl Future<Output = Ended> {
    relay_until(a, b, counters, pending())
}

/// Like [`relay`], and resets both sides as soon as `cancel` completes (policy change, revocation, shutdown).
pub fn relay_until<A: End, B: End>(
    a: A,
    b: B,
    counters: &Counters,
    cancel: impl Future<Output = ()>,
) -> impl Future<Output = Ended> {
    // Made here and not in the future's first turn, so that dropping it unpolled resets the ends as well.
    let pair = Pair::new(a, b);
    run(pair, counters, cancel)
}

async fn run<A: End, B: End>(
    mut pair: Pair<A, B>,
    counters: &Counters,
    cancel: impl Future<Output = ()>,
) -> Ended {
    let mut cancel = pin!(cancel);
    let (a_to_b, b_to_a) = counters.cells();
    let reason = poll_fn(|cx| {
        if cancel.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Reason::Cancelled);
        }
        pair.poll(cx, a_to_b, b_to_a)
    })
    .await;
    if matches!(reason, Reason::Closed) {
        pair.closed = true;
    }
    drop(pair);
    Ended {
        reason,
        a_to_b: counters.a_to_b(),
        b_to_a: counters.b_to_a(),
    }
}

/// Turns that one direction may take before the other one, and other tasks, get theirs.
const TURNS: usize = 16;

struct Pair<A: End, B: End> {
    a: A,
    b: B,
    forth: Direction,
    back: Direction,
    closed: bool,
}

impl<A: End, B: End> Pair<A, B> {
    fn new(a: A, b: B) -> Self {
        Self {
            a,
            b,
            forth: Direction::default(),
            back: Direction::default(),
            closed: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, a_to_b: &AtomicU64, b_to_a: &AtomicU64) -> Poll<Reason> {
        if let Poll::Ready(Err(broken)) = self.forth.poll(cx, &mut self.a, &mut self.b, a_to_b) {
            return Poll::Ready(broken.reason(Side::A, Side::B));
        }
        if let Poll::Ready(Err(broken)) = self.back.poll(cx, &mut self.b, &mut self.a, b_to_a) {
            return Poll::Ready(broken.reason(Side::B, Side::A));
        }
        if self.forth.state == State::Closed && self.back.state == State::Closed {
            return Poll::Ready(Reason::Closed);
        }
        // An end from which bytes are awaited reports its faults by itself; the other one is asked.
        if self.forth.state != State::AwaitsBytes
            && let Poll::Ready(fault) = self.a.poll_fault(cx)
        {
            return Poll::Ready(reason(Side::A, fault));
        }
        if self.back.state != State::AwaitsBytes
            && let Poll::Ready(fault) = self.b.poll_fault(cx)
        {
            return Poll::Ready(reason(Side::B, fault));
        }
        Poll::Pending
    }
}

impl<A: End, B: End> Drop for Pair<A, B> {
    fn drop(&mut self) {
        if !self.closed {
            self.a.reset();
            self.b.reset();
        }
    }
}

/// One way of a relay.
#[derive(Default)]
struct Direction {
    state: State,
    /// Read and not yet taken by the sink: empty, or what one read has brought.
    chunks: Chunks,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    #[default]
    AwaitsBytes,
    /// The source has something; the sink has no room yet.
    AwaitsRoom,
    /// The source has ended; the sink is still to be told.
    Finishing,
    /// The sink knows that nothing follows.
    Closed,
}

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl End,
        sink: &mut impl End,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURNS {
            if self.state == State::Closed {
                return Poll::Ready(Ok(()));
            }
            if !self.chunks.is_empty() {
                self.state = State::AwaitsRoom;
                let taken = ready!(sink.poll_write(cx, &mut self.chunks)).map_err(Broken::Sink)?;
                count.fetch_add(taken as u64, Ordering::Relaxed);
                source.delivered(taken);
                continue;
            }
            if self.state == State::Finishing {
                ready!(sink.poll_finish(cx)).map_err(Broken::Sink)?;
                self.state = State::Closed;
                continue;
            }
            self.state = State::AwaitsBytes;
            ready!(source.poll_readable(cx)).map_err(Broken::Source)?;
            self.state = State::AwaitsRoom;
            let room = ready!(sink.poll_writable(cx)).map_err(Broken::Sink)?;
            self.state = State::AwaitsBytes;
            let read = source.poll_read(cx, room.min(MAX_CHUNK_BYTES), &mut self.chunks);
            if !matches!(read, Poll::Ready(Ok(Read::Bytes))) {
                sink.release_room();
            }
            if ready!(read).map_err(Broken::Source)? == Read::End {
                self.state = State::Finishing;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Which end of a direction has failed.
enum Broken {
    Source(Fault),
    Sink(Fault),
}

impl Broken {
    fn reason(self, source: Side, sink: Side) -> Reason {
        match self {
            Self::Source(fault) => reason(source, fault),
            Self::Sink(fault) => reason(sink, fault),
        }
    }
}

fn reason(side: Side, fault: Fault) -> Reason {
    match fault {
        Fault::Reset(_) => Reason::ResetBy(side, fault),
        Fault::Lost(_) => Reason::Failed(side, fault),
    }
}

#[cfg(test)]
mod tests;
