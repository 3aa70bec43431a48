use super::{APP, Scene};

use std::net::SocketAddr;
use std::time::Duration;

use conformance::{
    App, Asked, Claims, Outcome, Reply, Report, ServerSettings, TlsSettings, echoes, ensure, ensure_eq,
    eventually_some, gets_nothing, mesh,
};
use proto::workload::{Locality, TunnelProtocol, WorkloadType};

const AES_128_GCM_SHA256: u16 = 0x1301;
const AES_256_GCM_SHA384: u16 = 0x1302;

pub(crate) async fn run(report: &mut Report, scene: &mut Scene) {
    report
        .clause("asks-for-the-pods-own-address", pod_address(scene))
        .await;
    report
        .clause("asks-for-the-endpoints-port-of-a-service", service_port(scene))
        .await;
    report
        .clause("asks-for-an-ipv6-address-in-brackets", ipv6(scene))
        .await;
    report
        .clause("sends-neither-scheme-nor-path", neither(scene))
        .await;
    report.clause("sends-baggage-of-the-source", baggage(scene)).await;
    report
        .clause("sends-kind-and-place-of-the-source", located(scene))
        .await;
    report.clause("sends-forwarded", forwarded(scene)).await;
    report.clause("sends-traceparent", traceparent(scene)).await;
    report
        .clause("calls-from-the-pods-own-address", own_address(scene))
        .await;
    report
        .clause("speaks-tls-1-3-and-offers-h2-only", tls(scene))
        .await;
    report.clause("names-no-host-in-the-clear", no_host(scene)).await;
    report.clause("offers-aes-gcm-only", suites(scene)).await;
    report
        .clause("shows-the-certificate-of-the-source", certificate(scene))
        .await;
    for (name, status) in [
        ("takes-201-for-a-refusal", 201),
        ("takes-204-for-a-refusal", 204),
        ("takes-302-for-a-refusal", 302),
        ("takes-401-for-a-refusal", 401),
        ("takes-503-for-a-refusal", 503),
    ] {
        report.clause(name, refused(scene, status)).await;
    }
    report
        .clause("refuses-a-server-of-another-identity", other_identity(scene))
        .await;
    report
        .clause("refuses-a-server-of-another-root", other_root(scene))
        .await;
    report
        .clause("passes-on-what-is-not-in-the-mesh", unknown_destination(scene))
        .await;
    report
        .clause("calls-a-workload-without-hbone-in-plain", plain_workload(scene))
        .await;
}

/// The request that the far peer saw for a call to this place.
async fn asked(scene: &Scene, to: SocketAddr, authority: &str) -> Outcome<Asked> {
    let before = scene.server.requests().len();
    let mut call = scene.call(to).await?;
    echoes(&mut call, "hello").await?;
    let found = eventually_some("the CONNECT of a call", Duration::from_secs(5), || {
        scene.server.requests().get(before).cloned()
    });
    let asked = found.await?;
    ensure_eq!(asked.authority, authority, "the authority of a call to {to}");
    Ok(asked)
}

async fn plain(scene: &Scene) -> Outcome<Asked> {
    asked(scene, scene.far.at(APP), &scene.far.at(APP).to_string()).await
}

async fn pod_address(scene: &Scene) -> Outcome {
    plain(scene).await?;
    Ok(())
}

async fn service_port(scene: &Scene) -> Outcome {
    asked(scene, scene.vip, &scene.far.at(APP).to_string()).await?;
    Ok(())
}

async fn ipv6(scene: &Scene) -> Outcome {
    asked(scene, scene.far.at_v6(APP), &scene.far.at_v6(APP).to_string()).await?;
    Ok(())
}

async fn neither(scene: &Scene) -> Outcome {
    let asked = plain(scene).await?;
    ensure_eq!(asked.method, http::Method::CONNECT, "the method");
    ensure_eq!((&asked.scheme, &asked.path), (&None, &None), "scheme and path");
    Ok(())
}

fn header(asked: &Asked, name: &str) -> Outcome<String> {
    let values: Vec<_> = asked.headers.get_all(name).iter().collect();
    ensure_eq!(values.len(), 1, "headers named {name}");
    Ok(values[0].to_str()?.to_owned())
}

async fn baggage(scene: &Scene) -> Outcome {
    let baggage = header(&plain(scene).await?, "baggage")?;
    let expected = "k8s.cluster.name=Kubernetes,k8s.namespace.name=callers,k8s.deployment.name=client,\
                    service.name=client,service.version=v1";
    ensure_eq!(baggage, expected, "baggage");
    Ok(())
}

async fn located(scene: &mut Scene) -> Outcome {
    let pod = scene.world.bare_pod("callers", "located", "located")?;
    conformance::redirect(&pod.network)?;
    let mut workload = pod.workload(mesh::NODE);
    workload.workload_type = WorkloadType::Cronjob.into();
    workload.workload_name = "nightly".to_owned();
    workload.canonical_revision = String::new();
    workload.locality = Some(Locality {
        region: "north".to_owned(),
        zone: "north-1".to_owned(),
        subzone: "rack".to_owned(),
    });
    scene.world.announce(workload).await?;
    scene.world.add(&pod).await?;
    let (far, server) = scene
        .world
        .peer("apps", "hears-of-places", |_| Reply::Echo)
        .await?;
    let mut call = pod.network.connect(far.at(APP)).await?;
    echoes(&mut call, "hello").await?;
    let last = server.requests().pop();
    let baggage = last.as_ref().map(|asked| header(asked, "baggage")).transpose()?;
    let expected = "k8s.cluster.name=Kubernetes,k8s.namespace.name=callers,k8s.cronjob.name=nightly,\
                    service.name=located,cloud.region=north,cloud.availability_zone=north-1";
    ensure_eq!(baggage.as_deref(), Some(expected), "baggage");
    Ok(())
}

async fn forwarded(scene: &Scene) -> Outcome {
    let mut call = scene.call(scene.far.at(APP)).await?;
    let local = call.local_addr()?;
    let before = scene.server.requests().len();
    echoes(&mut call, "hello").await?;
    let find = |number: usize| scene.server.requests().get(number).cloned();
    // The call may have been seen before the count.
    let seen = eventually_some("the CONNECT of a call", Duration::from_secs(5), || {
        find(before.saturating_sub(1)).or_else(|| find(before))
    });
    seen.await?;
    let expected = format!("for=\"{local}\"");
    let last = scene.server.requests().pop();
    let last = last
        .as_ref()
        .map(|asked| header(asked, "forwarded"))
        .transpose()?;
    ensure_eq!(last, Some(expected), "forwarded of a call to a pod");
    let mut call = scene.call(scene.vip).await?;
    echoes(&mut call, "hello").await?;
    let expected = format!(
        "for=\"{}\";host={}",
        call.local_addr()?,
        mesh::hostname("apps", "web")
    );
    let last = scene.server.requests().pop();
    let last = last
        .as_ref()
        .map(|asked| header(asked, "forwarded"))
        .transpose()?;
    ensure_eq!(last, Some(expected), "forwarded of a call to a service");
    Ok(())
}

async fn traceparent(scene: &Scene) -> Outcome {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let value = header(&plain(scene).await?, "traceparent")?;
        let parts: Vec<&str> = value.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        ensure_eq!(lengths, [2, 32, 16, 2], "lengths of the parts of {value}");
        let hexadecimal = |part: &&str| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.bytes().all(lower)
        };
        ensure!(parts.iter().all(hexadecimal), "{value} is not hexadecimal");
        ensure_eq!(parts[0], "00", "the version in {value}");
        seen.push(value);
    }
    ensure!(seen[0] != seen[1], "two calls have the same trace");
    Ok(())
}

async fn own_address(scene: &Scene) -> Outcome {
    plain(scene).await?;
    for connection in scene.server.seen() {
        let peer = connection.peer.ip().to_canonical();
        let own = [scene.client.addresses.v4.into(), scene.client.addresses.v6.into()];
        ensure!(own.contains(&peer), "a tunnel comes from {peer}");
    }
    Ok(())
}

async fn tls(scene: &Scene) -> Outcome {
    plain(scene).await?;
    for connection in scene.server.seen() {
        ensure!(connection.facts.is_tls13, "a tunnel is older than TLS 1.3");
        ensure_eq!(connection.facts.hello.protocols, ["h2"], "protocols offered");
        ensure_eq!(
            connection.facts.protocol.as_deref(),
            Some("h2"),
            "protocol agreed on"
        );
    }
    Ok(())
}

async fn no_host(scene: &Scene) -> Outcome {
    plain(scene).await?;
    for connection in scene.server.seen() {
        ensure_eq!(connection.facts.hello.server_name, None, "server name");
    }
    Ok(())
}

async fn suites(scene: &Scene) -> Outcome {
    plain(scene).await?;
    for connection in scene.server.seen() {
        let mut offered = connection.facts.hello.suites.clone();
        // The signalling value of old renegotiation is no suite.
        offered.retain(|suite| *suite != 0x00ff);
        offered.sort_unstable();
        ensure_eq!(
            offered,
            [AES_128_GCM_SHA256, AES_256_GCM_SHA384],
            "suites offered"
        );
    }
    Ok(())
}

async fn certificate(scene: &Scene) -> Outcome {
    plain(scene).await?;
    for connection in scene.server.seen() {
        ensure_eq!(
            connection.facts.peer_uris()?,
            [scene.client.identity()],
            "names of the client's certificate"
        );
        ensure_eq!(
            connection.facts.chain.len(),
            1,
            "certificates shown (the root is not)"
        );
    }
    Ok(())
}

async fn refused(scene: &Scene, status: u16) -> Outcome {
    let to = scene.far.at(7000 + status);
    gets_nothing(&scene.client.network, to).await?;
    scene.server.request_for(&to.to_string()).await?;
    Ok(())
}

/// A call to a pod whose proxy shows these credentials must end without a request.
async fn refuses_server(scene: &mut Scene, name: &str, credentials: conformance::Credentials) -> Outcome {
    let pod = scene.world.bare_pod("apps", name, name)?;
    let settings = ServerSettings::new(TlsSettings::tunnel(Some(credentials)));
    let server = scene.world.serve(&pod, settings, |_| Reply::Echo)?;
    scene.world.announce(pod.workload("node-elsewhere")).await?;
    gets_nothing(&scene.client.network, pod.at(APP)).await?;
    ensure!(server.requests().is_empty(), "a request was sent to an impostor");
    Ok(())
}

async fn other_identity(scene: &mut Scene) -> Outcome {
    let impostor = scene
        .world
        .authority
        .sign(&Claims::workload("apps", "somebody-else"))?;
    refuses_server(scene, "imitated", impostor).await
}

async fn other_root(scene: &mut Scene) -> Outcome {
    let stranger = conformance::Authority::new("a stranger's root")?;
    let impostor = stranger.sign(&Claims::workload("apps", "forged"))?;
    refuses_server(scene, "forged", impostor).await
}

async fn unknown_destination(scene: &mut Scene) -> Outcome {
    let outside = scene.world.bare_pod("nowhere", "outside", "outside")?;
    let app = App::echo(&outside.network, super::super::inbound::any(APP))?;
    let mut call = scene.call(outside.at(APP)).await?;
    echoes(&mut call, "in plain").await?;
    let peer = app.peers().first().map(|peer| peer.ip().to_canonical());
    ensure_eq!(
        peer,
        Some(scene.client.addresses.v4.into()),
        "the address that the application sees"
    );
    Ok(())
}

async fn plain_workload(scene: &mut Scene) -> Outcome {
    let pod = scene.world.bare_pod("apps", "plain", "plain")?;
    let mut workload = pod.workload("node-elsewhere");
    workload.tunnel_protocol = TunnelProtocol::None.into();
    scene.world.announce(workload).await?;
    let _app = App::echo(&pod.network, super::super::inbound::any(APP))?;
    let mut call = scene.call(pod.at(APP)).await?;
    echoes(&mut call, "in plain").await
}
