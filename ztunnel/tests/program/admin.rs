//! The admin pages.

use super::agent::is_served;
use super::running::{ADMIN, PROBES, Running, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quitting_by_request_ends_the_process_in_good_order() {
    let Some(mut proxy) = Running::start(&[("ENABLE_PROXY", "false")]).await else {
        return;
    };
    let refused = proxy.get(ADMIN, "/quitquitquit").await.unwrap();
    assert_eq!(refused.status, 405);
    #[cfg(not(feature = "jemalloc"))]
    {
        let heap = proxy.get(ADMIN, "/debug/pprof/heap").await.unwrap();
        assert_eq!(heap.status, 501);
        assert!(heap.text().contains("--features jemalloc"), "{}", heap.text());
    }
    let told = proxy.ask("POST", ADMIN, "/quitquitquit").await.unwrap();
    assert_eq!(told.status, 200);
    let ended = tokio::time::timeout(super::running::LIMIT, proxy.child.wait());
    let status = ended.await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
    assert!(proxy.log().contains("told to stop by POST /quitquitquit"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_of_the_processor_are_given_one_at_a_time_and_the_process_goes_on() {
    let Some(mut proxy) = Running::start(&[("ENABLE_PROXY", "false")]).await else {
        return;
    };
    for (method, page, status) in [
        ("GET", "/debug/pprof/profile?seconds=0", 400),
        ("GET", "/debug/pprof/profile?frequency=1001", 400),
        ("POST", "/debug/pprof/profile?seconds=1", 405),
    ] {
        let refused = proxy.ask(method, ADMIN, page).await.unwrap();
        assert_eq!(refused.status, status, "{method} {page}");
    }
    loop {
        let page = "/debug/pprof/profile?seconds=3&frequency=1000";
        let work = async {
            for _ in 0..20 {
                assert_eq!(proxy.get(ADMIN, "/config_dump").await.unwrap().status, 200);
            }
        };
        let (one, other, ()) = tokio::join!(proxy.get(ADMIN, page), proxy.get(ADMIN, page), work);
        let mut answers = [one.unwrap(), other.unwrap()];
        answers.sort_by_key(|answer| answer.status);
        let [profile, second] = answers;
        assert_eq!(profile.status, 200);
        // gzip, RFC 1952 section 2.3.1.
        assert_eq!(profile.body[..2], [0x1f, 0x8b]);
        // On a machine that stands still for long they come one after the other.
        if second.status != 200 {
            assert_eq!(second.status, 409);
            assert!(second.text().contains("already"), "{}", second.text());
            break;
        }
    }
    // The signal is not the end of it.
    assert!(proxy.child.kill(nix::sys::signal::Signal::SIGPROF).unwrap());
    let again = proxy.get(ADMIN, "/debug/pprof/profile?seconds=1").await.unwrap();
    assert_eq!(again.status, 200);
    assert_eq!(again.body[..2], [0x1f, 0x8b]);
    proxy.ask("POST", ADMIN, "/quitquitquit").await.unwrap();
    let ended = tokio::time::timeout(super::running::LIMIT, proxy.child.wait());
    assert!(ended.await.expect("it ends").unwrap().success());
}

#[cfg(feature = "jemalloc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_of_the_heap_are_given_once_they_are_switched_on() {
    const HEAP: &str = "/debug/pprof/heap";
    const SWITCH: &str = "/debug/pprof/heap/profiling";
    let Some(proxy) = Running::start(&[("ENABLE_PROXY", "false")]).await else {
        return;
    };
    for (method, page, status, words) in [
        ("GET", HEAP.to_owned(), 500, "activate=true"),
        ("GET", SWITCH.to_owned(), 200, "is not active"),
        (
            "POST",
            format!("{SWITCH}?activate=perhaps"),
            400,
            "true and false",
        ),
        ("DELETE", format!("{SWITCH}?activate=true"), 405, "POST"),
        ("POST", HEAP.to_owned(), 405, "GET"),
        ("GET", HEAP.to_owned(), 500, "not active"),
        ("POST", format!("{SWITCH}?activate=true"), 200, "is active"),
        ("POST", format!("{SWITCH}?activate=true"), 200, "is active"),
        ("GET", SWITCH.to_owned(), 200, "is active"),
    ] {
        let answer = proxy.ask(method, ADMIN, &page).await.unwrap();
        assert_eq!(answer.status, status, "{method} {page}: {}", answer.text());
        assert!(
            answer.text().contains(words),
            "{method} {page}: {}",
            answer.text()
        );
    }
    let profile = proxy.get(ADMIN, HEAP).await.unwrap();
    assert_eq!(profile.status, 200);
    // gzip, RFC 1952 section 2.3.1.
    assert_eq!(profile.body[..2], [0x1f, 0x8b]);
    // The whole program allocates with what is asked here.
    let resources = proxy.get(ADMIN, "/debug/resources").await.unwrap().text();
    let allocated = resources
        .split_once("\"allocatedBytes\": ")
        .and_then(|(_, rest)| {
            let digits = rest.split(|digit: char| !digit.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        });
    assert!(allocated > Some(100_000), "{resources}");

    let off = proxy
        .get(ADMIN, &format!("{SWITCH}?activate=false"))
        .await
        .unwrap();
    assert!(off.text().contains("is not active"), "{}", off.text());
    assert_eq!(proxy.get(ADMIN, HEAP).await.unwrap().status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_changes_while_it_runs() {
    // Somebody to miss: the attempt to reach the agent is a line of level warn, again and again.
    let Some(proxy) = Running::start(&[("RUST_LOG", "error")]).await else {
        return;
    };
    assert!(!proxy.log().contains("no node agent"), "{}", proxy.log());
    let shown = proxy.get(ADMIN, "/logging").await.unwrap().text();
    assert!(shown.starts_with("current log filter: error\n"), "{shown}");
    let changed = proxy.ask("POST", ADMIN, "/logging?level=info").await.unwrap();
    assert_eq!(changed.status, 200);
    eventually("lines of the new level", || async {
        proxy.log().contains("no node agent")
    })
    .await;
    let wrong = proxy.ask("POST", ADMIN, "/logging?level=loud").await.unwrap();
    assert_eq!(wrong.status, 400);
    let reset = proxy.ask("POST", ADMIN, "/logging?reset").await.unwrap();
    assert_eq!(reset.text(), "new log filter: error\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_disabled_is_ready_and_serves_nobody() {
    let directory = tempfile::tempdir().unwrap();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let agent = sys::seqpacket::Listener::bind(directory.path().join("agent")).unwrap();
    let proxy = Running::start_in(directory, &[("ENABLE_PROXY", "false")]).await;
    eventually("it is ready", || async {
        proxy.get(PROBES, "/healthz/ready").await.unwrap().status == 200
    })
    .await;
    assert!(proxy.log().contains("ENABLE_PROXY is false"));
    // Ready, and yet it has neither listeners nor asked for pods.
    assert!(!is_served(&proxy.network).await);
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(500), agent.accept()).await;
    assert!(nobody.is_err(), "it has connected to the node agent");
}
