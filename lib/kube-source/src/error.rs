//! What went wrong with a request, as far as it decides what is done next.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) sort: Sort,
    /// In words, for people.
    pub(crate) problem: String,
    /// How long the server asks to be left alone.
    pub(crate) retry_after: Duration,
}

/// What sort of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    /// What the watch or list goes on from is not known to the server (any more): 410, a resource version of another
    /// history, a continue token that has expired.
    Expired,
    /// The server has no such kind (404).
    Absent,
    /// We may not (401, 403).
    Refused,
    /// The server answered with another error.
    Error,
    /// The server has too much to do (429). Nothing is wrong with what was asked for.
    Busy,
    /// There was no answer, or it broke off, or whoever answered could not serve (503, 504).
    Unreachable,
    /// There was an answer that cannot be read: what it said is lost.
    Unreadable,
}

impl Sort {
    /// One stable word, which tells nothing of what the server said.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Sort::Expired => "expired",
            Sort::Absent => "absent",
            Sort::Refused => "refused",
            Sort::Error => "error",
            Sort::Busy => "busy",
            Sort::Unreachable => "unreachable",
            Sort::Unreadable => "unreadable",
        }
    }
}

impl Failure {
    pub(crate) fn of(error: &kube::Error) -> Failure {
        use kube::Error as E;
        match error {
            E::Api(status) => Failure::of_status(status),
            E::SerdeError(_) | E::FromUtf8(_) | E::LinesCodecMaxLineLengthExceeded => {
                Failure::new(Sort::Unreadable, chain(error))
            }
            _ => Failure::new(Sort::Unreachable, chain(error)),
        }
    }

    pub(crate) fn of_status(status: &Status) -> Failure {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let too_large = causes
            .clone()
            .any(|cause| cause.reason == "ResourceVersionTooLarge")
            || status.message.contains("Too large resource version");
        let sort = match status.code {
            410 => Sort::Expired,
            _ if too_large => Sort::Expired,
            404 => Sort::Absent,
            401 | 403 => Sort::Refused,
            429 => Sort::Busy,
            503 | 504 => Sort::Unreachable,
            _ => Sort::Error,
        };
        let seconds = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        let problem = match sort {
            Sort::Refused => format!(
                "{} ({}); unless the server has only just begun, grant this service account get, list and watch",
                status.message, status.code
            ),
            _ => format!("{} ({})", status.message, status.code),
        };
        Failure {
            sort,
            problem,
            retry_after: Duration::from_secs(seconds.into()),
        }
    }

    pub(crate) fn new(sort: Sort, problem: impl Into<String>) -> Failure {
        Failure {
            sort,
            problem: problem.into(),
            retry_after: Duration::ZERO,
        }
    }
}

/// The reasons inside an error, outermost first, as one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let cases = [
            (410, Sort::Expired),
            (404, Sort::Absent),
            (401, Sort::Refused),
            (403, Sort::Refused),
            (429, Sort::Busy),
            (500, Sort::Error),
            (503, Sort::Unreachable),
            (504, Sort::Unreachable),
        ];
        for (code, sort) in cases {
            let status = Status::failure("words", "").with_code(code);
            assert_eq!(Failure::of_status(&status).sort, sort, "{code}");
        }
        let details = serde_json::json!({
            "causes": [{ "reason": "ResourceVersionTooLarge" }], "retryAfterSeconds": 3,
        });
        let details: StatusDetails = serde_json::from_value(details).unwrap();
        let status = Status::failure("later", "Timeout")
            .with_code(504)
            .with_details(details);
        let failure = Failure::of_status(&status);
        assert_eq!(
            (failure.sort, failure.retry_after),
            (Sort::Expired, Duration::from_secs(3))
        );
    }
}
