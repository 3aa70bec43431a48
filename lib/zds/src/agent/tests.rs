use std::time::Duration;

use super::*;
use crate::frame::{decode_request, encode_answer, encode_hello};

fn info(name: &str) -> PodInfo {
    PodInfo {
        name: name.into(),
        namespace: "n".into(),
        service_account: "s".into(),
    }
}

fn add(uid: &str) -> SnapshotPod {
    SnapshotPod::Add {
        uid: uid.into(),
        info: info(uid),
    }
}

/// The next request, as the proxy reads it, and the descriptor that goes along.
fn next(connection: &mut Connection, now: Instant) -> Option<(Request, Option<String>)> {
    let outgoing = connection.next_request(now)?.unwrap();
    Some((decode_request(&outgoing.bytes).unwrap(), outgoing.descriptor_of))
}

fn ready(snapshot: Vec<SnapshotPod>, now: Instant) -> Connection {
    let mut connection = Connection::new(snapshot, now);
    assert_eq!(connection.received(&encode_hello()), Ok(Event::Ready));
    connection
}

/// Sends and acknowledges everything that waits.
fn settle(connection: &mut Connection, now: Instant) -> Vec<Request> {
    let mut sent = Vec::new();
    while let Some((request, _)) = next(connection, now) {
        connection.received(&encode_answer(Ok(()))).unwrap();
        sent.push(request);
    }
    assert!(connection.is_settled());
    sent
}

#[test]
fn sends_the_snapshot_after_hello_one_request_at_a_time() {
    let now = Instant::now();
    let mut connection = Connection::new([add("a"), SnapshotPod::Keep { uid: "k".into() }], now);
    assert_eq!(connection.next_request(now), None, "nothing before the hello");
    assert_eq!(connection.received(&encode_hello()), Ok(Event::Ready));

    let (request, descriptor) = next(&mut connection, now).unwrap();
    assert_eq!(
        request,
        Request::Add {
            uid: "a".into(),
            info: info("a")
        }
    );
    assert_eq!(descriptor.as_deref(), Some("a"));
    assert_eq!(connection.next_request(now), None, "one outstanding request");
    assert_eq!(
        connection.received(&encode_answer(Err("no netns"))),
        Ok(Event::Added {
            uid: "a".into(),
            result: Err("no netns".into())
        })
    );

    assert_eq!(
        next(&mut connection, now),
        Some((Request::Keep { uid: "k".into() }, None))
    );
    assert_eq!(
        connection.received(&encode_answer(Ok(()))),
        Ok(Event::Kept {
            uid: "k".into(),
            result: Ok(())
        })
    );
    assert_eq!(next(&mut connection, now), Some((Request::SnapshotSent, None)));
    assert!(!connection.is_settled());
    assert_eq!(
        connection.received(&encode_answer(Ok(()))),
        Ok(Event::SnapshotTaken { result: Ok(()) })
    );
    assert!(connection.is_settled());
    assert_eq!(connection.next_request(now), None);
}

#[test]
fn pods_that_change_during_the_snapshot_are_sent_in_their_newest_state() {
    let now = Instant::now();
    let mut connection = ready(
        vec![add("a"), SnapshotPod::Keep { uid: "k".into() }, add("gone")],
        now,
    );
    connection.add("k", info("k")).unwrap();
    assert!(!connection.remove("gone"), "the proxy has never heard of it");
    connection.add("late", info("late")).unwrap();
    let sent = settle(&mut connection, now);
    let expected = [
        Request::Add {
            uid: "a".into(),
            info: info("a"),
        },
        Request::Add {
            uid: "k".into(),
            info: info("k"),
        },
        Request::SnapshotSent,
        Request::Add {
            uid: "late".into(),
            info: info("late"),
        },
    ];
    assert_eq!(sent, expected);
}

#[test]
fn incremental_changes_keep_their_order_and_stay_bounded() {
    let now = Instant::now();
    let mut connection = ready(vec![add("a")], now);
    settle(&mut connection, now);
    // The pod restarts again and again while the proxy is busy: one removal and one addition wait.
    for round in 0..100 {
        assert!(connection.remove("a"));
        connection.add("a", info(&round.to_string())).unwrap();
    }
    assert_eq!(connection.queued(), 2);
    let expected = [
        Request::Del { uid: "a".into() },
        Request::Add {
            uid: "a".into(),
            info: info("99"),
        },
    ];
    assert_eq!(settle(&mut connection, now), expected);

    assert!(!connection.remove("never"));
    assert!(connection.remove("a"));
    assert_eq!(settle(&mut connection, now), [Request::Del { uid: "a".into() }]);
    assert!(!connection.remove("a"), "it was removed already");
}

#[test]
fn a_removal_follows_an_addition_that_is_on_its_way() {
    let now = Instant::now();
    let mut connection = ready(vec![add("a")], now);
    assert!(next(&mut connection, now).is_some());
    assert!(connection.remove("a"));
    connection.received(&encode_answer(Ok(()))).unwrap();
    assert_eq!(
        settle(&mut connection, now),
        [Request::SnapshotSent, Request::Del { uid: "a".into() }]
    );
}

#[test]
fn the_deadline_holds_for_hello_and_answers() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let mut connection = Connection::new([], start);
    assert_eq!(connection.deadline(), Some(start + ANSWER_DEADLINE));
    assert_eq!(connection.check_deadline(start + 4 * second), Ok(()));
    assert_eq!(
        connection.check_deadline(start + 5 * second),
        Err(ConnectionError::TooLate { awaited: "hello" })
    );
    connection.received(&encode_hello()).unwrap();
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.check_deadline(start + 60 * second), Ok(()));

    assert!(next(&mut connection, start + 10 * second).is_some());
    assert_eq!(connection.deadline(), Some(start + 15 * second));
    assert_eq!(connection.check_deadline(start + 14 * second), Ok(()));
    assert!(matches!(
        connection.check_deadline(start + 15 * second),
        Err(ConnectionError::TooLate {
            awaited: "answer to a request"
        })
    ));
    connection.received(&encode_answer(Ok(()))).unwrap();
    assert_eq!(connection.check_deadline(start + 60 * second), Ok(()));
}

#[test]
fn names_that_do_not_fit_are_one_pods_problem() {
    let now = Instant::now();
    let long = PodInfo {
        name: "x".repeat(2000),
        ..info("x")
    };
    let mut connection = ready(
        vec![SnapshotPod::Add {
            uid: "long".into(),
            info: long.clone(),
        }],
        now,
    );
    assert!(matches!(
        connection.next_request(now),
        Some(Err(Event::Added { uid, result: Err(_) })) if uid == "long"
    ));
    assert_eq!(settle(&mut connection, now), [Request::SnapshotSent]);
    assert!(matches!(
        connection.add("long", long),
        Err(FrameError::TooLong { .. })
    ));
    assert!(connection.is_settled());
}

#[test]
fn an_abandoned_addition_does_not_hold_up_the_others() {
    let now = Instant::now();
    let mut connection = ready(vec![add("gone"), add("b")], now);
    assert!(next(&mut connection, now).is_some());
    connection.abandon_request();
    let expected = [
        Request::Add {
            uid: "b".into(),
            info: info("b"),
        },
        Request::SnapshotSent,
    ];
    assert_eq!(settle(&mut connection, now), expected);
    assert!(!connection.remove("gone"));
}

#[test]
fn a_proxy_that_breaks_the_protocol_is_an_error() {
    let now = Instant::now();
    let mut connection = Connection::new([], now);
    assert!(matches!(
        connection.received(&[0x08, 7]),
        Err(ConnectionError::Frame(FrameError::Version { version: 7 }))
    ));
    connection.received(&encode_hello()).unwrap();
    assert_eq!(
        connection.received(&encode_answer(Ok(()))),
        Err(ConnectionError::UnaskedAnswer)
    );
    assert!(next(&mut connection, now).is_some());
    assert!(matches!(
        connection.received(&[0xff]),
        Err(ConnectionError::Frame(_))
    ));
}
