use std::sync::Arc;

use super::*;

#[test]
fn failures_put_an_endpoint_out_for_a_growing_while() {
    let (mut health, start) = (EndpointHealth::new(), Instant::now());
    let uid: Arc<str> = "a".into();
    assert!(!health.is_ejected(&uid, start));
    health.record_failure(&uid, start);
    assert!(health.is_ejected(&uid, start + EJECTION_STEP - Duration::from_millis(1)));
    assert!(!health.is_ejected(&uid, start + EJECTION_STEP));
    health.record_failure(&uid, start);
    assert!(health.is_ejected(&uid, start + EJECTION_STEP));
    for _ in 0..1000 {
        health.record_failure(&uid, start);
    }
    assert!(!health.is_ejected(&uid, start + MAX_EJECTION));
    assert!(!health.is_ejected("b", start));
    health.record_failure(&uid, start);
    health.record_success(&uid);
    assert!(!health.is_ejected(&uid, start));
}

#[test]
fn a_clone_keeps_its_state() {
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    let before = health.clone();
    health.record_failure("a", now);
    assert!(health.is_ejected("a", now) && !before.is_ejected("a", now));
}

#[test]
fn memory_is_bounded_and_old_failures_make_room() {
    let (mut health, start) = (EndpointHealth::new(), Instant::now());
    for number in 0..=MAX_TRACKED {
        health.record_failure(&number.to_string(), start);
    }
    assert_eq!(health.failures.size(), MAX_TRACKED);
    assert!(
        !health.is_ejected(&MAX_TRACKED.to_string(), start),
        "there was no room for it"
    );
    let later = start + EJECTION_STEP + MAX_EJECTION;
    health.record_failure("late", later);
    assert!(health.is_ejected("late", later));
    assert_eq!(health.failures.size(), 1);
}

#[test]
fn open_connections_are_counted_until_they_close() {
    let mut health = EndpointHealth::new();
    let uid: Arc<str> = "a".into();
    assert_eq!(health.open_connections("a"), 0);
    health.connection_opened(&uid);
    let before = health.clone();
    health.connection_opened(&uid);
    assert_eq!(
        (before.open_connections("a"), health.open_connections("a")),
        (1, 2)
    );
    health.connection_closed("a");
    health.connection_closed("a");
    health.connection_closed("a");
    health.connection_closed("b");
    assert_eq!((health.open_connections("a"), health.open.size()), (0, 0));
}

#[test]
fn counted_connections_are_bounded() {
    let mut health = EndpointHealth::new();
    for number in 0..=MAX_TRACKED {
        health.connection_opened(&number.to_string());
    }
    assert_eq!(health.open.size(), MAX_TRACKED);
    assert_eq!(health.open_connections(&MAX_TRACKED.to_string()), 0);
}
