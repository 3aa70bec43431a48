use super::*;
use crate::metrics::table::GRACE_SWEEPS;

/// Sweeps, finding all workloads but those of these names. Says how many series went.
fn sweep(metrics: &Metrics, gone: &[&str]) -> usize {
    metrics.sweep(|names| {
        for name in ["client", "web", "other"] {
            if !gone.contains(&name) {
                names.found("shop", name, name);
            }
        }
    })
}

fn has(metrics: &Metrics, workload: &str) -> bool {
    metrics.encode().contains(&format!("_workload=\"{workload}\""))
}

#[test]
fn series_of_a_workload_that_is_gone_expire_after_a_grace() {
    let metrics = metrics();
    drop(metrics.opened(&labels(Reporter::Source, "client", "web")));
    metrics.failed(
        &labels(Reporter::Destination, "other", "web"),
        ResponseFlags::Connect,
    );
    for _ in 1..GRACE_SWEEPS {
        assert_eq!(sweep(&metrics, &["client"]), 0, "within the grace");
    }
    assert_eq!(sweep(&metrics, &["client"]), 1);
    assert!(!has(&metrics, "client"));
    assert!(has(&metrics, "other"), "the others stay");
    let evicted = value(&metrics.encode(), "ztunnel_metric_series_evicted_total", &[]);
    assert_eq!(evicted.as_deref(), Some("1"));
    assert_eq!(
        sweep(&metrics, &["web"]),
        1,
        "a destination that is gone counts as well"
    );
}

#[test]
fn what_is_used_or_open_is_kept() {
    let metrics = metrics();
    let used = labels(Reporter::Source, "client", "web");
    let open = metrics.opened(&labels(Reporter::Destination, "client", "web"));
    for _ in 0..GRACE_SWEEPS * 3 {
        drop(metrics.opened(&used));
        assert_eq!(sweep(&metrics, &["client", "web"]), 0);
    }
    drop(metrics.opened(&used));
    open.closed(ResponseFlags::None, 1, 1);
    for _ in 1..GRACE_SWEEPS {
        assert_eq!(
            sweep(&metrics, &["client", "web"]),
            0,
            "the grace begins with the last close"
        );
    }
    let text = metrics.encode();
    let opened = value(&text, "istio_tcp_connections_opened_total", &["\"destination\""]);
    let closed = value(&text, "istio_tcp_connections_closed_total", &["\"destination\""]);
    assert_eq!((opened.as_deref(), closed.as_deref()), (Some("1"), Some("1")));
    assert_eq!(sweep(&metrics, &["client", "web"]), 2);
}

#[test]
fn names_that_stand_for_nobody_are_never_asked_for() {
    let metrics = metrics();
    drop(metrics.opened(&TrafficLabels::new(Reporter::Source)));
    for _ in 0..GRACE_SWEEPS * 2 {
        let evicted = metrics.sweep(|names| panic!("{names:?}"));
        assert_eq!(evicted, 0);
    }
    assert!(has(&metrics, "unknown"));
}

#[test]
fn eviction_makes_room_under_the_cap() {
    let metrics = Metrics::new(MetricsSettings {
        series_limit: 2,
        ..MetricsSettings::default()
    });
    drop(metrics.opened(&labels(Reporter::Source, "client", "web")));
    drop(metrics.opened(&labels(Reporter::Source, "client", "other")));
    for _ in 0..GRACE_SWEEPS {
        sweep(&metrics, &["other"]);
    }
    drop(metrics.opened(&labels(Reporter::Source, "client", "third")));
    assert!(has(&metrics, "third") && has(&metrics, "web"));
    assert!(!has(&metrics, "overflow"));
}

#[test]
fn dns_and_host_names_expire_too() {
    let metrics = metrics();
    metrics.on_demand_dns(&workload("client"), "db.example.com");
    metrics.dns_request(&DnsLabels {
        source_canonical_service: "client".into(),
        ..DnsLabels::default()
    });
    for _ in 1..GRACE_SWEEPS {
        assert_eq!(sweep(&metrics, &["client"]), 0);
    }
    assert_eq!(sweep(&metrics, &["client"]), 2);
    let text = metrics.encode();
    assert!(!text.contains("db.example.com") && !text.contains("istio_dns_requests_total{"));
}

#[test]
fn opened_less_closed_is_what_is_open_in_every_series_however_connections_end() {
    let seed: u64 = std::process::id().into();
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let metrics = Metrics::new(MetricsSettings {
        series_limit: 4,
        ..MetricsSettings::default()
    });
    let mut open = Vec::new();
    for _ in 0..2_000 {
        match random(3) {
            0 if !open.is_empty() => {
                let position = usize::try_from(random(open.len() as u64)).unwrap();
                let connection: crate::OpenConnection = open.swap_remove(position);
                let flags = ResponseFlags::ALL[usize::try_from(random(8)).unwrap()];
                connection.closed(flags, 1, 2);
            }
            1 => drop(metrics.opened(&labels(Reporter::Source, &format!("c{}", random(7)), "web"))),
            _ => open.push(metrics.opened(&labels(Reporter::Source, &format!("c{}", random(7)), "web"))),
        }
        sweep(&metrics, &["web"]);
    }
    let text = metrics.encode();
    let sum = |name: &str| -> u64 {
        text.lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    let open_now = u64::try_from(open.len()).unwrap();
    assert_eq!(
        sum("istio_tcp_connections_opened_total{") - sum("istio_tcp_connections_closed_total{"),
        open_now
    );
    drop(open);
    let text = metrics.encode();
    for line in text
        .lines()
        .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"))
    {
        let closed = line.replace("_opened_", "_closed_");
        assert!(
            text.lines().any(|found| found == closed),
            "{line} is not balanced"
        );
    }
}
