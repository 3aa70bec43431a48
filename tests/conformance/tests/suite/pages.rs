//! What the subject says about itself: readiness and metrics.

use std::time::Duration;

use conformance::{
    App, METRICS_PORT, Outcome, Pod, READINESS_PORT, Reply, Report, World, echoes, ensure, ensure_eq,
    eventually_ok,
};

use crate::inbound::any;

struct Scene {
    world: World,
    client: Pod,
    _app: App,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let client = world.pod("callers", "client").await?;
    let server = world.pod("apps", "server").await?;
    let app = App::echo(&server.network, any(8080))?;
    let mut call = client.network.connect(server.at(8080)).await?;
    echoes(&mut call, "hello").await?;
    drop(call);
    let scene = &mut Scene {
        world,
        client,
        _app: app,
    };
    report.clause("readiness-on-15021", ready(scene)).await;
    report
        .clause("metrics-on-15020-under-both-paths", paths(scene))
        .await;
    report
        .clause("two-pods-of-one-node-talk-through-a-tunnel", labels(scene))
        .await;
    report
        .clause("counts-bytes-from-the-initiators-side", bytes(scene))
        .await;
    report
        .clause("counts-a-connection-that-was-refused", refused(scene))
        .await;
    for name in [
        "istio_build",
        "istio_xds_connection_terminations_total",
        "istio_xds_message_total",
        "istio_xds_message_bytes_total",
        "workload_manager_active_proxy_count",
        "workload_manager_proxies_started_total",
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "istio_tcp_received_bytes_total",
        "istio_tcp_sent_bytes_total",
    ] {
        let clause = format!("has-{}", name.replace('_', "-"));
        if name == "istio_xds_connection_terminations_total" {
            scene.world.control_plane.discovery.cut();
        }
        report.clause(&clause, present(scene, name)).await;
    }
    Ok(())
}

async fn ready(scene: &Scene) -> Outcome {
    ensure_eq!(
        scene.world.subject.get(READINESS_PORT, "/healthz/ready").await?.0,
        200,
        "status"
    );
    Ok(())
}

async fn paths(scene: &Scene) -> Outcome {
    for path in ["/metrics", "/stats/prometheus"] {
        let (status, text) = scene.world.subject.get(METRICS_PORT, path).await?;
        ensure_eq!(status, 200, "{path}");
        ensure!(text.contains("# TYPE istio_build"), "{path} has no istio_build");
        ensure!(
            text.trim_end().ends_with("# EOF"),
            "{path} is not OpenMetrics: it has no end"
        );
    }
    Ok(())
}

async fn present(scene: &Scene, name: &str) -> Outcome {
    let what = format!("a sample of {name}");
    eventually_ok(&what, Duration::from_secs(10), async || {
        let text = scene.world.subject.metrics().await?;
        let found = text.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        ensure!(found, "there is none");
        Ok(())
    })
    .await
}

/// The values of a metric whose labels have all of these.
async fn samples(scene: &Scene, name: &str, labels: &[(&str, &str)]) -> Outcome<Vec<f64>> {
    let text = scene.world.subject.metrics().await?;
    let prefix = format!("{name}{{");
    let wanted: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    let lines = text.lines().filter(|line| line.starts_with(&prefix));
    let matching = lines.filter(|line| wanted.iter().all(|label| line.contains(label)));
    Ok(matching
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect())
}

async fn labels(scene: &Scene) -> Outcome {
    for reporter in ["source", "destination"] {
        let labels = [
            ("reporter", reporter),
            ("source_workload", "client"),
            ("source_workload_namespace", "callers"),
            ("source_principal", "spiffe://cluster.local/ns/callers/sa/client"),
            ("source_canonical_service", "client"),
            ("source_canonical_revision", "v1"),
            ("source_app", "client"),
            ("source_version", "v1"),
            ("source_cluster", "Kubernetes"),
            ("destination_workload", "server"),
            ("destination_workload_namespace", "apps"),
            (
                "destination_principal",
                "spiffe://cluster.local/ns/apps/sa/server",
            ),
            ("destination_canonical_service", "server"),
            ("destination_app", "server"),
            ("destination_cluster", "Kubernetes"),
            ("request_protocol", "tcp"),
            ("response_flags", "-"),
            ("connection_security_policy", "mutual_tls"),
        ];
        for name in [
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
        ] {
            let what = format!("{name} of the {reporter}");
            eventually_ok(&what, Duration::from_secs(10), async || {
                ensure_eq!(samples(scene, name, &labels).await?, [1.0], "samples");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

async fn bytes(scene: &Scene) -> Outcome {
    // "hello" went both ways.
    for reporter in ["source", "destination"] {
        for name in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
            let labels = [
                ("reporter", reporter),
                ("source_workload", "client"),
                ("destination_workload", "server"),
            ];
            ensure_eq!(
                samples(scene, name, &labels).await?,
                [5.0],
                "{name} of the {reporter}"
            );
        }
    }
    Ok(())
}

async fn refused(scene: &mut Scene) -> Outcome {
    let (pod, _server) = scene
        .world
        .peer("apps", "refusing", |_| Reply::Status(503))
        .await?;
    let mut call = scene.client.network.connect(pod.at(8080)).await?;
    conformance::end(&mut call).await?;
    let labels = [
        ("reporter", "source"),
        ("destination_workload", "refusing"),
        ("response_flags", "CONNECT"),
    ];
    eventually_ok("the failure is counted", Duration::from_secs(10), async || {
        let failed = samples(scene, "istio_tcp_connections_failed_total", &labels).await?;
        ensure_eq!(failed, [1.0], "istio_tcp_connections_failed_total");
        Ok(())
    })
    .await?;
    Ok(())
}
