//! Profiles, where other node proxies have them: of the processor as pprof reads it; of the heap only why not.

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

const HEAP: &str = "\
this build takes no heap profiles: it uses the system's allocator, which keeps none; for what memory is used for, see
/debug/resources (what each pod holds), ztunnel_buffered_bytes, ztunnel_promised_window_bytes and
istio_tcp_sockets_open in the metrics, and
  perf trace -p PID -e 'syscalls:sys_enter_mmap,syscalls:sys_enter_brk' --call-graph dwarf
";

/// The answer to `path`, if it is one of a profile.
pub(super) async fn answer(method: &Method, path: &str, query: &str) -> Option<Response<Body>> {
    match path {
        "/debug/pprof/profile" if method == Method::GET => Some(cpu(query).await),
        "/debug/pprof/profile" => Some(text(
            StatusCode::METHOD_NOT_ALLOWED,
            "a profile is taken by GET\n".into(),
        )),
        "/debug/pprof/heap" | "/debug/pprof/heap/profiling" => {
            Some(text(StatusCode::NOT_IMPLEMENTED, HEAP.into()))
        }
        _ => None,
    }
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
        Ok(Ok(bytes)) => {
            let mut response = page(StatusCode::OK, "application/octet-stream", whole(bytes));
            response.headers_mut().insert(
                CONTENT_DISPOSITION,
                HeaderValue::from_static("attachment; filename=\"profile.pb.gz\""),
            );
            response
        }
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
