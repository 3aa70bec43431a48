//! Whose certificates the subject takes from a caller, and which it shows.

use conformance::{
    App, Authority, Claims, Credentials, HBONE_PORT, HboneClient, Outcome, Pod, Report, TlsSettings,
    TlsStream, World, ensure, ensure_eq, spiffe,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::CipherSuite;

use crate::inbound::any;

struct Scene {
    world: World,
    server: Pod,
    caller: Pod,
    app: App,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let server = world.pod("apps", "server").await?;
    let caller = world.bare_pod("callers", "caller", "caller")?;
    let app = App::echo(&server.network, any(8080))?;
    let scene = &Scene {
        world,
        server,
        caller,
        app,
    };
    report.clause("takes-a-good-certificate", good(scene)).await;
    report.clause("shows-the-identity-of-the-pod", shown(scene)).await;
    report
        .clause("refuses-a-caller-without-certificate", without(scene))
        .await;
    let caller = || Claims::workload("callers", "caller");
    for (name, claims) in [
        (
            "refuses-another-trust-domain",
            Claims::uris(&["spiffe://elsewhere/ns/callers/sa/caller"]),
        ),
        (
            "refuses-a-name-that-is-not-spiffe",
            Claims::uris(&["https://cluster.local/ns/callers/sa/caller"]),
        ),
        ("refuses-a-certificate-without-names", Claims::uris(&[])),
        ("refuses-an-expired-certificate", caller().expired()),
        ("refuses-a-certificate-of-the-future", caller().early()),
        (
            "refuses-a-certificate-for-servers",
            caller().only_for(ExtendedKeyUsagePurpose::ServerAuth),
        ),
    ] {
        report.clause(name, refused(scene, claims)).await;
    }
    report.clause("refuses-another-root", other_root(scene)).await;
    let two = Claims::uris(&[&spiffe("callers", "caller"), &spiffe("callers", "other")]);
    report.extension("refuses-two-names", refused(scene, two)).await;
    report
        .clause(
            "takes-aes-128-gcm",
            suite(scene, CipherSuite::TLS13_AES_128_GCM_SHA256, true),
        )
        .await;
    report
        .clause(
            "takes-aes-256-gcm",
            suite(scene, CipherSuite::TLS13_AES_256_GCM_SHA384, true),
        )
        .await;
    report
        .clause(
            "refuses-chacha20",
            suite(scene, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, false),
        )
        .await;
    report.clause("agrees-on-h2", protocol(scene)).await;
    ensure!(
        scene.app.peers().is_empty(),
        "the application was called though nobody asked"
    );
    Ok(())
}

async fn open(scene: &Scene, shown: Option<Credentials>) -> Outcome<HboneClient> {
    let to = scene.server.at(HBONE_PORT);
    HboneClient::open(&scene.caller.network, to, &TlsSettings::tunnel(shown)).await
}

async fn good(scene: &Scene) -> Outcome {
    open(scene, Some(scene.world.credentials(&scene.caller)?)).await?;
    Ok(())
}

async fn shown(scene: &Scene) -> Outcome {
    let client = open(scene, Some(scene.world.credentials(&scene.caller)?)).await?;
    ensure_eq!(
        client.facts.peer_uris()?,
        [scene.server.identity()],
        "names of the server's certificate"
    );
    ensure_eq!(
        client.facts.chain.len(),
        1,
        "certificates shown (the root is not)"
    );
    Ok(())
}

fn must_fail(opened: Outcome<HboneClient>) -> Outcome {
    ensure!(opened.is_err(), "the tunnel was opened");
    Ok(())
}

async fn without(scene: &Scene) -> Outcome {
    must_fail(open(scene, None).await)
}

async fn refused(scene: &Scene, claims: Claims) -> Outcome {
    must_fail(open(scene, Some(scene.world.authority.sign(&claims)?)).await)
}

async fn other_root(scene: &Scene) -> Outcome {
    let stranger = Authority::new("a stranger's root")?;
    let forged = stranger.sign(&Claims::workload("callers", "caller"))?;
    must_fail(open(scene, Some(forged)).await)
}

async fn suite(scene: &Scene, only: CipherSuite, taken: bool) -> Outcome {
    let tls = TlsSettings {
        only_suite: Some(only),
        ..TlsSettings::tunnel(Some(scene.world.credentials(&scene.caller)?))
    };
    let opened = HboneClient::open(&scene.caller.network, scene.server.at(HBONE_PORT), &tls).await;
    if !taken {
        return must_fail(opened);
    }
    ensure_eq!(opened?.facts.suite, u16::from(only), "suite agreed on");
    Ok(())
}

async fn protocol(scene: &Scene) -> Outcome {
    let tls = TlsSettings {
        protocols: vec!["http/1.1", "h2"],
        ..TlsSettings::tunnel(Some(scene.world.credentials(&scene.caller)?))
    };
    let socket = scene.caller.network.connect(scene.server.at(HBONE_PORT)).await?;
    let stream = TlsStream::connect(socket, &tls).await?;
    ensure_eq!(
        stream.facts().protocol.as_deref(),
        Some("h2"),
        "protocol agreed on"
    );
    Ok(())
}
