use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::agent;
use crate::frame::{decode_answer, encode_request};

fn info() -> PodInfo {
    PodInfo {
        name: "p".into(),
        namespace: "n".into(),
        service_account: "s".into(),
    }
}

fn add(uid: &str) -> Request {
    Request::Add {
        uid: uid.into(),
        info: info(),
    }
}

fn uid(uid: &str) -> String {
    uid.into()
}

/// Hands a request over and acknowledges it.
fn take(connection: &mut Connection, request: &Request, descriptors: usize) -> Event {
    let received = connection
        .received(&encode_request(request).unwrap(), descriptors)
        .unwrap();
    let Received::Event(event) = received else {
        panic!("refused: {received:?}")
    };
    let answer = connection.answer(Ok(())).unwrap();
    assert_eq!(decode_answer(&answer), Ok(Ok(())));
    event
}

/// Hands a request over that is to be refused, and checks that the connection goes on.
fn refused(connection: &mut Connection, record: &[u8], descriptors: usize) -> Violation {
    let Received::Refused { answer, violation } = connection.received(record, descriptors).unwrap() else {
        panic!("not refused")
    };
    assert_eq!(decode_answer(&answer), Ok(Err(violation.to_string())));
    assert_eq!(connection.answer(Ok(())), None, "it is answered already");
    violation
}

#[test]
fn the_snapshot_names_what_is_served() {
    let (mut connection, hello) = Connection::new();
    assert_eq!(hello, [0x08, 1]);
    assert_eq!(
        take(&mut connection, &add("a"), 1),
        Event::Add {
            uid: uid("a"),
            info: info()
        }
    );
    take(&mut connection, &add("gone"), 1);
    let keep = Request::Keep { uid: uid("k") };
    assert_eq!(take(&mut connection, &keep, 0), Event::Keep { uid: uid("k") });
    let del = Request::Del { uid: uid("gone") };
    assert_eq!(take(&mut connection, &del, 0), Event::Del { uid: uid("gone") });
    assert!(!connection.snapshot_taken());
    let named = BTreeSet::from([uid("a"), uid("k")]);
    assert_eq!(
        take(&mut connection, &Request::SnapshotSent, 0),
        Event::SnapshotSent { named }
    );
    assert!(connection.snapshot_taken());
    take(&mut connection, &add("later"), 1);
}

#[test]
fn descriptors_are_counted() {
    let (mut connection, _) = Connection::new();
    for (request, wrong, expected) in [
        (add("a"), 0, 1),
        (add("a"), 2, 1),
        (Request::Keep { uid: uid("a") }, 1, 0),
        (Request::Del { uid: uid("a") }, 1, 0),
        (Request::SnapshotSent, 1, 0),
    ] {
        let violation = refused(&mut connection, &encode_request(&request).unwrap(), wrong);
        assert!(
            matches!(violation, Violation::Descriptors { found, expected: must, .. }
                if found == wrong && must == expected),
            "{violation:?}"
        );
    }
    // None of them had an effect.
    assert_eq!(
        take(&mut connection, &Request::SnapshotSent, 0),
        Event::SnapshotSent {
            named: BTreeSet::new()
        }
    );
}

#[test]
fn mistakes_of_order_are_refused_and_survived() {
    let (mut connection, _) = Connection::new();
    take(&mut connection, &Request::SnapshotSent, 0);
    let again = encode_request(&Request::SnapshotSent).unwrap();
    assert_eq!(refused(&mut connection, &again, 0), Violation::SecondSnapshot);
    let keep = encode_request(&Request::Keep { uid: uid("k") }).unwrap();
    assert_eq!(
        refused(&mut connection, &keep, 0),
        Violation::KeepAfterSnapshot { uid: uid("k") }
    );
    let no_info = [0x0a, 3, 0x0a, 1, b'u'];
    assert!(matches!(
        refused(&mut connection, &no_info, 1),
        Violation::Frame(FrameError::NoInfo { .. })
    ));
    take(&mut connection, &add("a"), 1);
}

#[test]
fn what_is_not_understood_ends_the_connection() {
    let (mut connection, _) = Connection::new();
    assert!(matches!(
        connection.received(&[0xff, 0xff], 0),
        Err(ProtocolError::Frame(_))
    ));
    assert!(matches!(
        connection.received(&[0; MAX_RECORD + 1], 0),
        Err(ProtocolError::Frame(FrameError::TooLong { .. }))
    ));
    let record = encode_request(&add("a")).unwrap();
    connection.received(&record, 1).unwrap();
    assert_eq!(connection.received(&record, 1), Err(ProtocolError::Unanswered));
}

#[test]
fn a_snapshot_is_bounded() {
    let (mut connection, _) = Connection::new();
    for pod in 0..MAX_SNAPSHOT_PODS {
        take(&mut connection, &add(&pod.to_string()), 1);
    }
    let one_more = encode_request(&add("more")).unwrap();
    assert_eq!(refused(&mut connection, &one_more, 1), Violation::TooManyPods);
    // One that is named already may come again, and after the snapshot there is nothing to remember.
    take(&mut connection, &add("0"), 1);
    take(&mut connection, &Request::SnapshotSent, 0);
    take(&mut connection, &add("more"), 1);
}

proptest! {
    #[test]
    fn garbage_never_panics(
        records in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..64), 0..3usize), 0..20)
    ) {
        let (mut connection, _) = Connection::new();
        for (record, descriptors) in records {
            if matches!(connection.received(&record, descriptors), Ok(Received::Event(_))) {
                prop_assert!(connection.answer(Err("no")).is_some());
            }
        }
    }

    /// Whatever happens to pods, our two ends agree in the end about which are served.
    #[test]
    fn both_ends_agree(
        snapshot in proptest::collection::btree_set(0..6u8, 0..6),
        changes in proptest::collection::vec((any::<bool>(), 0..6u8, 0..3usize), 0..40),
    ) {
        let now = Instant::now();
        let name = |pod: &u8| pod.to_string();
        let mut wanted: BTreeSet<String> = snapshot.iter().map(name).collect();
        let pods = snapshot.iter().map(|pod| agent::SnapshotPod::Add { uid: name(pod), info: info() });
        let mut agent = agent::Connection::new(pods, now);
        let (mut proxy, hello) = Connection::new();
        agent.received(&hello).unwrap();
        // What an earlier connection left behind.
        let mut served = BTreeSet::from([uid("0"), uid("stale")]);

        let exchange = |agent: &mut agent::Connection, proxy: &mut Connection, served: &mut BTreeSet<String>| {
            let Some(outgoing) = agent.next_request(now) else { return false };
            let outgoing = outgoing.unwrap();
            let descriptors = usize::from(outgoing.descriptor_of.is_some());
            match proxy.received(&outgoing.bytes, descriptors).unwrap() {
                Received::Event(Event::Add { uid, .. }) => { served.insert(uid); }
                Received::Event(Event::Del { uid }) => { served.remove(&uid); }
                Received::Event(Event::Keep { .. }) => {}
                Received::Event(Event::SnapshotSent { named }) => *served = named,
                Received::Refused { violation, .. } => panic!("{violation}"),
            }
            agent.received(&proxy.answer(Ok(())).unwrap()).unwrap();
            true
        };

        for (joins, pod, exchanges) in changes {
            if joins {
                wanted.insert(name(&pod));
                agent.add(&name(&pod), info()).unwrap();
            } else {
                wanted.remove(&name(&pod));
                agent.remove(&name(&pod));
            }
            for _ in 0..exchanges {
                exchange(&mut agent, &mut proxy, &mut served);
            }
        }
        while exchange(&mut agent, &mut proxy, &mut served) {}
        prop_assert!(agent.is_settled());
        prop_assert_eq!(served, wanted);
    }
}
