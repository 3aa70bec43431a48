//! What a request asks for: its path, its query, and the form in which it wants the answer.

use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, USER_AGENT};
use percent_encoding::percent_decode_str;

use crate::schema::UnknownFields;
use crate::status::StatusError;

/// The path of an object or a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// The path, cut at its slashes and decoded.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            percent_decode_str(part)
                .decode_utf8()
                .ok()
                .map(|text| text.into_owned())
        })
        .collect()
}

impl Target {
    /// Reads a path below `/api/v1` or `/apis/GROUP/VERSION`.
    pub(crate) fn parse(segments: &[String]) -> Option<Target> {
        let text: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match text.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // `namespaces/x/status` is the namespace's own.
            ["namespaces", _, "status" | "finalize"] | ["namespaces", _] | ["namespaces"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Target {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            plural: (*plural).to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }
}

/// The query parameters that the API knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) watch: bool,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) allow_watch_bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) field_manager: String,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    pub(crate) include_object: String,
    pub(crate) grace_period_seconds: Option<u64>,
    /// What becomes of fields that a schema does not know.
    pub(crate) unknown_fields: UnknownFields,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Query, StatusError> {
        let mut query = Query::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let number = || {
                value.parse::<u64>().map_err(|_| {
                    StatusError::bad_request(format!(
                        "{name}: invalid value {value:?}: it must be a whole number"
                    ))
                })
            };
            let truth = || !matches!(value.as_ref(), "" | "0" | "false" | "False");
            match name.as_ref() {
                "labelSelector" => query.label_selector = value.into_owned(),
                "fieldSelector" => query.field_selector = value.into_owned(),
                "limit" => {
                    let limit = usize::try_from(number()?).unwrap_or(usize::MAX);
                    query.limit = (limit > 0).then_some(limit);
                }
                "continue" => query.continue_token = value.into_owned(),
                "resourceVersion" => query.resource_version = value.into_owned(),
                "resourceVersionMatch" => query.resource_version_match = value.into_owned(),
                "watch" => query.watch = truth(),
                "timeoutSeconds" => query.timeout_seconds = Some(number()?).filter(|seconds| *seconds > 0),
                "allowWatchBookmarks" => query.allow_watch_bookmarks = truth(),
                "sendInitialEvents" => query.send_initial_events = Some(truth()),
                "fieldManager" => query.field_manager = value.into_owned(),
                "force" => query.force = truth(),
                "dryRun" => {
                    if value != "All" {
                        return Err(StatusError::bad_request(format!(
                            "dryRun: Unsupported value: {value:?}: supported values: \"All\""
                        )));
                    }
                    query.dry_run = true;
                }
                "includeObject" => query.include_object = value.into_owned(),
                "gracePeriodSeconds" => query.grace_period_seconds = Some(number()?),
                "fieldValidation" => query.unknown_fields = UnknownFields::parse(&value)?,
                // `pretty`, `timeout` and what later clients may add change nothing here.
                _ => {}
            }
        }
        Ok(query)
    }

    /// The wanted resource version; nothing when none is given.
    pub(crate) fn revision(&self) -> Result<Option<u64>, StatusError> {
        if self.resource_version.is_empty() {
            return Ok(None);
        }
        self.resource_version.parse().map(Some).map_err(|_| {
            StatusError::bad_request(format!(
                "resourceVersion: Invalid value: {:?}: it must be a whole number",
                self.resource_version
            ))
        })
    }
}

/// The form in which objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Object,
    /// Rows for people (`as=Table`).
    Table,
    /// Metadata only (`as=PartialObjectMetadata`).
    Metadata,
    /// All of discovery at once (`as=APIGroupDiscoveryList`, v2).
    Discovery,
}

impl Form {
    /// The first of the client's forms that is known.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Form, StatusError> {
        let values = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let text = values.collect::<Vec<_>>().join(",");
        if text.trim().is_empty() {
            return Ok(Form::Object);
        }
        text.split(',')
            .find_map(Form::of_media_range)
            .ok_or_else(StatusError::not_acceptable)
    }

    fn of_media_range(range: &str) -> Option<Form> {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let (mut form, mut version) = ("", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => form = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        match (form, version) {
            ("", _) => Some(Form::Object),
            ("Table", "v1") => Some(Form::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1") => Some(Form::Metadata),
            ("APIGroupDiscoveryList", "v2") => Some(Form::Discovery),
            _ => None,
        }
    }
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(hyper::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let text = text.unwrap_or_default().split(';').next().unwrap_or_default();
    text.trim().to_ascii_lowercase()
}

/// Who writes, where the query does not say it: the client's name before the first slash.
pub(crate) fn default_manager(headers: &HeaderMap) -> String {
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match agent.split('/').next().unwrap_or_default() {
        "" => "unknown".to_owned(),
        name => name.chars().take(128).collect(),
    }
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

#[cfg(test)]
mod tests;
