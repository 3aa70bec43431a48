//! One direction of a slow wire, as a pure state machine: time is an argument. Frames leave in the order they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most frames in one direction of a wire, waiting and under way together; with Ethernet's 1500 bytes that is
/// about 25 MB.
pub(super) const FRAMES_MAX: usize = 16_384;
/// How long a frame may wait for its turn, where the rate is bounded: the transmitter's queue, as long as a router's.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(200);

/// How slow a wire is, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slowness {
    /// How long each frame is under way.
    pub(crate) delay: Duration,
    /// Bits per second, not zero; any number when `None`.
    pub(crate) rate: Option<u64>,
}

/// The frames on one direction of a wire.
pub(super) struct Wire {
    slowness: Slowness,
    /// With the time when each arrives, ascending.
    frames: VecDeque<(Instant, Box<[u8]>)>,
    /// When the transmitter has sent all that it was given.
    free_at: Option<Instant>,
    /// When the youngest frame arrives: none overtakes it, also when the wire became faster meanwhile.
    last_arrival: Option<Instant>,
}

impl Wire {
    pub(super) fn new(slowness: Slowness) -> Self {
        Self {
            slowness,
            frames: VecDeque::new(),
            free_at: None,
            last_arrival: None,
        }
    }

    /// Changes how slow the wire is, for frames that come from now on.
    pub(super) fn set(&mut self, slowness: Slowness) {
        self.slowness = slowness;
        self.free_at = None;
    }

    /// Sends a frame. `false`: there was no room, the frame is lost.
    #[must_use]
    pub(super) fn push(&mut self, now: Instant, frame: &[u8]) -> bool {
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        if self.frames.len() >= FRAMES_MAX || start - now > WAIT_MAX {
            return false;
        }
        let sent = start + self.time_to_send(frame.len());
        let arrival = sent + self.slowness.delay;
        let arrival = self.last_arrival.map_or(arrival, |last| arrival.max(last));
        self.free_at = Some(sent);
        self.last_arrival = Some(arrival);
        self.frames.push_back((arrival, frame.into()));
        true
    }

    /// When the next frame arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.frames.front().map(|(arrival, _)| *arrival)
    }

    /// The next frame that has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Box<[u8]>> {
        self.next_arrival().filter(|arrival| *arrival <= now)?;
        self.frames.pop_front().map(|(_, frame)| frame)
    }

    fn time_to_send(&self, bytes: usize) -> Duration {
        let Some(rate) = self.slowness.rate else {
            return Duration::ZERO;
        };
        let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
