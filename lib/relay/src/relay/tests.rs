//! The turns of a relay, with ends that follow a script.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use bytes::Bytes;

use super::*;

/// What an end was told to do, and what it has seen.
#[derive(Default)]
struct Script {
    /// What reading finds, in order; then nothing.
    incoming: VecDeque<Incoming>,
    /// Bytes that may be written, and how many at a time.
    room: usize,
    fault: Option<Fault>,
    reads: usize,
    delivered: usize,
    written: Vec<u8>,
    finished: bool,
    reset: bool,
}

enum Incoming {
    Bytes(&'static [u8]),
    End,
    Fault(Fault),
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn with(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl End for Scripted {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.0.lock().unwrap().incoming.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        limit: usize,
        into: &mut Chunks,
    ) -> Poll<Result<Read, Fault>> {
        assert!(limit > 0);
        let mut script = self.0.lock().unwrap();
        script.reads += 1;
        match script.incoming.pop_front() {
            Some(Incoming::Bytes(bytes)) => {
                let (now, later) = bytes.split_at(limit.min(bytes.len()));
                into.push(Bytes::from_static(now));
                if !later.is_empty() {
                    script.incoming.push_front(Incoming::Bytes(later));
                }
                Poll::Ready(Ok(Read::Bytes))
            }
            Some(Incoming::End) => Poll::Ready(Ok(Read::End)),
            Some(Incoming::Fault(fault)) => Poll::Ready(Err(fault)),
            None => Poll::Pending,
        }
    }

    fn delivered(&mut self, bytes: usize) {
        self.0.lock().unwrap().delivered += bytes;
    }

    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        match self.0.lock().unwrap().room {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(room)),
        }
    }

    fn release_room(&mut self) {}

    fn poll_write(&mut self, _: &mut Context<'_>, from: &mut Chunks) -> Poll<Result<usize, Fault>> {
        let mut script = self.0.lock().unwrap();
        let Some(chunk) = (script.room > 0).then(|| from.take(script.room)).flatten() else {
            return Poll::Pending;
        };
        script.room -= chunk.len();
        script.written.extend_from_slice(&chunk);
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.0.lock().unwrap().finished = true;
        Poll::Ready(Ok(()))
    }

    fn poll_fault(&mut self, _: &mut Context<'_>) -> Poll<Fault> {
        self.0
            .lock()
            .unwrap()
            .fault
            .take()
            .map_or(Poll::Pending, Poll::Ready)
    }

    fn reset(&mut self) {
        self.0.lock().unwrap().reset = true;
    }
}

fn poll(future: std::pin::Pin<&mut impl Future<Output = Ended>>) -> Poll<Ended> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn peer_reset() -> Fault {
    Fault::Reset("test".into())
}

#[test]
fn nothing_is_read_before_the_other_side_has_room() {
    let (a, b) = (Scripted::default(), Scripted::default());
    a.with(|a| a.incoming.push_back(Incoming::Bytes(b"hello world")));
    let counters = Counters::new();
    let mut running = pin!(relay(a.clone(), b.clone(), &counters));

    assert!(poll(running.as_mut()).is_pending());
    a.with(|a| assert_eq!((a.reads, a.delivered), (0, 0)));

    b.with(|b| b.room = 5);
    assert!(poll(running.as_mut()).is_pending());
    b.with(|b| assert_eq!(b.written, b"hello"));
    a.with(|a| assert_eq!((a.reads, a.delivered), (1, 5)));
    assert_eq!(counters.a_to_b(), 5, "readable while the relay runs");

    b.with(|b| b.room = 100);
    assert!(poll(running.as_mut()).is_pending());
    b.with(|b| assert_eq!(b.written, b"hello world"));
}

#[test]
fn each_direction_closes_on_its_own() {
    let (a, b) = (Scripted::default(), Scripted::default());
    for end in [&a, &b] {
        end.with(|end| end.room = 1000);
    }
    a.with(|a| a.incoming.extend([Incoming::Bytes(b"question"), Incoming::End]));
    let counters = Counters::new();
    let mut running = pin!(relay(a.clone(), b.clone(), &counters));
    assert!(poll(running.as_mut()).is_pending());
    b.with(|b| assert!(b.finished && b.written == b"question"));
    a.with(|a| assert!(!a.finished));

    b.with(|b| {
        b.incoming
            .extend([Incoming::Bytes(b"late answer"), Incoming::End])
    });
    let Poll::Ready(ended) = poll(running.as_mut()) else {
        panic!("both directions are closed")
    };
    assert!(matches!(ended.reason, Reason::Closed));
    assert_eq!((ended.a_to_b, ended.b_to_a), (8, 11));
    a.with(|a| assert!(a.finished && !a.reset && a.written == b"late answer"));
    b.with(|b| assert!(!b.reset));
}

#[test]
fn a_reset_resets_both_and_names_who_did_it() {
    for (by_a, lost) in [(true, false), (false, false), (true, true)] {
        let (a, b) = (Scripted::default(), Scripted::default());
        let fault = if lost {
            Fault::Lost(io::ErrorKind::TimedOut.into())
        } else {
            peer_reset()
        };
        (if by_a { &a } else { &b }).with(|end| end.incoming.push_back(Incoming::Fault(fault)));
        for end in [&a, &b] {
            end.with(|end| end.room = 1);
        }
        let counters = Counters::new();
        let Poll::Ready(ended) = poll(pin!(relay(a.clone(), b.clone(), &counters))) else {
            panic!()
        };
        match (by_a, lost, ended.reason) {
            (true, false, Reason::ResetBy(Side::A, _))
            | (false, false, Reason::ResetBy(Side::B, _))
            | (true, true, Reason::Failed(Side::A, _)) => {}
            (_, _, other) => panic!("unexpected: {other}"),
        }
        a.with(|a| assert!(a.reset && !a.finished));
        b.with(|b| assert!(b.reset && !b.finished));
    }
}

#[test]
fn a_reset_is_seen_while_nothing_is_read_from_that_side() {
    // A has sent everything and B is silent: only the watch for faults can tell.
    let (a, b) = (Scripted::default(), Scripted::default());
    a.with(|a| a.incoming.push_back(Incoming::End));
    b.with(|b| b.room = 1);
    let counters = Counters::new();
    let mut running = pin!(relay(a.clone(), b.clone(), &counters));
    assert!(poll(running.as_mut()).is_pending());
    a.with(|a| a.fault = Some(peer_reset()));
    let Poll::Ready(ended) = poll(running.as_mut()) else {
        panic!("the fault was not seen")
    };
    assert!(matches!(ended.reason, Reason::ResetBy(Side::A, _)));
    b.with(|b| assert!(b.reset));

    // A waits for room at B.
    let (a, b) = (Scripted::default(), Scripted::default());
    a.with(|a| {
        a.incoming.push_back(Incoming::Bytes(b"stuck"));
        a.fault = Some(peer_reset());
    });
    let Poll::Ready(ended) = poll(pin!(relay(a, b, &counters))) else {
        panic!("the fault was not seen")
    };
    assert!(matches!(ended.reason, Reason::ResetBy(Side::A, _)));
}

#[test]
fn the_owner_can_end_it_and_dropping_it_resets_both() {
    let (a, b) = (Scripted::default(), Scripted::default());
    let counters = Counters::new();
    let Poll::Ready(ended) = poll(pin!(relay_until(
        a.clone(),
        b.clone(),
        &counters,
        std::future::ready(())
    ))) else {
        panic!("cancelled")
    };
    assert!(matches!(ended.reason, Reason::Cancelled));
    a.with(|a| assert!(a.reset));

    let (a, b) = (Scripted::default(), Scripted::default());
    drop(relay(a.clone(), b.clone(), &counters));
    a.with(|a| assert!(std::mem::take(&mut a.reset)));
    b.with(|b| assert!(std::mem::take(&mut b.reset)));
    {
        let mut running = Box::pin(relay(a.clone(), b.clone(), &counters));
        assert!(poll(running.as_mut()).is_pending());
    }
    a.with(|a| assert!(a.reset));
    b.with(|b| assert!(b.reset));
}

#[test]
fn one_busy_direction_gives_way_to_the_other() {
    let (a, b) = (Scripted::default(), Scripted::default());
    a.with(|a| a.incoming.extend((0..1000).map(|_| Incoming::Bytes(b"x"))));
    b.with(|b| {
        b.room = 1_000_000;
        b.incoming.push_back(Incoming::Bytes(b"y"));
    });
    a.with(|a| a.room = 10);
    let counters = Counters::new();
    let mut running = pin!(relay(a.clone(), b.clone(), &counters));
    assert!(poll(running.as_mut()).is_pending());
    assert!(counters.a_to_b() < 100);
    assert_eq!(counters.b_to_a(), 1);
}
