//! Following changes (Kubernetes documentation, "Efficient detection of changes").

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{Api, Body, Call, stream};
use crate::faults::Signals;
use crate::kinds::Resource;
use crate::render::Renderer;
use crate::request::Form;
use crate::selector::Filter;
use crate::status::StatusError;
use crate::store::{Event, PageRequest, Stored, at_revision};

/// How many changes are read from the history at once.
const BATCH: usize = 256;
/// How many lines wait for a client that reads slowly. More stay in the history; who falls out of it gets 410.
const LINES_AHEAD: usize = 64;

impl Call<'_> {
    pub(crate) fn watch(&self) -> Result<Response<Body>, StatusError> {
        let filter = self.filter()?;
        let revision = self.query.revision()?;
        let initial = self.initial(revision)?;
        let Ok(permit) = self.api.watchers.clone().try_acquire_owned() else {
            return Err(StatusError::too_many_requests(1));
        };
        let default_timeout = 1800 + u64::from(rand::random::<u16>()) % 1800;
        let timeout = Duration::from_secs(self.query.timeout_seconds.unwrap_or(default_timeout));
        let (lines, receiver) = mpsc::channel(LINES_AHEAD);
        let watcher = Watcher {
            api: self.api.clone(),
            resource: self.resource.clone(),
            version: self.version.clone(),
            form: self.form,
            include_object: self.query.include_object.clone(),
            namespace: self.namespace.clone(),
            filter,
            bookmarks: self.query.allow_watch_bookmarks,
            lines,
            cursor: revision.unwrap_or_default(),
            told: 0,
            first: true,
        };
        tokio::spawn(async move {
            // Whatever ends a watch has been said to the client, if it still listens.
            let _ = watcher.run(initial, Instant::now() + timeout).await;
            drop(permit);
        });
        Ok(stream(ReceiverStream::new(receiver)))
    }

    /// How the watch begins.
    fn initial(&self, revision: Option<u64>) -> Result<Initial, StatusError> {
        let forbidden = |why: &str| {
            let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
            Err(StatusError::new(422, "Invalid", message))
        };
        let match_rule = self.query.resource_version_match.as_str();
        match (self.query.send_initial_events, revision) {
            (None, _) if !match_rule.is_empty() => forbidden(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (Some(_), _) if match_rule != "NotOlderThan" => forbidden(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (Some(true), _) => Ok(Initial::StateThenBookmark),
            (Some(false), None | Some(0)) => Ok(Initial::Nothing { from_now: true }),
            (None, None | Some(0)) => Ok(Initial::State),
            (_, Some(_)) => Ok(Initial::Nothing { from_now: false }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    /// Every object as ADDED.
    State,
    /// The same, and a bookmark that says so.
    StateThenBookmark,
    /// Only changes: those from now on, or after the given revision.
    Nothing { from_now: bool },
}

/// Why a watch ended.
enum End {
    /// The client is gone.
    Gone,
    /// It was told an error, or its time is over.
    Said,
}

impl<T> From<mpsc::error::SendError<T>> for End {
    fn from(_: mpsc::error::SendError<T>) -> End {
        End::Gone
    }
}

struct Watcher {
    api: Arc<Api>,
    resource: Arc<Resource>,
    version: String,
    form: Form,
    include_object: String,
    namespace: Option<String>,
    filter: Filter,
    bookmarks: bool,
    lines: mpsc::Sender<Result<Bytes, io::Error>>,
    /// Everything up to this revision was told.
    cursor: u64,
    /// The client knows this revision by what it was sent.
    told: u64,
    /// Whether no table was sent yet.
    first: bool,
}

impl Watcher {
    async fn run(mut self, initial: Initial, deadline: Instant) -> Result<(), End> {
        let mut tail = self.api.store.tail();
        let mut signals = self.api.faults.signals();
        let mut known = *signals.borrow_and_update();
        self.begin(initial).await?;
        let mut bookmark = tokio::time::interval_at(
            Instant::now() + self.api.bookmark_interval,
            self.api.bookmark_interval,
        );
        loop {
            self.deliver(known.frozen).await?;
            if self.cursor > self.told && self.bookmarks && self.api.prompt_bookmarks {
                self.bookmark(false).await?;
            }
            if !self.api.registry.served().holds(&self.resource) {
                return Err(End::Said);
            }
            tokio::select! {
                changed = tail.changed() => changed.map_err(|_| End::Said)?,
                changed = signals.changed() => {
                    changed.map_err(|_| End::Said)?;
                    let now = *signals.borrow_and_update();
                    self.suffer(known, now).await?;
                    known = now;
                }
                _ = bookmark.tick(), if self.bookmarks => self.bookmark(false).await?,
                () = tokio::time::sleep_until(deadline) => {
                    if self.bookmarks {
                        self.bookmark(false).await?;
                    }
                    return Err(End::Said);
                }
                () = self.lines.closed() => return Err(End::Gone),
            }
        }
    }

    async fn begin(&mut self, initial: Initial) -> Result<(), End> {
        let frozen = self.api.faults.frozen();
        match initial {
            Initial::Nothing { from_now: true } => {
                self.cursor = frozen.unwrap_or_else(|| self.api.store.revision());
                Ok(())
            }
            Initial::Nothing { from_now: false } => Ok(()),
            Initial::State | Initial::StateThenBookmark => {
                let id = self.resource.id();
                let request = PageRequest {
                    resource: &id,
                    namespace: self.namespace.as_deref(),
                    at: frozen,
                    after: None,
                    limit: None,
                };
                let page = match self
                    .api
                    .store
                    .page(&request, |object| self.filter.matches(object))
                {
                    Ok(page) => page,
                    Err(compacted) => return self.expire(compacted.oldest).await,
                };
                self.cursor = page.revision;
                for object in page.items {
                    self.send("ADDED", &object).await?;
                }
                if initial == Initial::StateThenBookmark {
                    self.bookmark(true).await?;
                }
                Ok(())
            }
        }
    }

    /// Tells every change after the cursor that may be told.
    async fn deliver(&mut self, frozen: Option<u64>) -> Result<(), End> {
        loop {
            let events = match self.api.store.events_after(self.cursor, BATCH) {
                Ok(events) => events,
                Err(compacted) => return self.expire(compacted.oldest).await,
            };
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                if frozen.is_some_and(|frozen| event.revision > frozen) {
                    return Ok(());
                }
                self.cursor = event.revision;
                self.tell(&event).await?;
            }
        }
    }

    /// One change, as it looks through the selectors.
    async fn tell(&mut self, event: &Event) -> Result<(), End> {
        let inside = event.key.resource == self.resource.id()
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| event.key.namespace == namespace);
        if !inside {
            return Ok(());
        }
        let seen = |object: &Option<Arc<Stored>>| {
            object
                .clone()
                .filter(|object| self.filter.matches(object.value()))
        };
        let (word, object) = match (seen(&event.before), seen(&event.after)) {
            (None, None) => return Ok(()),
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", at_revision(&before, event.revision)),
        };
        if self.api.faults.swallows(&event.key.resource) {
            return Ok(());
        }
        self.told = event.revision;
        self.send(word, &object).await
    }

    async fn suffer(&mut self, before: Signals, now: Signals) -> Result<(), End> {
        if now.cuts != before.cuts {
            let broken = io::Error::new(io::ErrorKind::ConnectionReset, "the watch was cut");
            self.lines.send(Err(broken)).await?;
            return Err(End::Said);
        }
        if now.replays != before.replays {
            self.cursor = self.cursor.min(now.replays.1);
        }
        Ok(())
    }

    async fn send(&mut self, word: &str, object: &Stored) -> Result<(), End> {
        let renderer = Renderer {
            resource: &self.resource,
            version: &self.version,
            form: self.form,
            include_object: &self.include_object,
            now: time::OffsetDateTime::now_utc(),
        };
        let text = renderer.watched(object, self.first);
        self.first = false;
        self.line(word, &text).await
    }

    async fn bookmark(&mut self, initial_events_end: bool) -> Result<(), End> {
        self.told = self.cursor;
        let mut metadata =
            json!({ "resourceVersion": self.cursor.to_string(), "creationTimestamp": Value::Null });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(&self.version),
            "metadata": metadata,
        });
        self.line("BOOKMARK", object.to_string().as_bytes()).await
    }

    async fn expire(&mut self, oldest: u64) -> Result<(), End> {
        let error = StatusError::expired(format!("too old resource version: {} ({oldest})", self.cursor));
        self.line("ERROR", error.to_value().to_string().as_bytes())
            .await?;
        Err(End::Said)
    }

    async fn line(&mut self, word: &str, object: &[u8]) -> Result<(), End> {
        let mut text = Vec::with_capacity(object.len() + 48);
        text.extend_from_slice(b"{\"type\":\"");
        text.extend_from_slice(word.as_bytes());
        text.extend_from_slice(b"\",\"object\":");
        text.extend_from_slice(object);
        text.extend_from_slice(b"}\n");
        self.lines.send(Ok(Bytes::from(text))).await?;
        Ok(())
    }
}
