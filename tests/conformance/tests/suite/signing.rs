//! The subject as a client of the certificate authority.

use std::time::Duration;

use conformance::{
    App, Authority, Claims, HBONE_PORT, HboneClient, Outcome, Report, TOKEN, TlsSettings, World, echoes,
    ensure, ensure_eq, eventually, eventually_ok, mesh,
};

use crate::inbound::any;

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let pod = world.pod("apps", "server").await?;
    let identity = pod.identity();
    let signing = world.control_plane.signing.clone();
    eventually("a certificate is asked for", Duration::from_secs(10), || {
        !signing.seen_for(&identity).is_empty()
    })
    .await?;
    let request = signing.seen_for(&identity)[0].clone();
    let facts = request.facts()?;

    report
        .clause("acts-for-the-pods-identity", async {
            ensure_eq!(
                request.impersonated.as_deref(),
                Some(identity.as_str()),
                "ImpersonatedIdentity"
            );
            ensure_eq!(facts.uris, [identity.as_str()], "names in the request");
            Ok(())
        })
        .await;
    report
        .clause("keys-are-on-p-256", async {
            ensure!(facts.is_p256, "the key is of another kind");
            Ok(())
        })
        .await;
    report
        .clause("names-nothing-but-the-identity", async {
            ensure!(facts.subject_is_empty, "the request has a subject");
            ensure!(
                facts.names_are_critical,
                "the extension with the name is not critical"
            );
            Ok(())
        })
        .await;
    report
        .clause("asks-for-a-day", async {
            ensure_eq!(request.validity, 24 * 3600, "seconds asked for");
            Ok(())
        })
        .await;
    report
        .clause("shows-its-token-and-cluster", async {
            let header = |name: &str| request.headers.get(name).map(String::as_str);
            ensure_eq!(
                header("authorization"),
                Some(format!("Bearer {TOKEN}").as_str()),
                "authorization"
            );
            ensure_eq!(header("clusterid"), Some(mesh::CLUSTER), "clusterid");
            Ok(())
        })
        .await;
    report
        .clause("renews-at-half-of-the-life", renews(&mut world))
        .await;
    report
        .clause("goes-on-asking-after-a-refusal", refused(&mut world))
        .await;
    report
        .clause("keeps-a-good-certificate-when-renewal-fails", kept(&mut world))
        .await;
    report
        .clause("takes-every-root-that-is-named", two_roots(&mut world))
        .await;
    report
        .clause(
            "shows-no-certificate-of-another-identity",
            other_identity(&mut world),
        )
        .await;
    Ok(())
}

async fn renews(world: &mut World) -> Outcome {
    const LIFE: Duration = Duration::from_secs(12);
    let signing = world.control_plane.signing.clone();
    signing.sign_for(LIFE);
    let pod = world.pod("apps", "brief").await?;
    let asked = || signing.seen_for(&pod.identity());
    eventually("renewal", LIFE + Duration::from_secs(2), || asked().len() >= 2).await?;
    signing.sign_for(Duration::from_secs(3600));
    let after = asked()[1].at - asked()[0].at;
    // Half of it, give or take what spreads the load.
    ensure!(
        after >= LIFE / 3 && after <= LIFE * 3 / 4,
        "renewed {after:?} into a life of {LIFE:?}"
    );
    Ok(())
}

async fn reachable(world: &World, from: &conformance::Pod, to: &conformance::Pod) -> Outcome {
    let tls = TlsSettings::tunnel(Some(world.credentials(from)?));
    let client = HboneClient::open(&from.network, to.at(HBONE_PORT), &tls).await?;
    let mut answer = client.connect(&to.at(8080).to_string()).await?.expect(200)?;
    echoes(&mut answer.tunnel, "hello").await
}

async fn refused(world: &mut World) -> Outcome {
    let signing = world.control_plane.signing.clone();
    let identity = conformance::spiffe("apps", "unlucky");
    signing.refuse(Some(&identity));
    let caller = world.bare_pod("callers", "caller", "caller")?;
    // Whether the pod is taken on without a certificate is the subject's affair; that it asks again is not.
    let pod = world.bare_pod("apps", "unlucky", "unlucky")?;
    conformance::redirect(&pod.network)?;
    world.announce(pod.workload(mesh::NODE)).await?;
    let agent = world.agent.clone();
    let own = pod.clone();
    let adding = tokio::spawn(async move {
        agent
            .add(&own.uid(), &own.name, &own.namespace, &own.account, &own.network)
            .await
    });
    let outcome = eventually("asks again", Duration::from_secs(15), || {
        signing.seen_for(&identity).len() >= 2
    })
    .await;
    signing.refuse(None);
    outcome?;
    ensure_eq!(adding.await??, "", "the answer to the node agent");
    let _app = App::echo(&pod.network, any(8080))?;
    eventually_ok(
        "the pod is reached in the end",
        Duration::from_secs(15),
        async || reachable(world, &caller, &pod).await,
    )
    .await
}

async fn kept(world: &mut World) -> Outcome {
    const LIFE: Duration = Duration::from_secs(12);
    let signing = world.control_plane.signing.clone();
    let caller = world.bare_pod("callers", "second", "second")?;
    signing.sign_for(LIFE);
    let pod = world.pod("apps", "keeper").await?;
    let _app = App::echo(&pod.network, any(8080))?;
    reachable(world, &caller, &pod).await?;
    let first = signing.seen_for(&pod.identity()).len();
    signing.refuse(Some(&pod.identity()));
    let asked = || signing.seen_for(&pod.identity()).len();
    let outcome = async {
        eventually("renewal is tried and refused", LIFE, || asked() > first).await?;
        reachable(world, &caller, &pod).await
    }
    .await;
    signing.refuse(None);
    signing.sign_for(Duration::from_secs(3600));
    outcome?;
    eventually("renewal is tried again", Duration::from_secs(15), || {
        asked() > first + 1
    })
    .await?;
    eventually_ok("and works", Duration::from_secs(15), async || {
        reachable(world, &caller, &pod).await
    })
    .await
}

async fn two_roots(world: &mut World) -> Outcome {
    let next = Authority::new("the next root")?;
    world.control_plane.signing.also_trust(&next.root);
    let pod = world.pod("apps", "rotating").await?;
    let caller = world.bare_pod("callers", "third", "third")?;
    let claims = Claims::workload("callers", "third");
    for root in [&*world.authority, &next] {
        let tls = TlsSettings::tunnel(Some(root.sign(&claims)?));
        HboneClient::open(&caller.network, pod.at(HBONE_PORT), &tls).await?;
    }
    world.control_plane.signing.also_trust("");
    Ok(())
}

async fn other_identity(world: &mut World) -> Outcome {
    let stolen = conformance::spiffe("elsewhere", "stolen");
    let signing = world.control_plane.signing.clone();
    signing.sign_as(Some(&stolen));
    let pod = world.bare_pod("apps", "confused", "confused")?;
    conformance::redirect(&pod.network)?;
    world.announce(pod.workload(mesh::NODE)).await?;
    let (agent, own) = (world.agent.clone(), pod.clone());
    let uid = pod.uid();
    let adding = tokio::spawn(async move {
        let answer = agent.add(&uid, &own.name, &own.namespace, &own.account, &own.network);
        answer.await
    });
    let outcome = async {
        eventually("a certificate is asked for", Duration::from_secs(10), || {
            !signing.seen_for(&pod.identity()).is_empty()
        })
        .await?;
        let caller = world.bare_pod("callers", "fourth", "fourth")?;
        let tls = TlsSettings::tunnel(Some(world.credentials(&caller)?));
        if let Ok(client) = HboneClient::open(&caller.network, pod.at(HBONE_PORT), &tls).await {
            let shown = client.facts.peer_uris()?;
            ensure!(!shown.contains(&stolen), "the pod is shown as {shown:?}");
        }
        Ok(())
    }
    .await;
    signing.sign_as(None);
    outcome?;
    ensure_eq!(adding.await??, "", "the answer to the node agent");
    Ok(())
}
