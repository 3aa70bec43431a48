use super::series::{BURST, COUNT_UP, FORGET, MAX_SERIES, ONE_MORE};
use super::*;

fn notice(pod: &str) -> Notice {
    Notice {
        regarding: Regarding {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: "demo".to_owned(),
            name: pod.to_owned(),
            uid: "uid".to_owned(),
        },
        reason: "CertificateRefused".to_owned(),
        action: "SignCertificate",
        note: "why".to_owned(),
    }
}

fn write(series: &mut Series, now: Instant) -> Write {
    match series.next(now) {
        Next::Write(write) => write,
        Next::Wait(until) => panic!("waits until {until:?}"),
    }
}

#[test]
fn the_same_again_is_counted_and_seldom_written() {
    let (mut series, begin) = (Series::default(), Instant::now());
    for _ in 0..1000 {
        series.record(notice("a"), begin);
    }
    let first = write(&mut series, begin);
    assert_eq!((first.count, first.notice), (1, notice("a")));
    let again = Write {
        name: first.name.clone(),
        notice: notice("a"),
        count: 1,
    };
    series.written(&again, false, begin);
    // It is counted up, and not before a minute has passed.
    assert_eq!(series.next(begin), Next::Wait(Some(begin + COUNT_UP)));
    let second = write(&mut series, begin + COUNT_UP);
    assert_eq!((second.count, &second.name), (1000, &first.name));
    series.written(&second, false, begin + COUNT_UP);
    assert_eq!(series.next(begin + 2 * COUNT_UP), Next::Wait(None));

    // Once Kubernetes has forgotten it, it begins anew.
    series.record(notice("a"), begin + 3 * COUNT_UP);
    let third = write(&mut series, begin + 3 * COUNT_UP);
    assert_eq!(third.count, 1001);
    series.written(&third, true, begin + 3 * COUNT_UP);
    assert_eq!(write(&mut series, begin + 3 * COUNT_UP).count, 1);
}

#[test]
fn different_ones_are_written_at_a_bounded_rate() {
    let (mut series, now) = (Series::default(), Instant::now());
    for index in 0..100 {
        series.record(notice(&index.to_string()), now);
    }
    for _ in 0..BURST {
        let written = write(&mut series, now);
        series.written(&written, false, now);
    }
    assert_eq!(series.next(now), Next::Wait(Some(now + ONE_MORE)));
    write(&mut series, now + ONE_MORE);
    assert!(matches!(series.next(now + ONE_MORE), Next::Wait(Some(_))));
}

#[test]
fn nothing_grows_without_end() {
    let (mut series, now) = (Series::default(), Instant::now());
    for index in 0..MAX_SERIES + 5 {
        series.record(notice(&index.to_string()), now);
    }
    assert_eq!(series.take_dropped(), 5);
    // What was written and is over makes room.
    for step in 0..MAX_SERIES {
        let at = now + ONE_MORE * u32::try_from(step).unwrap();
        let written = write(&mut series, at);
        series.written(&written, false, at);
    }
    let later = now + ONE_MORE * u32::try_from(MAX_SERIES).unwrap() + FORGET;
    series.record(notice("new"), later);
    assert_eq!(series.take_dropped(), 0);
    assert_eq!(write(&mut series, later).notice, notice("new"));
}

#[test]
fn notes_fit() {
    let mut note = "ü".repeat(MAX_NOTE);
    truncate(&mut note);
    assert!(note.len() <= MAX_NOTE && note.ends_with('…'));
}

#[tokio::test]
async fn events_reach_the_api_and_count() {
    use kube_api::{ApiServer, Options};
    let server = ApiServer::start(Options::default()).await.unwrap();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "demo" } });
    server.put(namespace).unwrap();
    let client = kube_source::ApiServer::at(&server.url(), None, None)
        .unwrap()
        .client();
    let (events, metrics) = (Events::default(), ControlPlaneMetrics::new("test"));
    let task = tokio::spawn(
        events
            .clone()
            .write(client.clone(), "cp-0".to_owned(), metrics.clone()),
    );
    events.record(notice("web"));
    let made = |code: u16| {
        let written = move |record: &kube_api::Record| record.uri.contains("/events") && record.code == code;
        let waiting = server.wait_for_records(move |records| records.iter().any(written));
        tokio::time::timeout(Duration::from_secs(30), waiting)
    };
    made(201).await.unwrap();
    let stored = server.store().all("events");
    let event = stored[0].value();
    assert_eq!(event["involvedObject"]["name"], "web");
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("CertificateRefused"))
    );
    assert_eq!(event["reportingComponent"], CONTROLLER);
    task.abort();

    // Another process tells of the same: there is one Event still.
    let again = Events::default();
    let task = tokio::spawn(again.clone().write(client, "cp-1".to_owned(), metrics));
    again.record(notice("web"));
    made(409).await.unwrap();
    assert_eq!(server.store().all("events").len(), 1);
    task.abort();
}
