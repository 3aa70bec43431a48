//! What is written, when, and that it comes to rest.

use std::time::Duration;

use objects::Object;
use serde_json::{Value, json};

use super::queue::{FIRST_RETRY, LAST_RETRY, Write};
use super::*;

const THEN: &str = "2026-08-01T00:00:00Z";

fn policy(uid: &str, conditions: Value) -> Arc<Object> {
    let object = Object::from_value(json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "p", "namespace": "demo", "uid": uid },
        "spec": { "rules": [{}] },
        "status": { "conditions": conditions },
    }));
    Arc::new(object.unwrap())
}

fn condition(status: bool, message: &str) -> Condition {
    Condition {
        kind: "ZtunnelAccepted",
        status,
        reason: "Accepted",
        message: message.to_owned(),
        observed_generation: 3,
    }
}

fn as_written(status: &str, message: &str, since: &str) -> Value {
    json!({
        "type": "ZtunnelAccepted", "status": status, "reason": "Accepted", "message": message,
        "observedGeneration": 3, "lastTransitionTime": since,
    })
}

/// A queue, and the time that it is.
struct Bench(Queue, Instant);

impl Bench {
    fn new(object: &Arc<Object>) -> Bench {
        let mut queue = Queue::default();
        queue.put(object);
        Bench(queue, Instant::now())
    }

    fn want(&mut self, conditions: &[Condition]) {
        let key = policy("", json!([])).key();
        assert!(self.0.want(&key, conditions.to_vec()));
    }

    fn next(&mut self) -> Next {
        // One second after the epoch, and a bit.
        self.0
            .next(self.1, SystemTime::UNIX_EPOCH + Duration::from_millis(1500))
    }

    fn write(&mut self) -> Write {
        match self.next() {
            Next::Write(write) => write,
            Next::Wait(until) => panic!("nothing is written until {until:?}"),
        }
    }
}

#[test]
fn what_an_object_has_already_is_not_written() {
    let foreign = json!({ "type": "WaypointAccepted", "status": "True" });
    let object = policy("1", json!([as_written("True", "good", THEN), foreign]));
    let mut bench = Bench::new(&object);
    bench.want(&[condition(true, "good")]);
    assert_eq!(bench.next(), Next::Wait(None));
}

#[test]
fn conditions_of_others_stay_and_so_does_the_time_while_the_status_does() {
    let foreign = json!({ "type": "WaypointAccepted", "status": "True" });
    let object = policy("1", json!([as_written("True", "good", THEN), foreign]));
    let mut bench = Bench::new(&object);
    bench.want(&[condition(true, "better")]);
    let write = bench.write();
    assert_eq!((&write.key, &*write.uid), (&object.key(), "1"));
    assert_eq!(write.conditions, [as_written("True", "better", THEN)]);
    let status = write.status();
    assert_eq!(
        status.conditions_among(&[as_written("False", "old", THEN), foreign.clone()]),
        [foreign, as_written("True", "better", THEN)]
    );
    bench.0.written(write);
    // The source has not told of it yet, and nothing is written twice.
    bench.want(&[condition(true, "better")]);
    assert_eq!(bench.next(), Next::Wait(None));
    bench.want(&[condition(false, "bad")]);
    let now = "1970-01-01T00:00:01Z";
    let write = bench.write();
    assert_eq!(write.conditions, [as_written("False", "bad", now)]);
    bench.0.written(write);
    // A policy that is no affair of node proxies any more.
    bench.want(&[]);
    assert_eq!(bench.write().conditions, Vec::<Value>::new());
}

#[test]
fn the_last_word_counts_and_what_is_gone_is_not_written() {
    let mut bench = Bench::new(&policy("1", json!([])));
    bench.want(&[condition(false, "bad")]);
    bench.want(&[condition(true, "good")]);
    let write = bench.write();
    assert_eq!(write.conditions[0]["message"], "good");
    // It was made again while it was written: what was written is not what the new one has.
    bench.0.put(&policy("2", json!([])));
    bench.0.written(write);
    assert_eq!(bench.write().uid, "2");
    bench.0.delete(&policy("2", json!([])).key());
    bench.want(&[condition(true, "good")]);
    assert_eq!(bench.next(), Next::Wait(None));
}

#[test]
fn what_fails_is_tried_again_ever_more_seldom() {
    let mut bench = Bench::new(&policy("1", json!([])));
    bench.want(&[condition(true, "good")]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let write = bench.write();
        let pause = bench.0.failed(&write, bench.1).expect("it waits");
        assert_eq!(bench.next(), Next::Wait(Some(bench.1 + pause)));
        bench.1 += pause;
        pauses.push(pause);
    }
    assert_eq!(pauses[0], FIRST_RETRY);
    assert!(pauses.is_sorted());
    assert_eq!(pauses[7], LAST_RETRY);
    // Something new is tried at once.
    let write = bench.write();
    bench.0.failed(&write, bench.1);
    bench.want(&[condition(true, "better")]);
    bench.write();
}

#[test]
fn what_is_not_ours_is_left_once_and_last() {
    let object = policy("1", json!([as_written("True", "good", THEN)]));
    let mut bench = Bench::new(&object);
    let other = ObjectKey::new(objects::Kind::Service, "demo", "never-written");
    assert!(bench.0.leave(&other) && bench.0.leave(&object.key()));
    let write = bench.write();
    assert!(write.gives_back && write.status().gives_back && write.conditions.is_empty());
    assert_eq!(write.key, object.key());
    bench.0.failed(&write, bench.1);
    assert_eq!(bench.next(), Next::Wait(Some(bench.1 + FIRST_RETRY)));
    bench.1 += FIRST_RETRY;
    let write = bench.write();
    bench.0.written(write);
    // Another control plane has written the same: it stays, and nobody tries again.
    bench.0.put(&object);
    assert_eq!(bench.next(), Next::Wait(None));
    // It comes back before it was left.
    assert!(bench.0.leave(&object.key()));
    bench.want(&[condition(true, "better")]);
    assert!(!bench.write().gives_back);
    // It goes before what was wanted of it is written.
    assert!(bench.0.leave(&object.key()));
    assert!(bench.write().gives_back);
    assert!(bench.0.leave(&object.key()));
    bench.0.delete(&object.key());
    assert_eq!(bench.next(), Next::Wait(None));
}

#[test]
fn what_was_left_while_nobody_looked_is_found() {
    let conditions = Conditions::new(true);
    let (ours, left) = (
        policy("1", json!([as_written("True", "good", THEN)])),
        entry(json!({})),
    );
    let theirs = entry(json!({ "conditions": [as_written("True", "good", THEN)] }));
    conditions.apply(&[StoreChange::Put(ours.clone()), StoreChange::Put(left)]);
    conditions.leave_all_but(|key| *key == ours.key());
    let next = || conditions.queue().next(Instant::now(), SystemTime::UNIX_EPOCH);
    assert_eq!(next(), Next::Wait(None));
    conditions.apply(&[StoreChange::Put(theirs.clone())]);
    conditions.leave_all_but(|key| *key == ours.key());
    assert!(matches!(next(), Next::Write(write) if write.gives_back && write.key == theirs.key()));
}

#[test]
fn what_only_stands_for_an_object_is_not_written() {
    let key = policy("", json!([])).key();
    let placeholder = Arc::new(Object::closed(&key, "no YAML").unwrap());
    let mut bench = Bench::new(&placeholder);
    bench.want(&[condition(false, "no YAML")]);
    assert_eq!(bench.next(), Next::Wait(None));
}

fn entry(status: Value) -> Arc<Object> {
    let object = Object::from_value(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": "e", "namespace": "demo", "uid": "1" },
        "spec": { "hosts": ["a.example"], "resolution": "DNS", "ports": [{ "number": 80, "name": "http" }] },
        "status": status,
    }));
    Arc::new(object.unwrap())
}

#[test]
fn addresses_and_conditions_are_written_together_and_come_to_rest() {
    let object = entry(json!({}));
    let mut bench = Bench::new(&object);
    let chosen = |last: u8| AllocatedAddress {
        host: "a.example".to_owned(),
        address: std::net::Ipv4Addr::new(240, 240, 0, last).into(),
    };
    let written = |last: u8| json!([{ "host": "a.example", "value": format!("240.240.0.{last}") }]);
    assert!(bench.0.want_addresses(&object.key(), &[chosen(7)]));
    let write = bench.write();
    assert_eq!(write.status().conditions, Vec::<Value>::new());
    assert_eq!(write.status().fields["addresses"], written(7));
    bench.0.written(write);
    assert_eq!(bench.next(), Next::Wait(None));
    // What one writer leaves out of an apply is taken away, so a new condition comes with the addresses.
    let bound = Condition {
        kind: "istio.io/WaypointBound",
        ..condition(true, "bound")
    };
    assert!(bench.0.want(&object.key(), vec![bound]));
    let write = bench.write();
    assert_eq!(write.status().fields["addresses"], written(7));
    assert_eq!(write.conditions[0]["message"], "bound");
    let status = json!({ "conditions": write.conditions, "addresses": written(7) });
    bench.0.written(write);
    // The source tells of it, and the compiler wants the same again.
    bench.0.put(&entry(status));
    assert!(bench.0.want_addresses(&object.key(), &[chosen(7)]));
    assert_eq!(bench.next(), Next::Wait(None));
    // Another one had it first.
    assert!(bench.0.want_addresses(&object.key(), &[chosen(8)]));
    assert_eq!(bench.write().addresses, *written(8).as_array().unwrap());
}

#[test]
fn who_has_nothing_to_be_told_does_not_wait() {
    let service = |index: usize| ObjectKey::new(objects::Kind::Service, "demo", &format!("s{index}"));
    let mut queue = Queue::default();
    for index in 0..=queue::MAX_WAITING {
        assert!(queue.want(&service(index), Vec::new()));
    }
    assert!(queue.want(&service(0), vec![condition(true, "good")]));
    // What waits already is taken back.
    assert!(queue.want(&service(0), Vec::new()));
    assert_eq!(
        queue.next(Instant::now(), SystemTime::UNIX_EPOCH),
        Next::Wait(None)
    );
}

#[test]
fn what_is_only_told_is_told_once() {
    let object = policy("1", json!([]));
    let mut bench = Bench::new(&object);
    bench.0.only_tells = true;
    bench.want(&[condition(false, "bad")]);
    let write = bench.write();
    bench.0.written(write);
    // It changes, and nothing of what was told is on it.
    bench.0.put(&object);
    bench.want(&[condition(false, "bad")]);
    assert_eq!(bench.next(), Next::Wait(None));
    bench.want(&[condition(false, "worse")]);
    assert_eq!(bench.write().conditions[0]["message"], "worse");
    // Another object of the same name.
    bench.0.put(&policy("2", json!([])));
    assert_eq!(bench.write().uid, "2");
}

/// Takes what it is given, or fails.
struct Writer(Mutex<Vec<Result<u64, WriteError>>>);

impl ObjectWriter for Writer {
    fn patch_annotation(
        &self,
        _: &ObjectKey,
        _: &str,
        _: &str,
        _: Option<&str>,
    ) -> futures_util::future::BoxFuture<'static, Result<u64, WriteError>> {
        unreachable!("a status is no annotation")
    }

    fn write_status(
        &self,
        _: &ObjectKey,
        _: &str,
        _: object_store::StatusWrite,
    ) -> futures_util::future::BoxFuture<'static, Result<u64, WriteError>> {
        let result = self.0.lock().unwrap().pop();
        Box::pin(async move { result.unwrap_or(Ok(1)) })
    }
}

#[tokio::test(start_paused = true)]
async fn writes_are_counted_by_what_became_of_them() {
    let (conditions, object) = (Conditions::new(true), policy("1", json!([])));
    let metrics = ControlPlaneMetrics::new("1.0");
    let failed = WriteError::Remote {
        key: object.key(),
        problem: "busy".to_owned(),
    };
    let tell = Tell {
        writer: Some(Arc::new(Writer(Mutex::new(vec![Err(failed)])))),
        events: None,
        metrics: metrics.clone(),
    };
    conditions.apply(&[StoreChange::Put(object.clone())]);
    conditions.want(BTreeMap::from([(object.key(), vec![condition(true, "good")])]));
    tokio::spawn(conditions.write(tell));
    for (result, count) in [("failed", 1), ("written", 1)] {
        let line = format!("ztunnel_control_plane_status_writes_total{{result=\"{result}\"}} {count}");
        while !metrics.encode().contains(&line) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
