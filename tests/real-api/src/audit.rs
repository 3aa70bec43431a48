use serde_json::Value;

/// A request of an account of the mesh, as the server's audit log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the service account.
    pub account: String,
    /// What the server calls it: `list`, `watch`, `patch`.
    pub verb: String,
    /// Its path and query.
    pub uri: String,
    /// The status code of the answer.
    pub code: u64,
    /// What the server says of the answer, where it failed.
    pub words: String,
}

/// The requests in a log, the oldest first.
pub(crate) fn requests(log: &str) -> Vec<Request> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|event| request(&event)).collect()
}

fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let user = text(&event["user"]["username"]);
    Request {
        account: user.rsplit(':').next().unwrap_or_default().to_owned(),
        verb: text(&event["verb"]),
        uri: text(&event["requestURI"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        words: format!(
            "{} {}",
            text(&event["responseStatus"]["reason"]),
            text(&event["responseStatus"]["message"])
        ),
    }
}
