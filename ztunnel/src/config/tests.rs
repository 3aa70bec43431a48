use super::*;
use std::collections::BTreeSet;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    read_with(variables, None)
}

fn read_with(variables: &[(&str, &str)], mesh_config: Option<&str>) -> Result<Config, ConfigError> {
    let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    from_environment(variables.iter().map(pair), mesh_config)
}

#[test]
fn defaults_are_those_of_existing_deployments() {
    let config = read(&[("NODE_NAME", "node-a")]).unwrap();
    assert_eq!(config.trust_domain, "cluster.local");
    assert_eq!(config.cluster_id, "Kubernetes");
    assert_eq!(config.discovery.unwrap().address, "https://localhost:15012");
    assert_eq!(
        config.agent_socket,
        PathBuf::from("/var/run/ztunnel/ztunnel.sock")
    );
    assert_eq!(config.certificate_life, Duration::from_secs(86_400));
    assert_eq!(config.drain_deadline, Duration::from_secs(5));
    assert!(config.ipv6 && config.dns_capture && config.port_reuse && config.response_baggage);
    assert!(config.enable_proxy && config.localhost_app_tunnel && !config.on_demand);
    assert_eq!(config.mode, ProxyMode::Shared);
    assert_eq!(config.outbound_policy, OutboundPolicy::AllowAny);
    assert_eq!((config.admin_port, config.metrics_port), (15000, 15020));
    let account = hbone::budget::Budget::new(1 << 20).account();
    assert_eq!(config.max_buffered_bytes, None);
    for (ours, theirs) in [
        (config.http2.client(account.clone()), hbone::Settings::client()),
        (config.http2.server(account.clone()), hbone::Settings::server()),
    ] {
        assert_eq!(ours.stream_window, theirs.stream_window);
        assert_eq!(ours.connection_window, theirs.connection_window);
        assert_eq!(ours.max_frame, theirs.max_frame);
        assert_eq!(ours.max_streams, theirs.max_streams);
    }
    assert_eq!(config.sockets.mark, Some(1337));
    assert_eq!(config.sockets.keepalive, Some(sys::socket::Keepalive::default()));
    assert_eq!(
        config.dns_address,
        DnsAddress {
            ip: None,
            port: 15053
        }
    );
    let in_cluster = read(&[("NODE_NAME", "n"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).unwrap();
    assert_eq!(
        in_cluster.authority.unwrap().address,
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
        ("ENABLE_PROXY", "perhaps"),
        ("SECRET_TTL", "tomorrow"),
        ("INSTANCE_IP", "10.0.0.300"),
        ("LOG_FORMAT", "xml"),
        ("ZTUNNEL_WORKER_THREADS", "120%"),
        ("ZTUNNEL_RESOURCE_CPU_LIMIT", "a lot"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30s"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "many"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "0"),
        ("PROXY_MODE", "sidecar"),
        ("HTTP2_STREAM_WINDOW_SIZE", "1024"),
        ("HTTP2_CONNECTION_WINDOW_SIZE", "2147483648"),
        ("ZTUNNEL_MAX_BUFFERED_BYTES", "1000"),
        ("ZTUNNEL_MAX_BUFFERED_BYTES", "1Gi"),
        ("HTTP2_FRAME_SIZE", "16777216"),
        ("KEEPALIVE_TIME", "10ms"),
        ("KEEPALIVE_RETRIES", "1000"),
        ("PACKET_MARK", "blue"),
        ("PACKET_MARK", "0"),
        ("ENABLE_ORIG_SRC", "sometimes"),
        ("ISTIO_META_DNS_PROXY_ADDR", "15053"),
        ("ISTIO_METAJSON_LABELS", "{"),
        ("ZTUNNEL_OUTBOUND_POLICY", "DENY"),
        ("ZTUNNEL_STATE_MAX_AGE", "old"),
        ("FAKE_CA", "true"),
        ("XDS_ADDRESS", ""),
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
        ("ISTIO_METAJSON_LABELS", r#"{"app":"ztunnel"}"#),
    ])
    .unwrap();
    let discovery = config.discovery.unwrap();
    assert_eq!(discovery.address, "https://plane.example:15012");
    assert_eq!(
        discovery.headers,
        vec![("x-tenant".to_string(), "blue".to_string())]
    );
    assert_eq!(config.node_metadata["NETWORK"], "west");
    assert_eq!(config.node_metadata["LABELS"]["app"], "ztunnel");
}

#[test]
fn an_empty_address_turns_a_part_off() {
    let config = read(&[("NODE_NAME", "n"), ("CA_ADDRESS", "")]).unwrap();
    assert!(config.authority.is_none() && config.discovery.is_some());
    let local = [("NODE_NAME", "n"), ("LOCAL_XDS", "workloads: []")];
    assert!(read(&local).unwrap().discovery.is_none(), "nobody named one");
    let both = [local[0], local[1], ("XDS_ADDRESS", "plane.example:15012")];
    assert!(read(&both).unwrap().discovery.is_some());
}

#[test]
fn local_state_comes_from_one_place() {
    let node = ("NODE_NAME", "n");
    let (path, inline) = (("LOCAL_XDS_PATH", "/mesh.yaml"), ("LOCAL_XDS", "services: []"));
    let error = read(&[node, path, inline]).unwrap_err().to_string();
    assert!(
        error.contains("LOCAL_XDS_PATH and LOCAL_XDS are both set"),
        "{error}"
    );
    let file = read(&[node, path]).unwrap().local;
    assert_eq!(file, Some(LocalSource::File("/mesh.yaml".into())));
    let text = read(&[node, inline]).unwrap().local;
    assert_eq!(text, Some(LocalSource::Inline("services: []".into())));
}

#[test]
fn a_dedicated_proxy_names_its_workload_and_sets_no_mark() {
    let dedicated = ("PROXY_MODE", "dedicated");
    let missing = read(&[dedicated]).unwrap_err().to_string();
    assert!(missing.starts_with("PROXY_WORKLOAD_INFO is not set"), "{missing}");
    for wrong in ["web", "demo/web", "demo/web/web/1", "demo//web"] {
        let error = read(&[dedicated, ("PROXY_WORKLOAD_INFO", wrong)])
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("NAMESPACE/NAME/SERVICE-ACCOUNT"), "{error}");
    }
    let config = read(&[dedicated, ("PROXY_WORKLOAD_INFO", "demo/web-1/web")]).unwrap();
    let info = WorkloadInfo {
        namespace: "demo".into(),
        name: "web-1".into(),
        service_account: "web".into(),
    };
    assert_eq!(config.mode, ProxyMode::Dedicated(info));
    assert_eq!(config.sockets.mark, None);
}

#[test]
fn sockets_and_windows_follow_their_variables() {
    let config = read(&[
        ("NODE_NAME", "n"),
        ("PACKET_MARK", "0x53a"),
        ("KEEPALIVE_TIME", "30s"),
        ("KEEPALIVE_RETRIES", "3"),
        ("USER_TIMEOUT_ENABLED", "true"),
        ("HTTP2_STREAM_WINDOW_SIZE", "1048576"),
        ("ENABLE_ORIG_SRC", "false"),
        ("ISTIO_META_DNS_PROXY_ADDR", "127.0.0.2:5353"),
    ])
    .unwrap();
    let source = Some("10.0.0.1:0".parse().unwrap());
    let options = config.sockets.connect(source, Duration::from_secs(1));
    assert_eq!(options.mark, Some(0x53a));
    assert_eq!(options.source, None, "the application sees the proxy");
    let keepalive = options.keepalive.unwrap();
    assert_eq!((keepalive.time.as_secs(), keepalive.retries), (30, 3));
    assert!(keepalive.user_timeout);
    assert!(!config.sockets.listen(true, false, 1).transparent);
    assert_eq!(config.http2.stream_window, 1 << 20);
    assert_eq!(config.dns_address.port, 5353);
    let off = read(&[("NODE_NAME", "n"), ("KEEPALIVE_ENABLED", "false")]).unwrap();
    assert_eq!(off.sockets.keepalive, None);
}

#[test]
fn threads_follow_limit_request_and_share() {
    let threads = |values: &[(&str, &str)], concurrency| {
        let values = values
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let variables = Variables::new(values.collect(), BTreeMap::new());
        threads::worker_threads(&variables, concurrency, 16).unwrap()
    };
    const SET: &str = "ZTUNNEL_WORKER_THREADS";
    const LIMIT: &str = "ZTUNNEL_RESOURCE_CPU_LIMIT";
    const REQUEST: &str = "ZTUNNEL_RESOURCE_CPU_REQUEST";
    assert_eq!(threads(&[], None), 4, "a quarter");
    assert_eq!(threads(&[(REQUEST, "6")], None), 6);
    assert_eq!(
        threads(&[(LIMIT, "500m")], None),
        1,
        "a limit counts even below two"
    );
    assert_eq!(threads(&[(LIMIT, "2"), (REQUEST, "3")], None), 3);
    assert_eq!(threads(&[("ZTUNNEL_CPU_LIMIT", "8")], None), 8);
    assert_eq!(threads(&[(LIMIT, "8"), (SET, "50%")], None), 4);
    assert_eq!(threads(&[(SET, "0")], None), 16);
    assert_eq!(threads(&[(SET, "3"), (LIMIT, "8")], Some(5)), 3);
    assert_eq!(threads(&[], Some(5)), 5);
    assert_eq!(threads(&[], Some(0)), 16);
}

#[test]
fn mesh_configuration_stands_behind_the_environment() {
    let file = "accessLogFile: /dev/stdout\ndefaultConfig:\n  discoveryAddress: file.example:15012\n  statsPort: 16020\n  concurrency: 3\n";
    let own = "discoveryAddress: own.example:15012\nproxyAdminPort: 16000\nproxyMetadata:\n  NODE_NAME: from-metadata\n  ISTIO_META_ZONE: west\n";
    let config = read_with(&[("PROXY_CONFIG", own)], Some(file)).unwrap();
    assert_eq!(config.discovery.unwrap().address, "https://own.example:15012");
    assert_eq!((config.admin_port, config.metrics_port), (16000, 16020));
    assert_eq!(config.worker_threads, 3);
    assert_eq!(config.node_name, "from-metadata");
    assert_eq!(config.node_metadata["ZONE"], "west");
    let set = [
        ("PROXY_CONFIG", own),
        ("NODE_NAME", "set"),
        ("XDS_ADDRESS", "set.example:15012"),
    ];
    let config = read_with(&set, Some(file)).unwrap();
    assert_eq!(config.node_name, "set");
    assert_eq!(config.discovery.unwrap().address, "https://set.example:15012");
    let wrong = read(&[("NODE_NAME", "n"), ("PROXY_CONFIG", "statsPort: many\n")]);
    let error = wrong.unwrap_err().to_string();
    assert!(
        error.contains("PROXY_CONFIG:1: statsPort: is the string"),
        "{error}"
    );
}

#[test]
fn a_socks_proxy_is_there_only_where_it_is_asked_for() {
    assert!(!read(&[("NODE_NAME", "n")]).unwrap().socks5);
    let set = [("NODE_NAME", "n"), ("UNSTABLE_ENABLE_SOCKS5", "true")];
    assert!(read(&set).unwrap().socks5);
    let wrong = [("NODE_NAME", "n"), ("UNSTABLE_ENABLE_SOCKS5", "maybe")];
    let error = read(&wrong).unwrap_err().to_string();
    assert!(error.contains("UNSTABLE_ENABLE_SOCKS5"), "{error}");
}

#[test]
fn tunnels_to_the_proxy_itself_are_taken_where_its_pod_is_named() {
    let all = [
        ("NODE_NAME", "n"),
        ("POD_NAME", "ztunnel-x"),
        ("POD_NAMESPACE", "istio-system"),
        ("SERVICE_ACCOUNT", "ztunnel"),
    ];
    assert!(read(&all).unwrap().self_inbound);
    for left_out in 1..all.len() {
        let mut some = all.to_vec();
        some.remove(left_out);
        assert!(!read(&some).unwrap().self_inbound, "without {}", all[left_out].0);
    }
    let mut dedicated = all.to_vec();
    dedicated.extend([("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b/c")]);
    assert!(!read(&dedicated).unwrap().self_inbound);
}

/// Every variable that is read stands in the table of docs/configuration.md, and every one there is read.
#[test]
fn the_documentation_names_exactly_the_variables_that_are_read() {
    let set = [
        ("NODE_NAME", "n"),
        ("PROXY_MODE", "shared"),
        ("PROXY_WORKLOAD_INFO", "a/b/c"),
    ];
    let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let variables = Variables::new(set.iter().map(pair).collect(), BTreeMap::new());
    let _ = variables.raw(PROXY_CONFIG);
    super::read(&variables, &MeshConfig::default()).unwrap();
    let read = variables.asked();
    let documented = documented();
    let missing: Vec<_> = read.difference(&documented).collect();
    let unread: Vec<_> = documented.difference(&read).collect();
    assert!(
        missing.is_empty(),
        "read and not in docs/configuration.md: {missing:?}"
    );
    assert!(
        unread.is_empty(),
        "in docs/configuration.md and never read: {unread:?}"
    );
}

/// The variables in the table of docs/configuration.md.
fn documented() -> BTreeSet<String> {
    include_str!("../../../docs/configuration.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|name| {
            name.bytes().all(|byte| {
                byte == b'*' || byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit()
            })
        })
        .map(str::to_owned)
        .collect()
}

/// What the chart sets is documented, and understood.
#[test]
fn the_chart_sets_what_there_is() {
    let documented = documented();
    let mut seen = 0;
    for values in ["defaults", "everything", "ztunnel-only", "edges"] {
        for object in charts::rendered(values).unwrap() {
            let container = &object["spec"]["template"]["spec"]["containers"][0];
            if container["name"] != "ztunnel" {
                continue;
            }
            assert_eq!(container["args"][0], "proxy");
            let mut variables = Vec::new();
            for variable in container["env"].as_array().unwrap() {
                let name = variable["name"].as_str().unwrap();
                let known =
                    documented.contains(name) || (values == "everything" && name.starts_with("RUST_"));
                assert!(known, "{values}: {name} is not in docs/configuration.md");
                // What Kubernetes puts in.
                let of_pod = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                    Some("status.podIP") => "10.0.0.1",
                    Some(_) => "name",
                    None => "",
                };
                variables.push((name, variable["value"].as_str().unwrap_or(of_pod)));
            }
            let config = read(&variables).unwrap_or_else(|error| panic!("{values}: {error}"));
            assert!(config.self_inbound, "{values}: the proxy's own pod is not named");
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mounted = |path: &std::path::Path| {
                let mut places = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap());
                places.any(|place| path.starts_with(place))
            };
            assert!(mounted(&config.agent_socket) && mounted(config.token.as_ref()));
            assert!(config.state_directory.as_deref().is_none_or(mounted));
            let port = |name: &str| {
                let ports = container["ports"].as_array().unwrap();
                ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone()
            };
            assert_eq!(port("ztunnel-stats"), config.metrics_port);
            assert_eq!(port("hbone"), crate::pod_proxy::INBOUND_PORT);
            let (hours, network) = match values {
                "everything" => (12, "east"),
                "edges" => (7 * 24, "off"),
                _ => (24, ""),
            };
            assert_eq!(config.certificate_life, Duration::from_secs(hours * 3600));
            // What is set by name takes the place of what the chart sets.
            assert_eq!(config.network, network);
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}
