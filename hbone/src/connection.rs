//! What the handles of one connection and whoever drives it share.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::sync::SetOnce;

use crate::ConnectionEnd;

#[derive(Default)]
pub(crate) struct Shared {
    ended: SetOnce<ConnectionEnd>,
    close: OnceLock<Cow<'static, str>>,
    driver: AtomicWaker,
}

impl Shared {
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
