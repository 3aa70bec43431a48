use super::{APP, Scene, any};

use conformance::mesh::{self, exact};
use conformance::{App, HBONE_PORT, HboneClient, Outcome, Report, TlsSettings, echoes, ensure, ensure_eq};
use http::Request;
use proto::security::{AUTHORIZATION_TYPE_URL, Action, Match, Scope};

pub(crate) async fn run(report: &mut Report, scene: &Scene) {
    report
        .clause("answers-200-once-the-application-is-connected", connected(scene))
        .await;
    report
        .clause("connects-under-the-callers-address", callers_address(scene))
        .await;
    report
        .clause("authority-may-be-an-ipv6-address", ipv6(scene))
        .await;
    report
        .clause("authority-may-be-a-service-name", service_name(scene))
        .await;
    report
        .clause("tolerates-unknown-headers", unknown_headers(scene))
        .await;
    report
        .clause("describes-its-workload-in-the-answer", response_baggage(scene))
        .await;
    report
        .clause("refuses-methods-but-connect-with-400", method(scene))
        .await;
    report
        .clause("refuses-an-authority-without-port-with-400", without_port(scene))
        .await;
    report
        .clause("refuses-a-foreign-address-with-400", foreign(scene))
        .await;
    report
        .clause("refuses-a-service-address-with-400", service_address(scene))
        .await;
    report.clause("refuses-by-policy-with-401", denied(scene)).await;
    report
        .clause("answers-503-when-the-application-refuses", closed_port(scene))
        .await;
    report
        .clause("answers-503-for-its-own-ports", own_ports(scene))
        .await;
    report
        .clause("answers-503-for-an-unknown-service-name", unknown_name(scene))
        .await;
    report
        .clause("answers-503-for-an-unknown-service-port", unknown_port(scene))
        .await;
    report.clause("answers-pings", pings(scene)).await;
}

async fn status(scene: &Scene, authority: &str, expected: u16) -> Outcome {
    let answer = scene.tunnel().await?.connect(authority).await?;
    ensure_eq!(answer.status, expected, "CONNECT {authority}");
    Ok(())
}

async fn connected(scene: &Scene) -> Outcome {
    let before = scene.app.peers().len();
    let client = scene.tunnel().await?;
    let authority = scene.server.at(APP).to_string();
    let mut answer = client.connect(&authority).await?.expect(200)?;
    // Connected is what the kernel says; the application's own accept may take its turn a moment later. A proxy that
    // answers first and connects then is found out by applications that refuse.
    let limit = std::time::Duration::from_secs(2);
    conformance::eventually("the application has a connection, before any byte", limit, || {
        scene.app.peers().len() == before + 1
    })
    .await?;
    echoes(&mut answer.tunnel, "through the tunnel").await
}

async fn callers_address(scene: &Scene) -> Outcome {
    let authority = scene.server.at(APP).to_string();
    let mut answer = scene.tunnel().await?.connect(&authority).await?.expect(200)?;
    echoes(&mut answer.tunnel, "who am I?").await?;
    let peer = scene.app.peers().last().map(|peer| peer.ip().to_canonical());
    ensure_eq!(
        peer,
        Some(scene.caller.addresses.v4.into()),
        "the address that the application sees"
    );
    Ok(())
}

async fn ipv6(scene: &Scene) -> Outcome {
    let tls = TlsSettings::tunnel(Some(scene.world.credentials(&scene.caller)?));
    let client = HboneClient::open(&scene.caller.network, scene.server.at_v6(HBONE_PORT), &tls).await?;
    let authority = scene.server.at_v6(APP).to_string();
    ensure!(authority.starts_with('['), "an IPv6 authority is in brackets");
    let mut answer = client.connect(&authority).await?.expect(200)?;
    echoes(&mut answer.tunnel, "over IPv6").await?;
    let peer = scene.app.peers().last().map(|peer| peer.ip());
    ensure_eq!(
        peer,
        Some(scene.caller.addresses.v6.into()),
        "the address that the application sees"
    );
    Ok(())
}

async fn service_name(scene: &Scene) -> Outcome {
    let authority = format!("{}:80", mesh::hostname("apps", "web"));
    let mut answer = scene.tunnel().await?.connect(&authority).await?.expect(200)?;
    echoes(&mut answer.tunnel, "by name").await
}

async fn unknown_headers(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    let authority = scene.server.at(APP).to_string();
    let headers = [
        ("x-unknown", "whatever"),
        ("x-istio-source", "waypoint"),
        ("baggage", "a,b=,=c,k8s.namespace.name=n=n,,"),
        ("forwarded", "nonsense"),
        ("traceparent", "nonsense"),
    ];
    let mut answer = client.connect_with(&authority, &headers).await?.expect(200)?;
    echoes(&mut answer.tunnel, "in spite of headers").await
}

async fn response_baggage(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    let answer = client
        .connect(&scene.server.at(APP).to_string())
        .await?
        .expect(200)?;
    let baggage = answer
        .headers
        .get("baggage")
        .map(|value| value.to_str().unwrap_or("not ASCII"));
    let expected = "k8s.cluster.name=Kubernetes,k8s.namespace.name=apps,k8s.deployment.name=server,service.name=server,\
                    service.version=v1";
    ensure_eq!(baggage, Some(expected), "baggage of the answer");
    let refused = client
        .connect(&scene.server.at(1).to_string())
        .await?
        .expect(503)?;
    ensure!(
        !refused.headers.contains_key("baggage"),
        "an early error carries no baggage"
    );
    Ok(())
}

async fn method(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    for method in ["GET", "POST"] {
        let uri = format!("https://{}/", scene.server.at(APP));
        let request = Request::builder().method(method).uri(uri).body(())?;
        ensure_eq!(client.request(request).await?.status, 400, "{method}");
    }
    Ok(())
}

async fn without_port(scene: &Scene) -> Outcome {
    status(scene, &scene.server.addresses.v4.to_string(), 400).await
}

async fn foreign(scene: &Scene) -> Outcome {
    status(scene, &scene.caller.at(APP).to_string(), 400).await?;
    status(scene, "192.0.2.1:8080", 400).await
}

async fn service_address(scene: &Scene) -> Outcome {
    status(scene, "10.96.0.1:80", 400).await
}

async fn denied(scene: &Scene) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    // Principals are written without their scheme.
    let principal = scene.caller.identity().replace("spiffe://", "");
    let callers = Match {
        principals: vec![exact(&principal)],
        destination_ports: vec![9090],
        ..Match::default()
    };
    let deny = mesh::policy(
        "apps",
        "no-callers",
        Scope::Namespace,
        Action::Deny,
        vec![callers],
    );
    conformance::accepted(&discovery.policies([deny]).await?)?;
    let app = App::echo(&scene.server.network, any(9090))?;
    let client = scene.tunnel().await?;
    let refused = client.connect(&scene.server.at(9090).to_string()).await?.status;
    let allowed = client.connect(&scene.server.at(APP).to_string()).await?.status;
    discovery
        .remove(AUTHORIZATION_TYPE_URL, &["apps/no-callers"])
        .await?;
    ensure_eq!(refused, 401, "the port that is denied");
    ensure_eq!(allowed, 200, "another port on the same tunnel");
    ensure!(
        app.peers().is_empty(),
        "the application was called for a connection that was denied"
    );
    Ok(())
}

async fn closed_port(scene: &Scene) -> Outcome {
    status(scene, &scene.server.at(1).to_string(), 503).await
}

async fn own_ports(scene: &Scene) -> Outcome {
    for port in [15001, 15006, 15008] {
        status(scene, &scene.server.at(port).to_string(), 503).await?;
    }
    Ok(())
}

async fn unknown_name(scene: &Scene) -> Outcome {
    status(scene, "nowhere.apps.svc.cluster.local:80", 503).await
}

async fn unknown_port(scene: &Scene) -> Outcome {
    status(scene, &format!("{}:81", mesh::hostname("apps", "web")), 503).await
}

async fn pings(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    for _ in 0..3 {
        client.ping().await?;
    }
    Ok(())
}
