use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::json;

use super::*;
use crate::kubernetes::testing::{client, server, until};

const DAY: i64 = 86_400;

/// A clock that a test sets.
#[derive(Clone, Default)]
pub(crate) struct Set {
    /// By how many seconds the wall clock is wrong, and how many have passed.
    wrong: Arc<AtomicI64>,
    passed: Arc<AtomicI64>,
}

impl Set {
    pub(crate) fn clock(&self, settled_after: Duration) -> Clock {
        let (set, began) = (self.clone(), system());
        Clock::reading(settled_after, move || set.shown(began))
    }

    /// Sets the wall clock, to so many seconds ahead of the truth.
    pub(crate) fn wrong_by(&self, seconds: i64) {
        self.wrong.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self, seconds: u64) {
        let seconds = i64::try_from(seconds).unwrap();
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }

    fn shown(&self, (wall, monotonic): Shown) -> Shown {
        let passed = Duration::from_secs(self.passed.load(Ordering::SeqCst).unsigned_abs());
        let wrong = self.wrong.load(Ordering::SeqCst);
        let by = Duration::from_secs(wrong.unsigned_abs());
        let wall = if wrong < 0 { wall - by } else { wall + by };
        (wall + passed, monotonic + passed)
    }
}

#[tokio::test]
async fn a_clock_that_differs_from_the_api_servers_is_said_and_one_that_agrees_is_believed_at_once() {
    let server = server().await;
    let client = client(&server);
    let set = Set::default();
    let clock = set.clock(SETTLED_AFTER);
    clock.begins_with(SystemTime::UNIX_EPOCH);
    assert_eq!(clock.standing().doubt.map(|doubt| doubt.code()), Some("young"));
    clock.compare(&client).await;
    let standing = clock.standing();
    assert_eq!(standing.doubt, None);
    assert!(standing.ahead.unwrap().abs() < 60 && standing.reason().is_none());

    let set = Set::default();
    set.wrong_by(30 * DAY + 1800);
    let clock = set.clock(SETTLED_AFTER);
    let metrics = ControlPlaneMetrics::new("test");
    let events = Events::default();
    let tell = Tell::new(Some(events.clone()), ("istio-system", "cp-0"), metrics.clone());
    let running = tokio::spawn(clock.clone().keep(Some(client.clone()), tell, |_| ()));
    clock.compare(&client).await;
    until("it is told", || {
        let text = metrics.encode();
        text.contains("clock_doubtful 1") && text.contains("clock_ahead_seconds 259")
    })
    .await;
    running.abort();
    let standing = clock.standing();
    let reason = standing.reason().unwrap();
    assert!(reason.contains("30d ahead of the API server's"), "{reason}");
    let mut report = json!({ "phase": "switched", "blockers": [] });
    standing.add_to(&mut report);
    assert_eq!(report["blockers"][0]["code"], "clock");
    assert_eq!(report["blockers"][0]["reason"], reason);
    assert_eq!(report["clock"]["doubt"]["code"], "differs");
    let mut report = json!({ "phase": "steady", "blockers": [] });
    standing.add_to(&mut report);
    assert_eq!(report["blockers"], json!([]));
    // For kubectl as well.
    let writing = tokio::spawn(events.write(client, "cp-0".to_owned(), metrics));
    until("there is an Event", || {
        let events = server.store().all("events");
        events.iter().any(|event| event.value()["message"] == reason)
    })
    .await;
    writing.abort();
}

#[test]
fn dates_and_lengths_are_read_and_written() {
    let read = api_server::read("Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(
        read,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    );
    for bad in [
        "",
        "now",
        "Sun, 06 Nov 1994",
        "1994-11-06T08:49:37Z",
        "Sun, 99 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(api_server::read(bad), None, "{bad}");
    }
    let words = [
        (0, "0s"),
        (90, "90s"),
        (120, "2m"),
        (725, "12m 5s"),
        (3600, "1h"),
        (2_595_600, "30d 1h"),
    ];
    for (seconds, text) in words {
        assert_eq!(standing::in_words(seconds), text);
    }
}

#[test]
fn a_set_clock_is_said_with_its_direction() {
    let set = Set::default();
    let clock = set.clock(Duration::from_secs(600));
    for (wrong, words) in [(2 * DAY, "set 2d ahead"), (-300, "set 2d back")] {
        set.wrong_by(wrong);
        let reason = clock.standing().reason().unwrap();
        assert!(
            reason.contains(words) && reason.contains("evenly for 10m"),
            "{reason}"
        );
    }
}
