//! One kind followed for ever: the requests that its machine wants, and what they tell.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicResourceScope, ObjectList};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Failure, Sort};
use crate::machine::{Machine, Step};

/// How much longer than it was asked to a server may keep a watch open before it is taken for dead.
const WATCH_GRACE: Duration = Duration::from_secs(10);

/// Who is told.
pub(crate) trait Listener<K>: Send {
    /// The first page of a list came, as this version of the kind.
    fn list_begins(&mut self, version: usize);
    /// An object of a list.
    fn listed(&mut self, object: K);
    /// The list is complete, at this resource version.
    fn list_ends(&mut self, version: &str);
    /// An object is new or has changed.
    fn changed(&mut self, object: K);
    /// An object is gone.
    fn deleted(&mut self, object: K);
    /// Everything up to this resource version was told.
    fn marked(&mut self, version: &str);
    /// A request failed; another follows.
    fn failed(&mut self, failure: &Failure);
}

/// What is followed.
pub(crate) struct Subject {
    pub(crate) client: kube::Client,
    /// How the API names it, the preferred version first; at least one.
    pub(crate) versions: Vec<ApiResource>,
    /// A field selector; none: all.
    pub(crate) fields: Option<String>,
    /// Only what is in this namespace; none: in all.
    pub(crate) namespace: Option<String>,
    /// Changes when there is reason to look again for a kind that is not there.
    pub(crate) wake: watch::Receiver<u64>,
}

/// Follows a kind until the future is dropped.
pub(crate) async fn follow<K, L>(mut subject: Subject, mut listener: L)
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
    L: Listener<K>,
{
    let mut machine = Machine::new();
    let mut version = 0;
    loop {
        match machine.step(now(), rand::random()) {
            Step::Wait(until) => {
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    Ok(()) = subject.wake.changed() => machine.wake(),
                }
            }
            Step::List { token, limit } => {
                let result = list::<K>(&mut subject, &mut version, token.clone(), limit).await;
                match result.and_then(|list| check(list, &subject.versions)) {
                    Ok(list) => {
                        if token.is_none() {
                            listener.list_begins(version);
                        }
                        list.items.into_iter().for_each(|item| listener.listed(item));
                        let at = list.metadata.resource_version.unwrap_or_default();
                        let more = list.metadata.continue_.filter(|token| !token.is_empty());
                        if machine.listed(at.clone(), more) {
                            listener.list_ends(&at);
                        }
                    }
                    Err(failure) => {
                        listener.failed(&failure);
                        machine.failed(&failure, now(), rand::random());
                    }
                }
            }
            Step::Check => match list::<K>(&mut subject, &mut version, None, 1).await {
                Ok(list) => machine.checked(&list.metadata.resource_version.unwrap_or_default()),
                Err(failure) => {
                    listener.failed(&failure);
                    machine.failed(&failure, now(), rand::random());
                }
            },
            Step::Watch { version: at, seconds } => {
                let api: Api<K> = subject.api(version);
                let parameters = WatchParams {
                    field_selector: subject.fields.clone(),
                    timeout: Some(seconds),
                    ..WatchParams::default()
                };
                let result = match api.watch(&parameters, &at).await {
                    Ok(events) => listen(events, seconds, &mut machine, &mut listener).await,
                    Err(error) => Err(Failure::of(&error)),
                };
                match result {
                    Ok(()) => machine.ended(now()),
                    Err(failure) => {
                        listener.failed(&failure);
                        machine.failed(&failure, now(), rand::random());
                    }
                }
            }
        }
    }
}

impl Subject {
    fn api<K>(&self, version: usize) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let (client, resource) = (self.client.clone(), &self.versions[version]);
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        }
    }
}

/// One page. A kind that the server does not have may be there in an older version.
async fn list<K>(
    subject: &mut Subject,
    version: &mut usize,
    token: Option<String>,
    limit: u32,
) -> Result<ObjectList<K>, Failure>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    // What is known of the definitions up to here is not reason to look again after this.
    subject.wake.mark_unchanged();
    let parameters = ListParams {
        field_selector: subject.fields.clone(),
        limit: Some(limit),
        continue_token: token.clone(),
        ..ListParams::default()
    };
    let mut tries = if token.is_none() {
        subject.versions.len()
    } else {
        1
    };
    loop {
        let answer = subject.api(*version).list(&parameters).await;
        let failure = match answer {
            Ok(list) => return Ok(list),
            Err(error) => Failure::of(&error),
        };
        tries -= 1;
        if failure.sort != Sort::Absent || tries == 0 {
            return Err(failure);
        }
        *version = (*version + 1) % subject.versions.len();
    }
}

/// A list that nothing could be watched from is none.
fn check<K: Clone>(list: ObjectList<K>, versions: &[ApiResource]) -> Result<ObjectList<K>, Failure> {
    let no_text = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if no_text(&list.metadata.resource_version) && no_text(&list.metadata.continue_) {
        let plural = versions.first().map_or("", |resource| resource.plural.as_str());
        let problem = format!("the list of {plural} has no resourceVersion to watch from");
        return Err(Failure::new(Sort::Unreadable, problem));
    }
    Ok(list)
}

/// Takes in the events of a watch until it ends.
async fn listen<K, L>(
    events: impl TryStreamExt<Ok = WatchEvent<K>, Error = kube::Error> + Send,
    seconds: u32,
    machine: &mut Machine,
    listener: &mut L,
) -> Result<(), Failure>
where
    K: Resource<DynamicType = ApiResource>,
    L: Listener<K>,
{
    let mut events = std::pin::pin!(events.into_stream());
    let end = Instant::now() + Duration::from_secs(seconds.into()) + WATCH_GRACE;
    loop {
        let event = match tokio::time::timeout_at(end, events.next()).await {
            // The server is gone without a word.
            Err(_) | Ok(None) => return Ok(()),
            Ok(Some(event)) => event.map_err(|error| Failure::of(&error))?,
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let version = version_of(&object)?;
                listener.changed(object);
                machine.told(&version);
            }
            WatchEvent::Deleted(object) => {
                let version = version_of(&object)?;
                listener.deleted(object);
                machine.told(&version);
            }
            WatchEvent::Bookmark(bookmark) => {
                if !machine.marked(&bookmark.metadata.resource_version) {
                    let problem = "the server is behind what it told before: its history is another";
                    return Err(Failure::new(Sort::Expired, problem));
                }
                listener.marked(&bookmark.metadata.resource_version);
            }
            WatchEvent::Error(status) => {
                let mut failure = Failure::of_status(&status);
                // Inside a watch an error means that an event could not be sent.
                if failure.sort == Sort::Error {
                    failure.sort = Sort::Unreadable;
                }
                return Err(failure);
            }
        }
    }
}

fn version_of<K: Resource>(object: &K) -> Result<String, Failure> {
    let version = object.meta().resource_version.clone();
    version
        .filter(|version| !version.is_empty())
        .ok_or_else(|| Failure::new(Sort::Unreadable, "an event has no resourceVersion"))
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
