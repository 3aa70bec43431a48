use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use crate::{ConnectionEnd, Settings};

/// Pings a peer and notices when it is gone. Part of whatever drives the connection.
///
/// A peer is gone when, for the whole timeout after a ping, neither the pong nor any other byte arrived. Other bytes
/// count since on a slow path a pong may queue behind megabytes of data: such a peer is slow, not gone.
pub(crate) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Keepalive {
    pub(crate) fn new(pings: PingPong, settings: &Settings) -> Self {
        Self {
            pings,
            interval: settings.ping_interval,
            timeout: settings.ping_timeout,
            timer: Box::pin(sleep(settings.ping_interval)),
            waiting: false,
        }
    }

    /// Completes when the peer is gone. `now`: do not wait for the interval with the next ping. `arrived` tells whether
    /// bytes have arrived since it was asked last.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: bool,
        arrived: impl Fn() -> bool,
    ) -> Poll<ConnectionEnd> {
        if now && !self.waiting {
            self.rest(Duration::ZERO);
        }
        loop {
            // An error here means that the connection has ended, which the driver sees by itself.
            if self.waiting && self.pings.poll_pong(cx).is_ready() {
                self.waiting = false;
                self.rest(self.interval);
            }
            ready!(self.timer.as_mut().poll(cx));
            if !self.waiting {
                self.waiting = self.pings.send_ping(Ping::opaque()).is_ok();
                arrived();
                self.rest(if self.waiting { self.timeout } else { self.interval });
            } else if arrived() {
                self.rest(self.timeout);
            } else {
                return Poll::Ready(ConnectionEnd::PingTimeout(self.timeout));
            }
        }
    }

    fn rest(&mut self, duration: Duration) {
        self.timer.as_mut().reset(Instant::now() + duration);
    }
}
