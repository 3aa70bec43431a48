//! Getting one object, and listing many.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::api::{Body, Call, json};
use crate::selector::Filter;
use crate::status::StatusError;
use crate::store::{Key, PageRequest};

/// How long a list waits for a revision that the client has seen and this server has not.
const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

impl Call<'_> {
    pub(crate) fn key(&self, name: &str) -> Key {
        Key::new(
            &self.resource.id(),
            self.namespace.as_deref().unwrap_or_default(),
            name,
        )
    }

    pub(crate) fn filter(&self) -> Result<Filter, StatusError> {
        let filter = Filter::parse(
            &self.query.label_selector,
            &self.query.field_selector,
            &self.resource,
        )?;
        Ok(match &self.name {
            Some(name) => filter.named(name),
            None => filter,
        })
    }

    pub(crate) fn get(&self) -> Result<Response<Body>, StatusError> {
        let name = self.name.as_deref().unwrap_or_default();
        let revision = self.query.revision()?;
        let object = match (self.api.faults.frozen(), revision) {
            // Any age will do: the frozen one is shown.
            (Some(frozen), Some(0)) => {
                let id = self.resource.id();
                let page = self.api.store.page(
                    &PageRequest {
                        resource: &id,
                        namespace: self.namespace.as_deref(),
                        at: Some(frozen),
                        after: None,
                        limit: None,
                    },
                    |object| object["metadata"]["name"] == name,
                );
                page.ok().and_then(|page| page.items.into_iter().next())
            }
            _ => self.api.store.get(&self.key(name)),
        };
        let object = object.ok_or_else(|| self.not_found(name))?;
        Ok(json(StatusCode::OK, self.renderer().object(&object)))
    }

    pub(crate) async fn list(&self) -> Result<Response<Body>, StatusError> {
        let filter = self.filter()?;
        let plan = self.plan()?;
        if let At::NotOlderThan(wanted) = plan.at {
            self.wait_for(wanted).await?;
        }
        let frozen = self.api.faults.frozen();
        let at = match plan.at {
            At::Now => None,
            At::Any | At::NotOlderThan(_) => frozen,
            At::Exactly(revision) => Some(revision),
        };
        if let Some(revision) = at
            && revision > self.api.store.revision()
        {
            return Err(StatusError::too_large_resource_version(
                revision,
                self.api.store.revision(),
            ));
        }
        let id = self.resource.id();
        let request = PageRequest {
            resource: &id,
            namespace: self.namespace.as_deref(),
            at,
            after: plan.after.as_ref(),
            limit: plan.limit,
        };
        let page = self
            .api
            .store
            .page(&request, |object| filter.matches(object))
            .map_err(|compacted| too_old(&plan, at.unwrap_or_default(), compacted.oldest))?;
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(page.revision.to_string()));
        if let Some((namespace, name)) = page.next {
            metadata.insert(
                "continue".to_owned(),
                json!(token(page.revision, &namespace, &name)),
            );
            if filter.is_empty() {
                metadata.insert("remainingItemCount".to_owned(), json!(page.remaining));
            }
        }
        let items: Vec<Arc<_>> = page.items;
        Ok(json(StatusCode::OK, self.renderer().list(&items, metadata)))
    }

    /// What `resourceVersion`, `resourceVersionMatch`, `limit` and `continue` mean together (Kubernetes
    /// documentation, "Resource versions").
    fn plan(&self) -> Result<Plan, StatusError> {
        let query = &self.query;
        let revision = query.revision()?;
        if query.send_initial_events.is_some() {
            return Err(StatusError::new(
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        let match_rule = query.resource_version_match.as_str();
        if !matches!(match_rule, "" | "Exact" | "NotOlderThan") {
            return Err(StatusError::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {match_rule:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            )));
        }
        if !query.continue_token.is_empty() {
            if !match_rule.is_empty() {
                return Err(StatusError::bad_request(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if revision.is_some_and(|revision| revision != 0) {
                return Err(StatusError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let (revision, after) = read_token(&query.continue_token)
                .ok_or_else(|| StatusError::bad_request("continue key is not valid"))?;
            return Ok(Plan {
                // A token that was given out with a 410: goes on in the present.
                at: if revision == 0 {
                    At::Now
                } else {
                    At::Exactly(revision)
                },
                after: Some(after),
                limit: query.limit,
            });
        }
        let at = match (revision, match_rule) {
            (None, "") => At::Now,
            (None, _) => {
                return Err(StatusError::bad_request(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (Some(0), "Exact") => {
                return Err(StatusError::bad_request(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (Some(0), _) => At::Any,
            (Some(revision), "Exact") => At::Exactly(revision),
            // A limit without a rule means exactly, for history's sake.
            (Some(revision), "") if query.limit.is_some() => At::Exactly(revision),
            (Some(revision), _) => At::NotOlderThan(revision),
        };
        Ok(Plan {
            // A list of any age comes from the cache, which gives all at once.
            limit: query.limit.filter(|_| !matches!(at, At::Any)),
            at,
            after: None,
        })
    }

    async fn wait_for(&self, wanted: u64) -> Result<(), StatusError> {
        let visible = || {
            self.api
                .faults
                .frozen()
                .unwrap_or_else(|| self.api.store.revision())
        };
        let mut tail = self.api.store.tail();
        let mut signals = self.api.faults.signals();
        let reached = async {
            while visible() < wanted {
                // Neither sender can go away while this call lives.
                tokio::select! {
                    _ = tail.changed() => {}
                    _ = signals.changed() => {}
                }
            }
        };
        tokio::time::timeout(FRESHNESS_WAIT, reached)
            .await
            .map_err(|_| StatusError::too_large_resource_version(wanted, visible()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The present state.
    Now,
    /// Whatever is there.
    Any,
    NotOlderThan(u64),
    Exactly(u64),
}

struct Plan {
    at: At,
    after: Option<(String, String)>,
    limit: Option<usize>,
}

fn too_old(plan: &Plan, wanted: u64, oldest: u64) -> StatusError {
    match &plan.after {
        Some((namespace, name)) => {
            let mut error = StatusError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter, or use the continue token in this response to retrieve the \
                 remainder of the results. Continuing with the provided token results in an inconsistent list - \
                 objects that were created, modified, or deleted between the time the first chunk was returned and \
                 now may show up in the list.",
            );
            error.continue_token = Some(token(0, namespace, name));
            error
        }
        None => StatusError::expired(format!(
            "The resourceVersion for the provided list is too old: {wanted} ({oldest})"
        )),
    }
}

fn token(revision: u64, namespace: &str, name: &str) -> String {
    let inner = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": [namespace, name] });
    BASE64URL_NOPAD.encode(inner.to_string().as_bytes())
}

fn read_token(text: &str) -> Option<(u64, (String, String))> {
    let inner: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    let part = |at: usize| inner["start"][at].as_str().map(str::to_owned);
    Some((inner["rv"].as_u64()?, (part(0)?, part(1)?)))
}
