use clap::Parser;

use super::*;

const NEEDED: [&str; 14] = [
    "--objects",
    "/o",
    "--ca-dir",
    "/c",
    "--listen",
    "127.0.0.1:15012",
    "--server-name",
    "istiod",
    "localhost",
    "--token-keys",
    "/k",
    "--token-issuer",
    "lab",
    "--debug-socket=/d",
];

fn parse(more: &[&str]) -> Result<Config, clap::Error> {
    Config::try_parse_from(["control-plane"].iter().chain(&NEEDED).chain(more))
}

#[test]
fn defaults_are_those_of_the_mesh() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.server_names, ["istiod", "localhost"]);
    assert_eq!(config.certificate_life, Duration::from_secs(86_400));
    assert_eq!(
        config.trusted_node_accounts,
        [("istio-system".to_owned(), "ztunnel".to_owned())]
    );
    assert_eq!(config.compile_settings(), compile::Settings::default());
    assert_eq!(config.dry_run_policies, DryRunPolicies::Announced);
    let all = parse(&["--dry-run-policies", "all"]).unwrap();
    assert_eq!(all.dry_run_policies, DryRunPolicies::All);
    assert!(all.compile_settings().list_dry_run);
    assert!(all.write_status);
    assert!(!parse(&["--write-status", "false"]).unwrap().write_status);
    assert!(parse(&["--dry-run-policies", "some"]).is_err());
    assert!(all.write_events);
    assert_eq!(all.max_response_bytes, 128 * 1024 * 1024);
    for bad in ["0", "1000", "134217729", "1MiB"] {
        assert!(parse(&["--max-response-bytes", bad]).is_err(), "{bad}");
    }
    let short = parse(&["--max-response-bytes=4000000"]).unwrap();
    assert_eq!(short.max_response_bytes, 4_000_000);
    let other = parse(&[
        "--write-events=false",
        "--service-entry-visibility=namespace",
        "--network-gateway-namespace=a",
        "--network-gateway-namespace=b",
        "--trusted-entry-namespace=egress",
        "--revision=canary",
    ]);
    let other = other.unwrap();
    assert!(other.write_status && !other.write_events);
    let settings = other.compile_settings();
    assert_eq!(settings.service_entry_visibility, compile::Visibility::Namespace);
    assert_eq!(settings.network_gateway_namespaces, ["a", "b"]);
    assert_eq!(settings.trusted_entry_namespaces, ["egress"]);
    assert_eq!(other.mesh_settings().revision(), "canary");
}

#[test]
fn objects_come_from_one_place() {
    let without: Vec<_> = NEEDED[2..].to_vec();
    let parse = |more: &[&str]| {
        let arguments = ["control-plane"].iter().chain(&without).chain(more);
        Config::try_parse_from(arguments)
    };
    let url = ["--kubernetes", "--kubernetes-url", "http://127.0.0.1:1"];
    for good in [&["--objects", "/o"][..], &["--kubernetes"], &url] {
        assert!(parse(good).is_ok(), "{good:?}");
    }
    let both = ["--objects", "/o", "--kubernetes"];
    for bad in [
        &[][..],
        &both,
        &url[1..],
        &["--kubernetes", "--kubernetes-token", "/t"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    assert!(parse(&url).unwrap().store().is_ok());
    let nowhere = parse(&["--kubernetes", "--kubernetes-url", "nowhere"]).unwrap();
    let problem = nowhere.store().err().unwrap().to_string();
    assert!(problem.contains("http://HOST:PORT"), "{problem}");
}

#[test]
fn a_cluster_needs_neither_keys_nor_a_directory() {
    let bare = [
        "control-plane",
        "--kubernetes",
        "--listen=127.0.0.1:1",
        "--server-name=x",
        "--debug-socket=/d",
    ];
    let parse = |more: &[&str]| Config::try_parse_from(bare.iter().chain(more));
    assert!(parse(&[]).is_ok());
    assert!(parse(&["--ca-plugged-dir", "/p"]).is_ok());
    assert!(parse(&["--token-keys", "/k", "--token-issuer", "i"]).is_ok());
    for bad in [
        &["--token-keys", "/k"][..],
        &["--token-issuer", "i"],
        &["--ca-plugged-dir", "/p", "--ca-dir", "/c"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let without = |left_out: &str| {
        let mut all = bare.to_vec();
        all[1] = "--objects=/o";
        all.extend(["--token-keys=/k", "--token-issuer=i", "--ca-dir=/c"]);
        all.retain(|argument| !argument.starts_with(left_out));
        Config::try_parse_from(all)
    };
    assert!(without("nothing").is_ok());
    assert!(without("--token").is_err());
    assert!(without("--ca-dir").is_err());
}

/// What the chart starts is understood here, and its ports and paths are those of the container.
#[test]
fn the_chart_starts_what_there_is() {
    let mut seen = 0;
    for values in ["defaults", "everything", "control-plane-and-agent", "edges"] {
        let objects = charts::rendered(values).unwrap();
        let deployment = objects
            .iter()
            .find(|object| object["kind"] == "Deployment")
            .unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let config = Config::try_parse_from(["control-plane"].into_iter().chain(arguments))
            .unwrap_or_else(|error| panic!("{values}: {error}"));
        assert!(config.kubernetes);
        let of_variable = |name: &str| {
            let environment = container["env"].as_array().unwrap();
            let found = environment.iter().find(|variable| variable["name"] == name);
            found.map(|variable| variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap())
        };
        assert_eq!(of_variable("POD_NAME"), Some("metadata.name"));
        assert_eq!(of_variable("POD_NAMESPACE"), Some("metadata.namespace"));
        let port = |name: &str| {
            let ports = container["ports"].as_array().unwrap();
            ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone()
        };
        assert_eq!(port("grpc-xds"), config.listen.port());
        assert_eq!(port("http-monitoring"), config.monitoring_listen.port());
        for (probe, path) in [
            ("readinessProbe", "/ready"),
            ("livenessProbe", "/live"),
            ("startupProbe", "/live"),
        ] {
            assert_eq!(container[probe]["httpGet"]["port"], "http-monitoring");
            assert_eq!(container[probe]["httpGet"]["path"], path);
        }
        // Proxies call it by the name of the Service.
        let service = objects.iter().find(|object| object["kind"] == "Service").unwrap();
        let name = format!(
            "{}.istio-system.svc",
            service["metadata"]["name"].as_str().unwrap()
        );
        assert!(config.server_names.contains(&name), "{:?}", config.server_names);
        // The socket is in a directory that can be written to.
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| {
            config
                .debug_socket
                .starts_with(mount["mountPath"].as_str().unwrap())
                && mount["readOnly"] != true
        }));
        // The proxy that the chart installs is trusted.
        let proxy = objects.iter().find(|object| {
            object["kind"] == "DaemonSet"
                && object["metadata"]["name"]
                    .as_str()
                    .unwrap()
                    .starts_with("ztunnel")
                && object["metadata"]["name"] != "ztunnel-node-agent"
        });
        if let Some(proxy) = proxy {
            let account = proxy["spec"]["template"]["spec"]["serviceAccountName"]
                .as_str()
                .unwrap();
            let account = ("istio-system".to_owned(), account.to_owned());
            assert!(config.trusted_node_accounts.contains(&account));
            let told = |name: &str| {
                let all = proxy["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
                let found = all.unwrap().iter().find(|variable| variable["name"] == name);
                found.unwrap()["value"].as_str().unwrap()
            };
            // Its certificate has the name by which they call it.
            let host = told("XDS_ADDRESS").trim_start_matches("https://");
            let host = host.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
            assert!(config.server_names.iter().any(|name| name == host), "{host}");
            // What proxies ask for is what the value says, and they are given it.
            let asked = super::duration(told("SECRET_TTL")).unwrap();
            assert_eq!(asked, config.certificate_life);
        }
        let longest = match values {
            "everything" => Duration::from_secs(7 * 86_400),
            _ => config.certificate_life,
        };
        assert_eq!(config.max_certificate_life(), longest);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(
        parse(&["--certificate-life", "10s"]).unwrap().certificate_life,
        Duration::from_secs(10)
    );
    for bad in ["10", "h", "", "1.5h", "0s", "91d", "99999999999999999999d", "1ü"] {
        assert!(parse(&["--certificate-life", bad]).is_err(), "{bad}");
    }
    for bad in ["ztunnel", "/ztunnel", "istio-system/", "a/b/c"] {
        assert!(parse(&["--trusted-node-account", bad]).is_err(), "{bad}");
    }
}
