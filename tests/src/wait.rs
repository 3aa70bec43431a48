use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks again and again until `f` says yes; panics with `what` when that takes longer than `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut f: impl FnMut() -> bool) {
    eventually_some(what, limit, || f().then_some(()));
}

/// As [`eventually`], for a value.
#[track_caller]
pub fn eventually_some<T>(what: &str, limit: Duration, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
