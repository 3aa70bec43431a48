//! Who may connect: policies, and connections that are open when they change.

use conformance::mesh::{self, exact, presence};
use conformance::{
    App, End, HboneClient, Outcome, Pod, Report, TlsSettings, World, accepted, echoes, end, ensure, ensure_eq,
};
use proto::security::string_match::MatchType;
use proto::security::{
    AUTHORIZATION_TYPE_URL, Action, Address, Authorization, Match, Rule, Scope, StringMatch,
};

use crate::inbound::any;

const APP: u16 = 8080;

struct Scene {
    world: World,
    server: Pod,
    friend: Pod,
    stranger: Pod,
    _app: App,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let server = world.pod("apps", "server").await?;
    let friend = world.bare_pod("friends", "friend", "friend")?;
    let stranger = world.bare_pod("strangers", "stranger", "stranger")?;
    let app = App::echo(&server.network, any(APP))?;
    let scene = Scene {
        world,
        server,
        friend,
        stranger,
        _app: app,
    };
    let scene = &scene;
    report
        .clause("without-policies-everything-passes", open(scene))
        .await;
    report
        .clause("strict-refuses-plaintext-and-takes-tunnels", strict(scene))
        .await;
    report.clause("allow-refuses-everybody-else", allow(scene)).await;
    report.clause("deny-goes-before-allow", deny_first(scene)).await;
    report.clause("dry-run-changes-nothing", dry_run(scene)).await;
    report
        .clause("a-policy-without-rules-never-matches", no_rules(scene))
        .await;
    report
        .clause("scopes-global-namespace-and-selector", scopes(scene))
        .await;
    for (name, matched) in [
        ("matches-principals", by(|m, s| m.principals = vec![exact(s)])),
        (
            "matches-principals-by-prefix",
            by(|m, _| m.principals = vec![prefix("cluster.local/ns/fri")]),
        ),
        (
            "matches-principals-by-suffix",
            by(|m, _| m.principals = vec![suffix("/sa/friend")]),
        ),
        (
            "matches-namespaces",
            by(|m, _| m.namespaces = vec![exact("friends")]),
        ),
        (
            "matches-not-namespaces",
            by(|m, _| m.not_namespaces = vec![exact("strangers")]),
        ),
        (
            "matches-not-principals",
            by(|m, _| m.not_principals = vec![suffix("/sa/stranger")]),
        ),
    ] {
        report.clause(name, only_friend(scene, matched)).await;
    }
    report
        .clause("matches-source-addresses", only_friend(scene, source_ip(scene)))
        .await;
    report.clause("matches-destination-ports", ports(scene)).await;
    report
        .clause("closes-connections-that-a-new-policy-denies", late(scene))
        .await;
    report
        .extension("an-unknown-policy-of-the-workload-refuses", unknown_policy(scene))
        .await;
    report
        .extension(
            "closes-connections-when-the-workload-changes",
            workload_change(scene),
        )
        .await;
    Ok(())
}

type Fill = fn(&mut Match, &str);

fn by(fill: Fill) -> Match {
    let mut matched = Match::default();
    fill(&mut matched, "cluster.local/ns/friends/sa/friend");
    matched
}

fn prefix(text: &str) -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Prefix(text.to_owned())),
    }
}

fn suffix(text: &str) -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Suffix(text.to_owned())),
    }
}

fn source_ip(scene: &Scene) -> Match {
    Match {
        source_ips: vec![Address {
            address: mesh::bytes_of(scene.friend.addresses.v4.into()),
            length: 32,
        }],
        ..Match::default()
    }
}

async fn tunnel(scene: &Scene, from: &Pod) -> Outcome<HboneClient> {
    let tls = TlsSettings::tunnel(Some(scene.world.credentials(from)?));
    HboneClient::open(&from.network, scene.server.at(conformance::HBONE_PORT), &tls).await
}

/// The status that a pod gets for a CONNECT.
async fn status(scene: &Scene, from: &Pod) -> Outcome<u16> {
    let client = tunnel(scene, from).await?;
    Ok(client.connect(&scene.server.at(APP).to_string()).await?.status)
}

async fn expect(scene: &Scene, friend: u16, stranger: u16) -> Outcome {
    ensure_eq!(status(scene, &scene.friend).await?, friend, "the friend");
    ensure_eq!(status(scene, &scene.stranger).await?, stranger, "the stranger");
    Ok(())
}

/// Whether a call in plain gets its echo.
async fn plain_passes(scene: &Scene) -> Outcome<bool> {
    let Ok(mut call) = scene.stranger.network.connect(scene.server.at(APP)).await else {
        return Ok(false);
    };
    Ok(echoes(&mut call, "in plain").await.is_ok())
}

/// Runs the check with these policies, and takes them away again whatever comes of it.
async fn with(scene: &Scene, policies: &[Authorization], check: impl Future<Output = Outcome>) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    accepted(&discovery.policies(policies.iter().cloned()).await?)?;
    let outcome = check.await;
    let names: Vec<String> = policies
        .iter()
        .map(|policy| format!("{}/{}", policy.namespace, policy.name))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    discovery.remove(AUTHORIZATION_TYPE_URL, &names).await?;
    outcome
}

fn policy(name: &str, action: Action, matched: Match) -> Authorization {
    mesh::policy("apps", name, Scope::Namespace, action, vec![matched])
}

async fn open(scene: &Scene) -> Outcome {
    expect(scene, 200, 200).await?;
    ensure!(plain_passes(scene).await?, "a call in plain does not pass");
    Ok(())
}

async fn strict(scene: &Scene) -> Outcome {
    // As istiod writes STRICT: denied is who has no principal.
    let nobody = Match {
        not_principals: vec![presence()],
        ..Match::default()
    };
    let strict = mesh::policy(
        "istio-system",
        "istio_converted_static_strict",
        Scope::WorkloadSelector,
        Action::Deny,
        vec![nobody],
    );
    with(scene, &[strict], async {
        let mut workload = scene.server.workload(mesh::NODE);
        workload.authorization_policies = vec!["istio-system/istio_converted_static_strict".to_owned()];
        scene.world.announce(workload).await?;
        let outcome = async {
            expect(scene, 200, 200).await?;
            ensure!(!plain_passes(scene).await?, "a call in plain passes");
            Ok(())
        }
        .await;
        scene.world.announce(scene.server.workload(mesh::NODE)).await?;
        outcome
    })
    .await
}

async fn allow(scene: &Scene) -> Outcome {
    let friends = by(|m, s| m.principals = vec![exact(s)]);
    with(scene, &[policy("allow", Action::Allow, friends)], async {
        expect(scene, 200, 401).await?;
        ensure!(!plain_passes(scene).await?, "a call in plain passes");
        Ok(())
    })
    .await
}

async fn deny_first(scene: &Scene) -> Outcome {
    let friends = by(|m, s| m.principals = vec![exact(s)]);
    let policies = [
        policy("allow", Action::Allow, friends.clone()),
        policy("deny", Action::Deny, friends),
    ];
    with(scene, &policies, expect(scene, 401, 401)).await
}

async fn dry_run(scene: &Scene) -> Outcome {
    let mut deny = policy("deny", Action::Deny, by(|m, _| m.namespaces = vec![prefix("")]));
    deny.dry_run = true;
    with(scene, &[deny], expect(scene, 200, 200)).await
}

async fn no_rules(scene: &Scene) -> Outcome {
    let mut deny = policy("deny", Action::Deny, Match::default());
    deny.rules.clear();
    with(scene, &[deny.clone()], expect(scene, 200, 200)).await?;
    // One that never matches is an allow list with nobody on it.
    deny.action = Action::Allow.into();
    with(scene, &[deny.clone()], expect(scene, 401, 401)).await?;
    // A rule without clauses matches everybody.
    deny.rules = vec![Rule::default()];
    with(scene, &[deny], expect(scene, 200, 200)).await
}

async fn scopes(scene: &Scene) -> Outcome {
    let everybody = || vec![by(|m, _| m.not_namespaces = vec![exact("nobody's")])];
    let global = mesh::policy("istio-system", "global", Scope::Global, Action::Deny, everybody());
    with(scene, &[global], expect(scene, 401, 401)).await?;
    let elsewhere = mesh::policy(
        "elsewhere",
        "namespace",
        Scope::Namespace,
        Action::Deny,
        everybody(),
    );
    with(scene, &[elsewhere], expect(scene, 200, 200)).await?;
    let unselected = mesh::policy(
        "apps",
        "selector",
        Scope::WorkloadSelector,
        Action::Deny,
        everybody(),
    );
    with(scene, &[unselected], expect(scene, 200, 200)).await
}

async fn only_friend(scene: &Scene, matched: Match) -> Outcome {
    with(
        scene,
        &[policy("allow", Action::Allow, matched)],
        expect(scene, 200, 401),
    )
    .await
}

async fn ports(scene: &Scene) -> Outcome {
    let matched = Match {
        destination_ports: vec![APP.into()],
        ..Match::default()
    };
    with(
        scene,
        &[policy("deny", Action::Deny, matched.clone())],
        expect(scene, 401, 401),
    )
    .await?;
    let other = Match {
        destination_ports: vec![],
        not_destination_ports: vec![APP.into()],
        ..matched
    };
    with(
        scene,
        &[policy("deny", Action::Deny, other)],
        expect(scene, 200, 200),
    )
    .await
}

/// Two open connections, of which one is denied by what `change` does: it ends, and the other does not.
async fn ends_for_stranger(scene: &Scene, change: impl Future<Output = Outcome>) -> Outcome {
    let authority = scene.server.at(APP).to_string();
    let (friend, stranger) = (
        tunnel(scene, &scene.friend).await?,
        tunnel(scene, &scene.stranger).await?,
    );
    let mut friend = friend.connect(&authority).await?.expect(200)?.tunnel;
    let mut stranger = stranger.connect(&authority).await?.expect(200)?.tunnel;
    echoes(&mut friend, "before").await?;
    echoes(&mut stranger, "before").await?;
    change.await?;
    let ended = end(&mut stranger).await?;
    ensure!(matches!(ended, End::Broken | End::Closed(_)), "{ended:?}");
    echoes(&mut friend, "after").await
}

fn no_strangers() -> Authorization {
    policy(
        "late",
        Action::Deny,
        by(|m, _| m.namespaces = vec![exact("strangers")]),
    )
}

async fn late(scene: &Scene) -> Outcome {
    let discovery = &scene.world.control_plane.discovery;
    let outcome = ends_for_stranger(scene, async {
        accepted(&discovery.policies([no_strangers()]).await?)
    })
    .await;
    discovery.remove(AUTHORIZATION_TYPE_URL, &["apps/late"]).await?;
    outcome
}

async fn unknown_policy(scene: &Scene) -> Outcome {
    let mut workload = scene.server.workload(mesh::NODE);
    workload.authorization_policies = vec!["apps/never-heard-of".to_owned()];
    scene.world.announce(workload).await?;
    let outcome = expect(scene, 401, 401).await;
    scene.world.announce(scene.server.workload(mesh::NODE)).await?;
    outcome
}

async fn workload_change(scene: &Scene) -> Outcome {
    let selected = Authorization {
        scope: Scope::WorkloadSelector.into(),
        ..no_strangers()
    };
    with(scene, &[selected], async {
        let mut workload = scene.server.workload(mesh::NODE);
        workload.authorization_policies = vec!["apps/late".to_owned()];
        let outcome = ends_for_stranger(scene, scene.world.announce(workload)).await;
        scene.world.announce(scene.server.workload(mesh::NODE)).await?;
        outcome
    })
    .await
}
