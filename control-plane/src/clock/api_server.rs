//! What time it is for the Kubernetes API server: the `Date` of any answer (RFC 9110 §6.6.1).

use std::time::{Duration, SystemTime};

use http::Request;
use http::header::DATE;
use kube::client::Body;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How long an answer is waited for. It is as old as it has taken.
const DEADLINE: Duration = Duration::from_secs(5);
/// What everybody may ask for. A refusal has a date too.
const PAGE: &str = "/version";

/// Its time, to the second.
pub(super) async fn time(client: &kube::Client) -> Result<SystemTime, String> {
    let request = Request::get(PAGE).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let answer = match tokio::time::timeout(DEADLINE, client.send(request)).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", DEADLINE.as_secs())),
    };
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.ok_or("its answer has no date")?;
    read(date).ok_or_else(|| format!("'{}' is no date", date.escape_default()))
}

/// As HTTP writes it (IMF-fixdate): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn read(date: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(date, &Rfc2822).ok().map(SystemTime::from)
}
