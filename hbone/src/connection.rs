//! What the handles of one connection and whoever drives it share.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::sync::SetOnce;

use crate::ConnectionEnd;
use crate::budget::{Account, Queue};
use crate::vitals::Vitals;

pub(crate) struct Shared {
    vitals: Arc<Vitals>,
    account: Option<Account>,
    ended: SetOnce<ConnectionEnd>,
    close: OnceLock<Cow<'static, str>>,
    probe: AtomicBool,
    abandoned: AtomicUsize,
    driver: AtomicWaker,
}

impl Shared {
    pub(crate) fn new(vitals: Arc<Vitals>, account: Option<Account>) -> Self {
        Self {
            vitals,
            account,
            ended: SetOnce::new(),
            close: OnceLock::new(),
            probe: AtomicBool::new(false),
            abandoned: AtomicUsize::new(0),
            driver: AtomicWaker::new(),
        }
    }

    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// A queue for one more stream, where the connection has an account.
    pub(crate) fn queue(&self) -> Option<Arc<Queue>> {
        self.account.clone().map(Queue::new)
    }

    /// The peer has given up a request before its answer.
    pub(crate) fn count_abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests the peer has given up before their answer.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Asks the driver to ping the peer now.
    pub(crate) fn probe(&self) {
        self.probe.store(true, Ordering::Release);
        self.driver.wake();
    }

    /// For the driver: whether somebody has asked for a ping since the last call.
    pub(crate) fn take_probe(&self) -> bool {
        self.probe.swap(false, Ordering::AcqRel)
    }

    /// Asks the driver to end the connection now. The first reason wins.
    pub(crate) fn close(&self, reason: Cow<'static, str>) {
        if self.close.set(reason).is_ok() {
            self.driver.wake();
        }
    }

    /// For the driver: the reason if somebody has asked to end the connection; else it is woken when somebody does.
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Option<Cow<'static, str>> {
        self.driver.register(cx.waker());
        self.close.get().cloned()
    }

    /// The reason given to [`Shared::close`], if it was called.
    pub(crate) fn close_reason(&self) -> Option<Cow<'static, str>> {
        self.close.get().cloned()
    }

    /// Notes why the connection is over, before its streams learn that it is.
    pub(crate) fn end(&self, end: ConnectionEnd) {
        let _ = self.ended.set(end);
    }

    pub(crate) fn ended(&self) -> Option<&ConnectionEnd> {
        self.ended.get()
    }

    pub(crate) async fn wait(&self) -> &ConnectionEnd {
        self.ended.wait().await
    }
}
