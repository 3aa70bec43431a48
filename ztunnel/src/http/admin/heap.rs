//! Profiles of the heap, where other node proxies have them: who holds the memory, as pprof reads it.

use super::super::{Body, text};
use super::profile::attachment;
use hyper::{Method, Response, StatusCode};
use profile::HeapProfileError;
use tracing::info;

/// The answer to `path`, if it is one of these pages.
pub(super) async fn answer(method: &Method, path: &str, query: &str) -> Option<Response<Body>> {
    let answer: fn(&Method, &str) -> Response<Body> = match path {
        "/debug/pprof/heap" => given,
        "/debug/pprof/heap/profiling" => switched,
        _ => return None,
    };
    let (method, query) = (method.clone(), query.to_owned());
    // The allocator may be busy with the account that somebody else has asked for.
    let answering = tokio::task::spawn_blocking(move || answer(&method, &query));
    Some(answering.await.unwrap_or_else(|error| {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the profile failed: {error}\n"),
        )
    }))
}

fn given(method: &Method, _: &str) -> Response<Body> {
    if method != Method::GET {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "a profile is taken by GET\n".into(),
        );
    }
    match profile::heap() {
        Ok(bytes) => attachment("heap.pb.gz", bytes),
        Err(error @ HeapProfileError::Inactive) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "{error}: POST /debug/pprof/heap/profiling?activate=true, and ask again once memory has been \
                 allocated that is of interest\n"
            ),
        ),
        Err(error @ HeapProfileError::Busy) => {
            text(StatusCode::CONFLICT, format!("{error}; try again later\n"))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn switched(method: &Method, query: &str) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::POST) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "heap profiling is switched by POST or GET\n".into(),
        );
    }
    let wanted = match wanted(query) {
        Ok(wanted) => wanted,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let outcome = match wanted {
        Some(wanted) => sys::heap::sample(wanted).map(|()| {
            info!(active = wanted, "heap profiling was switched");
            wanted
        }),
        None => sys::heap::is_sampled(),
    };
    match outcome {
        Ok(active) => {
            let not = if active { "" } else { "not " };
            text(StatusCode::OK, format!("heap profiling is {not}active\n"))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Reads `activate=true|false`, which may be missing.
fn wanted(query: &str) -> Result<Option<bool>, String> {
    let value = query.split('&').find_map(|pair| match pair.split_once('=') {
        Some(("activate", value)) => Some(value),
        None if pair == "activate" => Some(""),
        _ => None,
    });
    match value {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(format!("activate={other}: true and false are accepted\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_refused_in_words() {
        assert_eq!(wanted(""), Ok(None));
        assert_eq!(wanted("activate=true"), Ok(Some(true)));
        assert_eq!(wanted("x=1&activate=false"), Ok(Some(false)));
        for query in [
            "activate",
            "activate=",
            "activate=yes",
            "activate=TRUE&activate=true",
        ] {
            assert!(wanted(query).unwrap_err().contains("true and false"), "{query}");
        }
    }
}
