mod eviction;
mod scrape;

use std::collections::HashSet;
use std::thread;

use super::process::max_descriptors;
use super::*;

fn workload(name: &str) -> WorkloadLabels {
    WorkloadLabels {
        workload: name.into(),
        namespace: "shop".into(),
        principal: format!("spiffe://cluster.local/ns/shop/sa/{name}").into(),
        canonical_service: name.into(),
        canonical_revision: "v1".into(),
        app: name.into(),
        version: "v1".into(),
        cluster: "Kubernetes".into(),
        region: "eu".into(),
        zone: Label::unknown(),
    }
}

fn labels(reporter: Reporter, source: &str, destination: &str) -> TrafficLabels {
    TrafficLabels {
        source: workload(source),
        destination: workload(destination),
        destination_service: "web.shop.svc.cluster.local".into(),
        destination_service_namespace: "shop".into(),
        destination_service_name: "web".into(),
        connection_security_policy: SecurityPolicy::MutualTls,
        ..TrafficLabels::new(reporter)
    }
}

fn metrics() -> Metrics {
    Metrics::new(MetricsSettings {
        version: "1.2.3".into(),
        ..MetricsSettings::default()
    })
}

/// The value of the only line that begins with `name{` or `name ` and contains every part.
fn value(text: &str, name: &str, parts: &[&str]) -> Option<String> {
    assert_no_series_twice(text);
    let mut found = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && parts.iter().all(|part| line.contains(part))
    });
    let line = found.next()?;
    assert_eq!(found.next(), None, "{name} {parts:?} is ambiguous");
    Some(line.rsplit(' ').next().unwrap().to_owned())
}

/// A scraper that meets a series twice drops one, or takes them by turns.
fn assert_no_series_twice(text: &str) {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut seen = HashSet::new();
    for name_and_labels in series.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)) {
        assert!(seen.insert(name_and_labels), "twice: {name_and_labels}");
    }
}

fn label_names(line: &str) -> Vec<&str> {
    let (_, labels) = line.split_once('{').unwrap();
    labels
        .split("\",")
        .filter_map(|label| label.split("=\"").next())
        .map(|l| l.trim_end_matches('}'))
        .collect()
}

const TRAFFIC_LABELS: [&str; 23] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

#[test]
fn traffic_is_counted_under_the_names_that_dashboards_expect() {
    let metrics = metrics();
    let labels = labels(Reporter::Destination, "client", "web");
    metrics.opened(&labels).closed(ResponseFlags::None, 100, 7);
    metrics.opened(&labels).closed(ResponseFlags::Denied, 3, 0);
    metrics.failed(&labels, ResponseFlags::TlsFailure);
    let text = metrics.encode();
    let of = |name: &str, flags: &str| value(&text, name, &[&format!("response_flags=\"{flags}\"")]);
    assert_eq!(
        of("istio_tcp_connections_opened_total", "-").as_deref(),
        Some("2")
    );
    // Closed where it was opened, whatever the flags.
    assert_eq!(
        of("istio_tcp_connections_closed_total", "-").as_deref(),
        Some("2")
    );
    assert_eq!(of("istio_tcp_connections_closed_total", "DENY"), None);
    assert_eq!(of("istio_tcp_received_bytes_total", "-").as_deref(), Some("100"));
    assert_eq!(of("istio_tcp_sent_bytes_total", "-").as_deref(), Some("7"));
    assert_eq!(of("istio_tcp_received_bytes_total", "DENY").as_deref(), Some("3"));
    assert_eq!(
        of("istio_tcp_connections_failed_total", "DENY").as_deref(),
        Some("1")
    );
    assert_eq!(
        of("istio_tcp_connections_failed_total", "TLS_FAILURE").as_deref(),
        Some("1")
    );
    assert_eq!(of("istio_tcp_connections_failed_total", "-"), None);
    assert_eq!(of("istio_tcp_connections_closed_total", "TLS_FAILURE"), None);

    for family in [
        "istio_tcp_connections_opened_total{",
        "istio_tcp_connections_closed_total{",
        "istio_tcp_received_bytes_total{",
        "istio_tcp_sent_bytes_total{",
        "istio_tcp_connections_failed_total{",
    ] {
        let line = text.lines().find(|line| line.starts_with(family)).expect(family);
        assert_eq!(label_names(line), TRAFFIC_LABELS);
    }
    let line = text
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total{"))
        .unwrap();
    for label in [
        r#"reporter="destination""#,
        r#"source_principal="spiffe://cluster.local/ns/shop/sa/client""#,
        r#"destination_workload="web""#,
        r#"request_protocol="tcp""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
}

#[test]
fn what_is_missing_reads_unknown() {
    let metrics = metrics();
    let _open = metrics.opened(&TrafficLabels::new(Reporter::Source));
    let text = metrics.encode();
    let line = text
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total{"))
        .unwrap();
    assert_eq!(line.matches("=\"unknown\"").count(), 20, "{line}");
    assert_eq!(Label::new("").as_str(), "unknown");
    assert_eq!(Label::from(None::<&str>).as_str(), "unknown");
    assert_eq!(Label::from(Some("x")).as_str(), "x");
}

#[test]
fn locality_is_published_only_when_wanted() {
    let labels = labels(Reporter::Source, "a", "b");
    let plain = metrics();
    let _open = plain.opened(&labels);
    assert!(!plain.encode().contains("region"));
    let wide = Metrics::new(MetricsSettings {
        locality_labels: true,
        ..MetricsSettings::default()
    });
    let _open = wide.opened(&labels);
    let mut elsewhere = labels.clone();
    elsewhere.destination.zone = "eu-1".into();
    let _other = wide.opened(&elsewhere);
    let text = wide.encode();
    assert_no_series_twice(&text);
    assert_eq!(text.matches("destination_zone=\"eu-1\"").count(), 2, "{text}");
    assert!(
        text.contains(r#"source_region="eu",source_zone="unknown",destination_region="eu""#),
        "{text}"
    );
}

#[test]
fn pods_that_differ_in_what_is_not_published_share_a_series() {
    let metrics = metrics();
    let in_zone = |source: &str, destination: &str| {
        let mut labels = labels(Reporter::Source, "a", "b");
        labels.source.zone = source.into();
        labels.destination.zone = destination.into();
        labels
    };
    let _open = metrics.opened(&in_zone("one", "one"));
    drop(metrics.opened(&in_zone("two", "one")));
    drop(metrics.opened(&in_zone("one", "two")));
    metrics.on_demand_dns(&in_zone("one", "one").source, "host");
    metrics.on_demand_dns(&in_zone("two", "one").source, "host");
    let text = metrics.encode();
    let of = |name: &str| value(&text, name, &["source_workload=\"a\""]);
    assert_eq!(of("istio_tcp_connections_opened_total").as_deref(), Some("3"));
    assert_eq!(of("istio_tcp_connections_closed_total").as_deref(), Some("2"));
    assert_eq!(of("istio_on_demand_dns_total").as_deref(), Some("2"));
}

#[test]
fn series_beyond_the_cap_fold_into_one_and_are_counted() {
    let metrics = Metrics::new(MetricsSettings {
        series_limit: 3,
        ..MetricsSettings::default()
    });
    for client in 0..10 {
        let labels = labels(Reporter::Source, &format!("client-{client}"), "web");
        metrics.opened(&labels).closed(ResponseFlags::None, 1, 1);
    }
    let text = metrics.encode();
    let series = text
        .lines()
        .filter(|l| l.starts_with("istio_tcp_connections_opened_total{"))
        .count();
    assert_eq!(series, 4);
    let overflow = [
        "source_workload=\"overflow\"",
        "destination_principal=\"overflow\"",
        "reporter=\"source\"",
    ];
    assert_eq!(
        value(&text, "istio_tcp_connections_opened_total", &overflow).as_deref(),
        Some("7")
    );
    assert_eq!(
        value(&text, "istio_tcp_received_bytes_total", &overflow).as_deref(),
        Some("7")
    );
    let folded = value(
        &text,
        "ztunnel_metric_series_folded_total",
        &["metric=\"istio_tcp\""],
    );
    assert_eq!(folded.as_deref(), Some("7"));

    // Reasons that come from elsewhere are capped too.
    for reason in 0..1000 {
        metrics.refused(Reporter::Source, &reason.to_string());
    }
    let text = metrics.encode();
    let series = text
        .lines()
        .filter(|l| l.starts_with("ztunnel_refusals_total{"))
        .count();
    assert_eq!(series, family::SMALL_SERIES_LIMIT + 1);
    assert_eq!(
        value(&text, "ztunnel_refusals_total", &["reason=\"overflow\""]).as_deref(),
        Some("800")
    );
}

#[test]
fn sockets_are_counted_while_their_guard_lives() {
    let metrics = metrics();
    let one = metrics.open_socket(Reporter::Source);
    let other = metrics.open_socket(Reporter::Source);
    let open = |reporter| value(&metrics.encode(), "istio_tcp_sockets_open", &[reporter]).unwrap();
    assert_eq!(
        (open("source"), open("destination")),
        ("2".to_owned(), "0".to_owned())
    );
    drop(one);
    assert_eq!(open("source"), "1");
    drop(other);
    assert_eq!(open("source"), "0");
}

#[test]
fn the_others_have_their_names_and_labels() {
    let metrics = metrics();
    metrics.xds_message("type.googleapis.com/istio.workload.Address", 1000);
    metrics.xds_terminated("Reconnect");
    metrics.set_proxies(3, 1);
    metrics.proxy_started();
    metrics.proxy_stopped();
    metrics.refused(Reporter::Destination, "policy-denied");
    metrics.handshake_failed(Reporter::Source, "expired");
    metrics.closed_early(Reporter::Destination, "drain");
    metrics.denied_by_unknown_policy();
    metrics.dry_run_decided("shop/try", "deny");
    metrics.revoked(Reporter::Destination);
    metrics.set_buffers(1, 2, 3);
    metrics.set_disk_state_age(Some(Duration::from_secs(90)));
    metrics.on_demand_dns(&workload("client"), "db.example.com");
    metrics.set_certificates(CertificateState::Valid, 4);
    metrics.set_certificates(CertificateState::Valid, 5);
    let dns = DnsLabels {
        request_query_type: "A".into(),
        request_protocol: "udp".into(),
        source_canonical_service: "web".into(),
        source_canonical_revision: Label::unknown(),
    };
    metrics.dns_request(&dns);
    metrics.dns_upstream_request(&dns);
    metrics.dns_upstream_failure(&dns);
    metrics.own_certificate_revoked();
    metrics.dns_upstream_answered(&dns, Duration::from_millis(5));
    let text = metrics.encode();
    let dns_labels = r#"{request_query_type="A",request_protocol="udp",source_canonical_service="web",source_canonical_revision="unknown""#;
    for line in [
        r#"istio_build{component="ztunnel",tag="1.2.3"} 1"#.to_owned(),
        r#"istio_xds_message_total{url="type.googleapis.com/istio.workload.Address"} 1"#.to_owned(),
        r#"istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 1000"#.to_owned(),
        r#"istio_xds_connection_terminations_total{reason="Reconnect"} 1"#.to_owned(),
        "workload_manager_active_proxy_count 3".to_owned(),
        "workload_manager_pending_proxy_count 1".to_owned(),
        "workload_manager_proxies_started_total 1".to_owned(),
        "workload_manager_proxies_stopped_total 1".to_owned(),
        r#"ztunnel_refusals_total{reporter="destination",reason="policy-denied"} 1"#.to_owned(),
        r#"ztunnel_handshake_failures_total{reporter="source",reason="expired"} 1"#.to_owned(),
        r#"ztunnel_connections_closed_early_total{reporter="destination",reason="drain"} 1"#.to_owned(),
        r#"ztunnel_certificates{state="valid"} 5"#.to_owned(),
        "ztunnel_unknown_policy_denials_total 1".to_owned(),
        r#"ztunnel_dry_run_decisions_total{policy="shop/try",verdict="deny"} 1"#.to_owned(),
        "ztunnel_log_lines_dropped_total 0".to_owned(),
        r#"istio_tcp_sockets_open{reporter="source"} 0"#.to_owned(),
        r#"istio_crl_policy_rejections_total{reporter="destination"} 1"#.to_owned(),
        r#"istio_crl_untracked_connections_total{reporter="source"} 0"#.to_owned(),
        "ztunnel_own_certificates_revoked_total 1".to_owned(),
        "ztunnel_state_from_disk_age_seconds 90".to_owned(),
        "ztunnel_buffered_bytes 1".to_owned(),
        "ztunnel_promised_window_bytes 2".to_owned(),
        "ztunnel_buffered_bytes_limit 3".to_owned(),
        concat!(
            r#"istio_on_demand_dns_total{source_workload="client",source_canonical_service="client","#,
            r#"source_canonical_revision="v1",source_workload_namespace="shop","#,
            r#"source_principal="spiffe://cluster.local/ns/shop/sa/client",source_app="client","#,
            r#"source_version="v1",source_cluster="Kubernetes",hostname="db.example.com"} 1"#
        )
        .to_owned(),
        format!("istio_dns_requests_total{dns_labels}}} 1"),
        format!("istio_dns_upstream_requests_total{dns_labels}}} 1"),
        format!("istio_dns_upstream_failures_total{dns_labels}}} 1"),
        format!("istio_dns_upstream_request_duration_seconds_count{dns_labels}}} 1"),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    let bounds: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("istio_dns_upstream_request_duration_seconds_bucket"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(bounds, ["0.0005", "0.001", "0.01", "0.1", "1.0", "5.0", "+Inf"]);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn all_but_the_core_metrics_are_marked_unstable() {
    let core = [
        "istio_build",
        "istio_tcp_connections_opened",
        "istio_tcp_connections_closed",
    ];
    let core = [&core[..], &["istio_tcp_received_bytes", "istio_tcp_sent_bytes"]].concat();
    let text = metrics().encode();
    let help: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .collect();
    assert!(help.len() > 15);
    for line in help {
        let (name, help) = line.split_once(' ').unwrap();
        assert_eq!(help.contains("unstable"), !core.contains(&name), "{line}");
    }
}

#[test]
fn label_values_cannot_forge_lines() {
    let metrics = metrics();
    metrics.refused(Reporter::Source, "x\"} 1\nforged_total 1\n\\");
    let text = metrics.encode();
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    let long = "ä".repeat(MAX_LABEL_BYTES);
    assert_eq!(Label::new(&long).as_str().len(), MAX_LABEL_BYTES);
}

#[test]
fn the_process_and_its_runtime_are_described() {
    let metrics = metrics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    assert!(!metrics.encode().contains("tokio_num_workers"));
    metrics.observe_runtime(runtime.handle());
    let text = metrics.encode();
    assert_eq!(value(&text, "tokio_num_workers", &[]).as_deref(), Some("2"));
    assert!(value(&text, "tokio_worker_park_count", &["worker=\"1\""]).is_some());
    let number = |name: &str| value(&text, name, &[]).unwrap().parse::<u64>().unwrap();
    assert!(number("process_open_fds") >= 3);
    assert!(number("process_max_fds") >= number("process_open_fds"));
    assert_eq!(
        max_descriptors("Max open files            1024                 4096  files\n"),
        Some(1024)
    );
    assert_eq!(
        max_descriptors("Max open files            unlimited            x  files\n"),
        None
    );
}

#[test]
fn counts_from_many_threads_add_up() {
    let metrics = metrics();
    thread::scope(|scope| {
        for thread in 0..4 {
            let metrics = &metrics;
            scope.spawn(move || {
                for round in 0..1000 {
                    let labels = labels(Reporter::Source, &format!("client-{}", round % 10), "web");
                    drop(metrics.opened(&labels));
                    if thread == 0 && round % 100 == 0 {
                        metrics.encode();
                    }
                }
            });
        }
    });
    let text = metrics.encode();
    let counts: u64 = text
        .lines()
        .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counts, 4000);
}
