use super::*;
use crate::testing::name_server;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Answers once it is let, and counts how often it was asked.
struct Held {
    asked: Arc<AtomicUsize>,
    let_go: Arc<Semaphore>,
    answer: Result<Vec<IpAddr>, String>,
}

impl Lookup for Held {
    fn lookup(&self, _: Arc<str>) -> BoxFuture<'static, Result<(Vec<IpAddr>, Instant), String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (let_go, answer) = (self.let_go.clone(), self.answer.clone());
        Box::pin(async move {
            let_go.acquire().await.unwrap().forget();
            Ok((answer?, Instant::now()))
        })
    }
}

fn held(answer: Result<Vec<IpAddr>, String>) -> (HostNames, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (asked, let_go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let names = HostNames::with(Held {
        asked: asked.clone(),
        let_go: let_go.clone(),
        answer,
    });
    (names, asked, let_go)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn many_who_need_a_name_cause_one_look_up() {
    let (names, asked, let_go) = held(Ok(vec![ip("192.0.2.1")]));
    let name: Arc<str> = "db.example".into();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (names, name) = (names.clone(), name.clone());
            tokio::spawn(async move { names.ask(&name).await })
        })
        .collect();
    assert!(names.resolved(&name).is_none());
    // One permit: a second look-up would wait for ever.
    let_go.add_permits(1);
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // The DNS said "now", and is kept a little all the same.
    names.ask(&name).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(
        names.resolved(&name).unwrap().unwrap().to_vec(),
        [ip("192.0.2.1")]
    );
}

#[tokio::test]
async fn one_who_gives_up_does_not_end_the_look_up_for_others() {
    let (names, asked, let_go) = held(Ok(vec![ip("192.0.2.1")]));
    let name: Arc<str> = "db.example".into();
    let given_up = tokio::spawn({
        let (names, name) = (names.clone(), name.clone());
        async move { names.ask(&name).await }
    });
    while asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    let_go.add_permits(1);
    names.ask(&name).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(names.resolved(&name).unwrap().is_ok());
}

#[tokio::test]
async fn a_failure_is_an_answer_too() {
    let (names, _, let_go) = held(Err("no such name".into()));
    let_go.add_permits(1);
    let name: Arc<str> = "db.example".into();
    names.ask(&name).await;
    assert_eq!(&*names.resolved(&name).unwrap().unwrap_err(), "no such name");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_is_never_answered_ends() {
    let (names, _, _let_go) = held(Ok(vec![]));
    let name: Arc<str> = "db.example".into();
    names.ask(&name).await;
    assert!(names.resolved(&name).unwrap().unwrap_err().contains("within"));
}

#[tokio::test]
async fn names_and_look_ups_are_bounded() {
    let (names, asked, let_go) = held(Ok(vec![ip("192.0.2.1")]));
    for number in 0..MAX_LOOKUPS {
        let (names, name) = (names.clone(), Arc::<str>::from(format!("{number}.example")));
        tokio::spawn(async move { names.ask(&name).await });
    }
    while asked.load(Ordering::Relaxed) < MAX_LOOKUPS {
        tokio::task::yield_now().await;
    }
    let one_more: Arc<str> = "more.example".into();
    names.ask(&one_more).await;
    assert!(
        names
            .resolved(&one_more)
            .unwrap()
            .unwrap_err()
            .contains("other names")
    );
    let_go.add_permits(MAX_LOOKUPS);

    let mut table = Table::default();
    let now = Instant::now();
    for number in 0..2 * MAX_NAMES as u64 {
        let name = format!("{number}.example").into();
        table.keep(
            name,
            Err("".into()),
            now + SHORTEST + Duration::from_millis(number),
        );
    }
    assert_eq!(table.known.len(), MAX_NAMES);
    assert!(
        table
            .fresh(&format!("{}.example", 2 * MAX_NAMES - 1), now)
            .is_some()
    );
}

#[tokio::test]
async fn the_nodes_name_servers_are_asked_for_both_families() {
    let names = HostNames::new(&[name_server(&[ip("192.0.2.7"), ip("2001:db8::7")]).await]);
    let name: Arc<str> = "db.example".into();
    names.ask(&name).await;
    let mut found = names.resolved(&name).unwrap().unwrap().to_vec();
    found.sort();
    assert_eq!(found, [ip("192.0.2.7"), ip("2001:db8::7")]);

    let missing: Arc<str> = "missing.example".into();
    names.ask(&missing).await;
    assert!(names.resolved(&missing).unwrap().is_err());
}

#[tokio::test]
async fn without_a_name_server_the_reason_says_so() {
    let names = HostNames::new(&[]);
    let name: Arc<str> = "db.example".into();
    names.ask(&name).await;
    assert!(
        names
            .resolved(&name)
            .unwrap()
            .unwrap_err()
            .contains("resolv.conf")
    );
}
