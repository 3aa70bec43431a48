use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let all: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let lookup = all.clone();
    from_environment(
        move |name| {
            lookup
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        },
        all,
    )
}

#[test]
fn defaults_are_those_of_existing_deployments() {
    let config = read(&[("NODE_NAME", "node-a")]).unwrap();
    assert_eq!(config.trust_domain, "cluster.local");
    assert_eq!(config.cluster_id, "Kubernetes");
    assert_eq!(config.discovery.address, "https://localhost:15012");
    assert_eq!(
        config.agent_socket,
        PathBuf::from("/var/run/ztunnel/ztunnel.sock")
    );
    assert_eq!(config.certificate_life, Duration::from_secs(86_400));
    assert_eq!(config.drain_deadline, Duration::from_secs(5));
    assert!(config.ipv6 && config.dns_capture && config.port_reuse && config.response_baggage);
    let in_cluster = read(&[("NODE_NAME", "n"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).unwrap();
    assert_eq!(
        in_cluster.authority.address,
        "https://istiod.istio-system.svc:15012"
    );
}

#[test]
fn a_missing_node_name_says_what_it_is_for() {
    assert_eq!(
        read(&[]).unwrap_err().to_string(),
        "NODE_NAME is not set; it says which workloads are on this node"
    );
}

#[test]
fn a_wrong_value_names_variable_value_and_what_is_accepted() {
    for (name, value) in [
        ("IPV6_ENABLED", "maybe"),
        ("SECRET_TTL", "tomorrow"),
        ("INSTANCE_IP", "10.0.0.300"),
        ("LOG_FORMAT", "xml"),
        ("ZTUNNEL_WORKER_THREADS", "120%"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30s"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "many"),
    ] {
        let error = read(&[("NODE_NAME", "n"), (name, value)])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("{name}={value:?} cannot be used: ")),
            "{error}"
        );
    }
}

#[test]
fn the_drain_fits_into_the_grace_period() {
    for (grace, seconds) in [("30", 25), ("10", 9), ("2", 1), ("1", 1)] {
        let config = read(&[("NODE_NAME", "n"), ("TERMINATION_GRACE_PERIOD_SECONDS", grace)]).unwrap();
        assert_eq!(config.drain_deadline, Duration::from_secs(seconds), "{grace}");
    }
}

#[test]
fn addresses_without_scheme_and_headers_and_metadata_are_taken() {
    let config = read(&[
        ("NODE_NAME", "n"),
        ("XDS_ADDRESS", "plane.example:15012"),
        ("XDS_HEADER_X-TENANT", "blue"),
        ("ISTIO_META_NETWORK", "west"),
    ])
    .unwrap();
    assert_eq!(config.discovery.address, "https://plane.example:15012");
    assert_eq!(
        config.discovery.headers,
        vec![("x-tenant".to_string(), "blue".to_string())]
    );
    assert_eq!(
        config.node_metadata.get("NETWORK").map(String::as_str),
        Some("west")
    );
}
