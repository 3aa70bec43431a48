use super::*;

fn line<'a>(text: &'a str, begins: &str) -> &'a str {
    let found = text.lines().find(|line| line.starts_with(begins));
    found.unwrap_or_else(|| panic!("{begins} is missing in\n{text}"))
}

#[test]
fn what_is_counted_is_there_under_the_names_of_dashboards() {
    let metrics = ControlPlaneMetrics::new("1.2.3");
    metrics.pushed("Address", 5_000, Duration::from_millis(2));
    metrics.pushed("Address", 200, Duration::from_millis(2));
    metrics.pushed("of no known type", 1, Duration::ZERO);
    metrics.rejected("Authorization");
    metrics.certificate_refused("token_expired", true);
    metrics.compiled(Duration::from_millis(10), Duration::from_millis(40));
    let text = metrics.encode();
    assert_eq!(
        line(&text, "istio_build"),
        "istio_build{component=\"control-plane\",tag=\"1.2.3\"} 1"
    );
    assert_eq!(
        line(&text, "pilot_xds_pushes_total{type=\"Address\""),
        "pilot_xds_pushes_total{type=\"Address\"} 2"
    );
    assert_eq!(
        line(&text, "pilot_xds_pushes_total{type=\"other\""),
        "pilot_xds_pushes_total{type=\"other\"} 1"
    );
    let sizes = "pilot_xds_config_size_bytes";
    assert_eq!(
        line(&text, &format!("{sizes}_sum{{type=\"Address\"")),
        format!("{sizes}_sum{{type=\"Address\"}} 5200.0")
    );
    assert_eq!(
        line(&text, &format!("{sizes}_bucket{{le=\"256.0\",type=\"Address\"")),
        format!("{sizes}_bucket{{le=\"256.0\",type=\"Address\"}} 1")
    );
    assert_eq!(
        line(&text, "ztunnel_control_plane_compile_time_sum"),
        "ztunnel_control_plane_compile_time_sum 0.04"
    );
    assert_eq!(
        line(&text, "citadel_server_authentication_failure_count_total"),
        "citadel_server_authentication_failure_count_total 1"
    );
    assert!(text.ends_with("# EOF\n"));
}

fn watch(state: &'static str, failing: bool) -> Watch {
    Watch {
        kind: "Pod".to_owned(),
        state,
        failing,
        unreadable: 0,
    }
}

#[test]
fn what_is_gone_is_no_longer_there() {
    let metrics = ControlPlaneMetrics::new("1");
    let mut state = ControlPlaneState {
        proxies: vec![("1.0".to_owned(), 3), ("1.1".to_owned(), 1)],
        watches: vec![watch("waiting", true)],
        leader: true,
        ..ControlPlaneState::default()
    };
    metrics.set(&state);
    assert_eq!(
        line(&metrics.encode(), "pilot_xds{version=\"1.0\""),
        "pilot_xds{version=\"1.0\"} 3"
    );
    state.proxies.remove(0);
    state.watches = vec![watch("present", false)];
    metrics.set(&state);
    let text = metrics.encode();
    assert!(!text.contains("version=\"1.0\"") && text.contains("pilot_xds{version=\"1.1\"} 1"));
    assert!(!text.contains("waiting\"") && text.contains("present"));
    assert!(text.contains("ztunnel_control_plane_watch_failing{kind=\"Pod\"} 0"));
    assert!(text.contains("ztunnel_control_plane_leader 1"));
}
