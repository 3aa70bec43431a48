use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// A scrape whose reader takes the first piece and then nothing until it is told to.
struct Blocked {
    began: SyncSender<()>,
    release: Receiver<()>,
    text: String,
}

impl fmt::Write for Blocked {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // One line of each family is enough to hold every collector up once.
        if self.text.is_empty() || piece.contains("_total") || piece.contains("seconds") {
            let _ = self.began.try_send(());
            // Once the test has gone on it is blocked no more.
            let _ = self.release.recv();
        }
        self.text.push_str(piece);
        Ok(())
    }
}

#[test]
fn whoever_counts_never_waits_for_a_scrape() {
    let metrics = metrics();
    let known = labels(Reporter::Source, "client", "web");
    let count = |round: usize| {
        drop(metrics.opened(&known));
        drop(metrics.opened(&labels(Reporter::Source, &format!("new-{round}"), "web")));
        metrics.refused(Reporter::Source, "no_endpoint");
        metrics.connected(Reporter::Source, Duration::from_millis(1));
        metrics.dns_upstream_answered(&DnsLabels::default(), Duration::from_millis(1));
        metrics.on_demand_dns(&workload("client"), "host");
        metrics.sweep(|_| {});
    };
    count(0);
    let (began, has_begun) = sync_channel(1);
    let (step, release) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let scrape = scope.spawn(|| {
            let mut reader = Blocked {
                began,
                release,
                text: String::new(),
            };
            metrics.encode_to(&mut reader).unwrap();
            reader.text
        });
        has_begun.recv().unwrap();
        // At whatever piece the scrape stands, all of this returns: would any of it wait, the test would hang.
        let mut round = 0;
        while !scrape.is_finished() {
            round += 1;
            count(round);
            let _ = step.try_send(());
        }
        assert!(round > 20, "the scrape was held up {round} times");
        let text = scrape.join().unwrap();
        assert!(text.ends_with("# EOF\n"));
    });
    let opened = value(
        &metrics.encode(),
        "istio_tcp_connections_opened_total",
        &["source_workload=\"client\""],
    );
    assert!(opened.unwrap().parse::<u64>().unwrap() > 20);
}

#[test]
fn a_reader_that_fails_ends_the_scrape() {
    struct Gone;
    impl fmt::Write for Gone {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    assert!(metrics().encode_to(&mut Gone).is_err());
}

#[test]
fn durations_fall_into_buckets_of_their_side() {
    let metrics = metrics();
    metrics.connected(Reporter::Source, Duration::from_micros(400));
    metrics.connected(Reporter::Source, Duration::from_millis(5));
    metrics.connected(Reporter::Source, Duration::from_secs(60));
    metrics.handshake_done(Reporter::Destination, Duration::from_millis(3));
    metrics.tunnel_found(Reporter::Source, Duration::ZERO);
    let text = metrics.encode();
    let of = |name: &str, parts: &[&str]| value(&text, name, parts).unwrap();
    let connect = "ztunnel_connect_duration_seconds";
    let bucket = |bound: &str| {
        of(
            &format!("{connect}_bucket"),
            &["reporter=\"source\"", &format!("le=\"{bound}\"")],
        )
    };
    assert_eq!(
        [
            bucket("0.0005"),
            bucket("0.0025"),
            bucket("0.005"),
            bucket("10.0"),
            bucket("+Inf")
        ],
        ["1", "1", "2", "2", "3"]
    );
    assert_eq!(of(&format!("{connect}_count"), &["source"]), "3");
    assert_eq!(of(&format!("{connect}_sum"), &["source"]), "60.0054");
    assert_eq!(of(&format!("{connect}_count"), &["destination"]), "0");
    assert_eq!(
        of("ztunnel_tls_handshake_duration_seconds_count", &["destination"]),
        "1"
    );
    assert_eq!(of("ztunnel_tunnel_wait_duration_seconds_count", &["source"]), "1");
}
