//! Profiles of the processor's use, where other node proxies have them, as pprof reads them.

use super::super::{Body, page, text, whole};
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use hyper::{Method, Response, StatusCode};
use profile::{CpuSettings, MAX_FREQUENCY, ProfileError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sys::sampling::SamplingError;
use tracing::info;

/// The longest profile, in seconds: well within the time that a client of these pages has.
const MAX_SECONDS: u64 = 60;
const DEFAULT_SECONDS: u64 = 10;
/// A prime, so that nothing that happens so many times a second is always or never seen.
const DEFAULT_FREQUENCY: u32 = 97;

/// The answer to `/debug/pprof/profile`.
pub(super) async fn answer(method: &Method, query: &str) -> Response<Body> {
    if method != Method::GET {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "a profile is taken by GET\n".into(),
        );
    }
    cpu(query).await
}

async fn cpu(query: &str) -> Response<Body> {
    let settings = match settings(query) {
        Ok(settings) => settings,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    info!(
        seconds = settings.duration.as_secs(),
        frequency = settings.frequency,
        "taking a profile of the processor's use"
    );
    let client = Client(Arc::new(AtomicBool::new(true)));
    let waits = client.0.clone();
    let taking =
        tokio::task::spawn_blocking(move || profile::cpu(settings, || waits.load(Ordering::Relaxed)));
    match taking.await {
        Ok(Ok(bytes)) => attachment("profile.pb.gz", bytes),
        Ok(Err(ProfileError::Sampling(error @ (SamplingError::Busy | SamplingError::Taken)))) => {
            text(StatusCode::CONFLICT, format!("{error}; try again later\n"))
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the profile failed: {error}\n"),
        ),
    }
}

/// A profile as a file of this name.
pub(super) fn attachment(name: &str, bytes: Vec<u8>) -> Response<Body> {
    let mut response = page(StatusCode::OK, "application/octet-stream", whole(bytes));
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

/// Whoever waits for a profile. Without one it ends early.
struct Client(Arc<AtomicBool>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Reads `seconds=…&frequency=…`, each of which may be missing.
fn settings(query: &str) -> Result<CpuSettings, String> {
    let mut settings = CpuSettings {
        duration: Duration::from_secs(DEFAULT_SECONDS),
        frequency: DEFAULT_FREQUENCY,
    };
    for (name, value) in query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        let number = value.parse::<u64>().ok();
        let bound = |most: u64| number.filter(|number| (1..=most).contains(number));
        let refused = |most: u64| format!("{name}={value}: a whole number from 1 to {most} is accepted\n");
        match name {
            "seconds" => {
                let seconds = bound(MAX_SECONDS).ok_or_else(|| refused(MAX_SECONDS))?;
                settings.duration = Duration::from_secs(seconds);
            }
            "frequency" => {
                let most = u64::from(MAX_FREQUENCY);
                let frequency = bound(most).ok_or_else(|| refused(most))?;
                settings.frequency = u32::try_from(frequency).unwrap_or(MAX_FREQUENCY);
            }
            // pprof's own fetcher adds parameters of its own.
            _ => {}
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded() {
        let settings = |query| settings(query).map(|read| (read.duration.as_secs(), read.frequency));
        assert_eq!(settings(""), Ok((10, 97)));
        assert_eq!(settings("seconds=3"), Ok((3, 97)));
        assert_eq!(settings("frequency=1000&seconds=60&debug=1"), Ok((60, 1000)));
        for query in [
            "seconds=0",
            "seconds=61",
            "seconds=x",
            "seconds",
            "frequency=0",
            "frequency=1001",
        ] {
            let problem = settings(query).unwrap_err();
            assert!(problem.contains("from 1 to"), "{problem}");
        }
    }
}
