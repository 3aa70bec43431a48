//! What was asked, for tests that want to know how a client works.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::http::request::Parts;
use tokio::sync::watch;

/// How many requests are remembered.
pub const MAX_RECORDS: usize = 10_000;

/// One answered request; a watch is answered when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// The client's name.
    pub user_agent: String,
    /// The status code.
    pub code: u16,
}

/// The last requests.
pub(crate) struct Records {
    list: Mutex<VecDeque<Record>>,
    count: watch::Sender<u64>,
}

impl Records {
    pub(crate) fn new() -> Records {
        Records {
            list: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    pub(crate) fn add(&self, parts: &Parts, code: u16) {
        let agent = parts
            .headers
            .get(hyper::header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        let record = Record {
            method: parts.method.to_string(),
            uri: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            user_agent: agent.unwrap_or_default().to_owned(),
            code,
        };
        tracing::debug!(method = record.method, uri = record.uri, code, "answered");
        let mut list = self.lock();
        if list.len() == MAX_RECORDS {
            list.pop_front();
        }
        list.push_back(record);
        drop(list);
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn list(&self) -> Vec<Record> {
        self.lock().iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    pub(crate) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
