//! The answers that are not objects: `Status`, by which the Kubernetes API says what went wrong.

use serde_json::{Map, Value, json};

/// A refused request, as the `Status` object that the client gets (API conventions, "Response Status Kind").
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct StatusError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable word, for example `NotFound`.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// After how many seconds the client may try again.
    pub retry_after: Option<u32>,
    pub(crate) details: Map<String, Value>,
    pub(crate) continue_token: Option<String>,
}

impl StatusError {
    /// An error with this code, reason (`Conflict`) and message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> StatusError {
        StatusError {
            code,
            reason,
            message: message.into(),
            retry_after: None,
            details: Map::new(),
            continue_token: None,
        }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> StatusError {
        StatusError::new(400, "BadRequest", message)
    }

    /// 401: the token is not known.
    pub fn unauthorized() -> StatusError {
        StatusError::new(401, "Unauthorized", "Unauthorized")
    }

    /// 410: what was asked for is older than the history. The client lists anew.
    pub fn expired(message: impl Into<String>) -> StatusError {
        StatusError::new(410, "Expired", message)
    }

    /// 429 with the seconds to wait.
    pub fn too_many_requests(retry_after: u32) -> StatusError {
        StatusError::new(
            429,
            "TooManyRequests",
            "too many requests, please try again later",
        )
        .retry_after(retry_after)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> StatusError {
        StatusError::new(500, "InternalError", message)
    }

    /// 503.
    pub fn unavailable() -> StatusError {
        StatusError::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// 403: who decides what is admitted does not admit it.
    pub fn forbidden(message: impl Into<String>) -> StatusError {
        StatusError::new(403, "Forbidden", message)
    }

    /// 422 for several fields of an object, each with what is wrong with it.
    pub fn invalid_fields(kind: &str, group: &str, name: &str, fields: &[(&str, &str)]) -> StatusError {
        let described: Vec<String> = fields
            .iter()
            .map(|(field, problem)| match *field {
                "" => (*problem).to_owned(),
                field => format!("{field}: {problem}"),
            })
            .collect();
        let mut error = StatusError::invalid(kind, group, name, "", "");
        let subject = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        error.message = match described.as_slice() {
            [one] => format!("{subject} \"{name}\" is invalid: {one}"),
            several => format!("{subject} \"{name}\" is invalid: [{}]", several.join(", ")),
        };
        let cause = |(field, problem): &(&str, &str)| json!({ "reason": reason_of(problem), "message": problem, "field": field });
        error.causes(fields.iter().map(cause).collect())
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> StatusError {
        self.retry_after = Some(seconds);
        self.details.insert("retryAfterSeconds".into(), json!(seconds));
        self
    }

    pub(crate) fn about(mut self, group: &str, plural: &str, name: &str) -> StatusError {
        if !name.is_empty() {
            self.details.insert("name".into(), json!(name));
        }
        if !group.is_empty() {
            self.details.insert("group".into(), json!(group));
        }
        self.details.insert("kind".into(), json!(plural));
        self
    }

    pub(crate) fn causes(mut self, causes: Vec<Value>) -> StatusError {
        self.details.insert("causes".into(), Value::Array(causes));
        self
    }

    pub(crate) fn method_not_allowed() -> StatusError {
        let message = "the server does not allow this method on the requested resource";
        StatusError::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn not_acceptable() -> StatusError {
        let message = "only the following media types are accepted: application/json";
        StatusError::new(406, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> StatusError {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        StatusError::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> StatusError {
        StatusError::new(413, "RequestEntityTooLarge", message)
    }

    /// 504: the client knows a newer revision than there is.
    pub(crate) fn too_large_resource_version(wanted: u64, current: u64) -> StatusError {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        StatusError::new(504, "Timeout", message)
            .causes(vec![json!({
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            })])
            .retry_after(1)
    }

    /// 422 for one field of an object.
    pub(crate) fn invalid(kind: &str, group: &str, name: &str, field: &str, problem: &str) -> StatusError {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let reason = reason_of(problem);
        StatusError::new(
            422,
            "Invalid",
            format!("{qualified} \"{name}\" is invalid: {field}: {problem}"),
        )
        .about(group, kind, name)
        .causes(vec![
            json!({ "reason": reason, "message": problem, "field": field }),
        ])
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), json!(token));
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }
}

/// The machine-readable word for what is wrong with a field.
fn reason_of(problem: &str) -> &'static str {
    match problem.split(':').next().unwrap_or_default() {
        "Required value" => "FieldValueRequired",
        "Forbidden" => "FieldValueForbidden",
        "Unsupported value" => "FieldValueNotSupported",
        _ => "FieldValueInvalid",
    }
}
