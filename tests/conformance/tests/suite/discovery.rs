//! The subject as a client of discovery.

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::{
    App, HboneServer, Outcome, Pod, Reply, Report, Seen, TOKEN, Verdict, World, echoes, ensure, ensure_eq,
    eventually, eventually_ok, mesh,
};
use prost_types::value::Kind;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::{ADDRESS_TYPE_URL, TunnelProtocol};

use crate::inbound::any;

struct Scene {
    world: World,
    client: Pod,
    far: Pod,
    _server: HboneServer,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let variables = [
        ("ISTIO_META_ANYTHING", "goes"),
        ("ISTIO_METAJSON_LIST", r#"{"a":[1,true]}"#),
    ];
    let mut world = World::start_with(&variables).await?;
    let client = world.pod("callers", "client").await?;
    let (far, server) = world.peer("apps", "far", |_| Reply::Echo).await?;
    let mut scene = Scene {
        world,
        client,
        far,
        _server: server,
    };
    report
        .clause("shows-its-token-and-cluster", headers(&scene))
        .await;
    report.clause("describes-its-node", node(&scene)).await;
    report.clause("sends-its-metadata", metadata(&scene)).await;
    report
        .clause("first-asks-for-everything-of-both-types", first_requests(&scene))
        .await;
    report
        .clause("acknowledges-by-nonce-and-type", acknowledges(&scene))
        .await;
    report
        .clause(
            "takes-the-removal-of-what-it-never-held",
            removal_of_unknown(&scene),
        )
        .await;
    report
        .clause("forgets-what-is-removed", removed(&mut scene))
        .await;
    report
        .clause(
            "refuses-what-it-cannot-read-and-keeps-the-rest",
            malformed(&mut scene),
        )
        .await;
    report
        .clause("refuses-workloads-of-the-legacy-tunnel", legacy(&scene))
        .await;
    report
        .clause("acknowledges-what-a-later-push-mends", mended(&scene))
        .await;
    report
        .clause("tells-what-it-holds-when-it-comes-again", reconnects(&scene))
        .await;
    report
        .clause("keeps-its-state-while-discovery-is-away", keeps_state(&scene))
        .await;
    Ok(())
}

fn requests(scene: &Scene, type_url: &str) -> Vec<Seen> {
    let mut seen = scene.world.control_plane.discovery.seen();
    seen.retain(|seen| seen.request.type_url == type_url);
    seen
}

async fn headers(scene: &Scene) -> Outcome {
    let seen = requests(scene, ADDRESS_TYPE_URL);
    let first = &seen[0];
    let expected = BTreeMap::from([
        ("authorization".to_owned(), format!("Bearer {TOKEN}")),
        ("clusterid".to_owned(), mesh::CLUSTER.to_owned()),
    ]);
    ensure_eq!(first.headers, expected, "metadata of the stream");
    Ok(())
}

async fn node(scene: &Scene) -> Outcome {
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        let seen = requests(scene, type_url);
        let id = seen[0].request.node.as_ref().map(|node| node.id.as_str());
        let expected = "ztunnel~10.244.0.1~ztunnel-node-1.istio-system~istio-system.svc.cluster.local";
        ensure_eq!(id, Some(expected), "node id in the first request of {type_url}");
        let again = seen[1..].iter().any(|seen| seen.request.node.is_some());
        ensure!(!again, "the node is described again later");
    }
    Ok(())
}

async fn metadata(scene: &Scene) -> Outcome {
    let seen = requests(scene, ADDRESS_TYPE_URL);
    let node = seen[0].request.node.clone().unwrap_or_default();
    let fields = node.metadata.unwrap_or_default().fields;
    let text = |name: &str| match fields.get(name).and_then(|value| value.kind.clone()) {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    };
    for (name, expected) in [
        ("NAME", "ztunnel-node-1"),
        ("NAMESPACE", "istio-system"),
        ("NODE_NAME", mesh::NODE),
        ("INSTANCE_IPS", "10.244.0.1"),
        ("CLUSTER_ID", mesh::CLUSTER),
        ("ANYTHING", "goes"),
        ("ZTUNNEL_DRY_RUN_POLICIES", "true"),
    ] {
        ensure_eq!(text(name).as_deref(), Some(expected), "metadata {name}");
    }
    let list = fields.get("LIST").and_then(|value| value.kind.clone());
    ensure!(
        matches!(list, Some(Kind::StructValue(_))),
        "metadata LIST is {list:?}, not a structure"
    );
    Ok(())
}

async fn first_requests(scene: &Scene) -> Outcome {
    let seen = scene.world.control_plane.discovery.seen();
    let first: Vec<_> = seen
        .iter()
        .take_while(|seen| seen.request.response_nonce.is_empty())
        .collect();
    let types: Vec<&str> = first.iter().map(|seen| seen.request.type_url.as_str()).collect();
    ensure_eq!(
        types,
        [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL],
        "types of the first requests"
    );
    for seen in first {
        let request = &seen.request;
        ensure!(
            request.resource_names_subscribe.is_empty(),
            "a wildcard names nothing: {request:?}"
        );
        ensure!(request.resource_names_unsubscribe.is_empty(), "{request:?}");
        ensure!(
            request.initial_resource_versions.is_empty(),
            "nothing is held at first: {request:?}"
        );
    }
    Ok(())
}

async fn acknowledges(scene: &Scene) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    discovery.settled().await?;
    for sent in discovery.sent() {
        let answers: Vec<_> = discovery
            .seen()
            .into_iter()
            .filter(|seen| seen.request.response_nonce == sent.nonce)
            .collect();
        ensure_eq!(answers.len(), 1, "answers to {}", sent.nonce);
        ensure_eq!(
            answers[0].request.type_url,
            sent.type_url,
            "the type of the answer to {}",
            sent.nonce
        );
    }
    Ok(())
}

async fn removal_of_unknown(scene: &Scene) -> Outcome {
    // Held by the server for a moment only, so that it may be pushed together with its removal, or alone.
    let discovery = &scene.world.control_plane.discovery;
    let pod = mesh::workload(
        "apps",
        "moment",
        "moment",
        "node-elsewhere",
        &[[10, 244, 200, 1].into()],
    );
    discovery.workloads([pod]).await?;
    let name = mesh::uid("apps", "moment");
    let verdicts = discovery.remove(ADDRESS_TYPE_URL, &[&name]).await?;
    conformance::accepted(&verdicts)?;
    let verdicts = discovery.removed_unheld(ADDRESS_TYPE_URL, "never/held").await?;
    conformance::accepted(&verdicts)
}

/// Whether calls to this pod go through a tunnel: the application, which is not there, does not answer in plain.
async fn call(scene: &Scene, to: &Pod) -> Outcome {
    let mut call = scene.client.network.connect(to.at(8080)).await?;
    echoes(&mut call, "hello").await
}

async fn removed(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "leaving", |_| Reply::Echo).await?;
    call(scene, &pod).await?;
    ensure_eq!(server.requests().len(), 1, "calls through the tunnel");
    let discovery = &scene.world.control_plane.discovery;
    discovery.remove(ADDRESS_TYPE_URL, &[&pod.workload_uid()]).await?;
    // Unknown is what is called in plain.
    let app = App::echo(&pod.network, any(8080))?;
    eventually_ok(
        "what is removed is called in plain",
        Duration::from_secs(5),
        async || {
            call(scene, &pod).await?;
            ensure!(!app.peers().is_empty(), "the call went through the tunnel");
            Ok(())
        },
    )
    .await
}

async fn malformed(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "good", |_| Reply::Echo).await?;
    let discovery = &scene.world.control_plane.discovery;
    discovery.remove(ADDRESS_TYPE_URL, &[&pod.workload_uid()]).await?;
    // Both in one push.
    let verdicts = discovery
        .together(
            [pod.workload("node-elsewhere")],
            (ADDRESS_TYPE_URL, "Kubernetes//Pod/apps/torn"),
            &[0x0a, 0xff, 0xff],
        )
        .await?;
    let refused = verdicts.iter().any(|verdict| match verdict {
        Verdict::Nack(why) => why.contains("Kubernetes//Pod/apps/torn"),
        Verdict::Ack => false,
    });
    ensure!(refused, "no refusal that names the torn resource: {verdicts:?}");
    let outcome = eventually_ok(
        "the good resource of the same push is used",
        Duration::from_secs(5),
        async || {
            call(scene, &pod).await?;
            ensure!(
                !server.requests().is_empty(),
                "the call did not go through the tunnel"
            );
            Ok(())
        },
    )
    .await;
    let discovery = &scene.world.control_plane.discovery;
    conformance::accepted(
        &discovery
            .remove(ADDRESS_TYPE_URL, &["Kubernetes//Pod/apps/torn"])
            .await?,
    )?;
    outcome
}

async fn legacy(scene: &Scene) -> Outcome {
    let mut old = mesh::workload(
        "apps",
        "old",
        "old",
        "node-elsewhere",
        &[[10, 244, 200, 2].into()],
    );
    old.tunnel_protocol = TunnelProtocol::LegacyIstioMtls.into();
    let discovery = &scene.world.control_plane.discovery;
    let verdicts = discovery.workloads([old]).await?;
    ensure!(
        matches!(verdicts.as_slice(), [Verdict::Nack(why)] if !why.is_empty()),
        "no refusal with a reason: {verdicts:?}"
    );
    Ok(())
}

async fn mended(scene: &Scene) -> Outcome {
    let good = mesh::workload(
        "apps",
        "old",
        "old",
        "node-elsewhere",
        &[[10, 244, 200, 2].into()],
    );
    conformance::accepted(&scene.world.control_plane.discovery.workloads([good]).await?)
}

async fn reconnects(scene: &Scene) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    let before = discovery.seen().last().map_or(0, |seen| seen.stream);
    discovery.cut();
    let again = || {
        discovery
            .seen()
            .into_iter()
            .filter(move |seen| seen.stream > before)
    };
    eventually("the subject comes again", Duration::from_secs(20), || {
        again()
            .filter(|seen| seen.request.response_nonce.is_empty())
            .count()
            >= 2
    })
    .await?;
    discovery.settled().await?;
    let first = again().find(|seen| seen.request.type_url == ADDRESS_TYPE_URL);
    let held = first
        .map(|seen| seen.request.initial_resource_versions)
        .unwrap_or_default();
    for pod in [&scene.client, &scene.far] {
        ensure!(
            held.contains_key(&pod.workload_uid()),
            "{} is not among what it holds: {held:?}",
            pod.name
        );
    }
    // It holds all; nothing of the same version was sent again.
    let stream = again().next().map_or(0, |seen| seen.stream);
    let sent: Vec<_> = discovery
        .sent()
        .into_iter()
        .filter(|sent| sent.stream == stream)
        .collect();
    let again: Vec<_> = sent.iter().filter(|sent| !sent.names.is_empty()).collect();
    ensure!(again.is_empty(), "resources had to be sent again: {again:?}");
    Ok(())
}

async fn keeps_state(scene: &Scene) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    discovery.away(true);
    discovery.cut();
    let outcome = call(scene, &scene.far).await;
    discovery.away(false);
    outcome?;
    eventually_ok("the subject comes again", Duration::from_secs(30), async || {
        discovery.settled().await
    })
    .await
}
