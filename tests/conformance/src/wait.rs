use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is yes; fails with `what` when that takes longer than `limit`.
pub async fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Outcome {
    eventually_some(what, limit, || holds().then_some(())).await
}

/// As [`eventually`], for a value.
pub async fn eventually_some<T>(
    what: &str,
    limit: Duration,
    mut find: impl FnMut() -> Option<T>,
) -> Outcome<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("not within {limit:?}: {what}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for a question whose answer takes time itself; the last failure is in the message.
pub async fn eventually_ok<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Outcome<T>,
) -> Outcome<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => {
                return Err(Failure::new(format!("not within {limit:?}: {what}: {last}")));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Fails with `what` unless the work is done in time.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> Outcome<T> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Failure::new(format!("not within {limit:?}: {what}")))
}
