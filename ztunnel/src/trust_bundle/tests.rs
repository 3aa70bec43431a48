use super::*;
use crate::testing::{Net, Node, TestIssuer, echo_application, in_time, pod, require_root, shop, until};
use proto::origin::TRUST_BUNDLE_TYPE_URL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xds_client::Handler;

fn resource(generation: u64, trust_domain: &str, roots: &str) -> ResourceUpdate {
    retiring(generation, trust_domain, roots, "")
}

fn retiring(generation: u64, trust_domain: &str, roots: &str, retired: &str) -> ResourceUpdate {
    let message = TrustBundle {
        revocation_lists: String::new(),
        revocation_number: 0,
        generation,
        trust_domain: trust_domain.into(),
        roots: roots.into(),
        retired_roots: retired.into(),
    };
    ResourceUpdate {
        name: trust_domain.into(),
        aliases: Vec::new(),
        version: generation.to_string(),
        payload: message.encode_to_vec().into(),
    }
}

async fn tell(node: &mut Node, resource: ResourceUpdate) -> Option<String> {
    let update = Update {
        type_url: TRUST_BUNDLE_TYPE_URL.into(),
        resources: vec![resource],
        removed: Vec::new(),
        ..Update::default()
    };
    let rejections = node.handler.apply(update).await;
    rejections.into_iter().next().map(|rejection| rejection.reason)
}

fn revoking(number: u64, roots: &str, lists: &str) -> ResourceUpdate {
    let message = TrustBundle {
        generation: 7,
        trust_domain: "cluster.local".into(),
        roots: roots.into(),
        retired_roots: String::new(),
        revocation_lists: lists.into(),
        revocation_number: number,
    };
    ResourceUpdate {
        payload: message.encode_to_vec().into(),
        ..resource(7, "cluster.local", roots)
    }
}

#[tokio::test]
async fn what_the_bundle_revokes_counts_and_never_less_of_it() {
    let issuer = TestIssuer::new();
    let mut node = Node::new(&issuer, &[], Vec::new(), Vec::new(), Vec::new()).await;
    let root = issuer.root_pem();
    let mut authority = ca::StoredAuthority::generate(std::time::SystemTime::now()).unwrap();
    let life = std::time::Duration::from_secs(60);
    let now = std::time::SystemTime::now();
    authority.revoke(&["47".repeat(16)], now, life).unwrap();
    let lists = authority.revocations().unwrap().lists;
    let listed = |node: &Node| match node.context.tls.trust().revocation() {
        tls::Revocation::Unchecked => 0,
        tls::Revocation::Listed(lists) => lists.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(tell(&mut node, revoking(0, &root, "")).await, None);
    assert_eq!(listed(&node), 0);
    assert_eq!(tell(&mut node, revoking(3, &root, &lists)).await, None);
    assert_eq!(listed(&node), 1);
    for bad in [
        revoking(2, &root, &lists),
        revoking(4, &root, "rubbish"),
        revoking(0, &root, ""),
    ] {
        tell(&mut node, bad).await.expect("it is rejected");
        assert_eq!(listed(&node), 1);
    }
    // Those of a file count besides.
    let file = tls::RevocationLists::parse([lists.as_bytes()]).unwrap();
    node.context
        .tls
        .trust()
        .set_revocation(tls::Revocation::Required(file));
    match node.context.tls.trust().revocation() {
        tls::Revocation::Required(lists) => assert_eq!(lists.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_rejected_and_the_last_good_one_stays() {
    let (issuer, other) = (TestIssuer::new(), TestIssuer::new());
    let mut node = Node::new(&issuer, &[], Vec::new(), Vec::new(), Vec::new()).await;
    let (root, strange) = (issuer.root_pem(), other.root_pem());
    let good = resource(7, "cluster.local", &root);
    assert_eq!(tell(&mut node, good.clone()).await, None);
    let in_force = node.context.tls.trust().roots().unwrap();
    assert_eq!(in_force.to_pem(), std::slice::from_ref(&root));

    let garbage = ResourceUpdate {
        payload: vec![0xff; 9].into(),
        ..good.clone()
    };
    let cut = &root[..root.len() / 2];
    let mut words = Vec::new();
    for bad in [
        garbage,
        resource(8, "cluster.local", ""),
        resource(8, "cluster.local", cut),
        resource(8, "elsewhere", &strange),
        resource(6, "cluster.local", &strange),
        resource(7, "cluster.local", &strange),
    ] {
        words.push(tell(&mut node, bad).await.expect("it is rejected"));
        assert_eq!(node.context.tls.trust().roots().unwrap(), in_force);
    }
    assert!(words[3].contains("TRUST_DOMAIN"), "{words:?}");
    assert!(words[4].contains("older"), "{words:?}");

    let taken_back = Update {
        type_url: TRUST_BUNDLE_TYPE_URL.into(),
        resources: Vec::new(),
        removed: vec!["cluster.local".into()],
        ..Update::default()
    };
    assert!(node.handler.apply(taken_back).await.is_empty());
    assert_eq!(node.context.tls.trust().roots().unwrap(), in_force);
    assert_eq!(tell(&mut node, good).await, None, "the same once more");
    let both = resource(8, "cluster.local", &format!("{strange}{root}"));
    assert_eq!(tell(&mut node, both).await, None);
    assert_eq!(node.context.tls.trust().roots().unwrap().len(), 2);
}

#[tokio::test]
async fn new_and_old_roots_are_accepted_at_once_and_what_rests_on_a_dropped_one_is_closed() {
    if !require_root() {
        return;
    }
    // Two nodes, each of whose certificates another root signs.
    let (old, new) = (TestIssuer::new(), TestIssuer::new());
    let (old_root, new_root) = (old.root_pem(), new.root_pem());
    let net = Net::new();
    let port = echo_application(net.ip(2)).await;
    let workloads = || vec![pod("client", net.ip(1)), pod("server", net.ip(2))];
    let mut client = Node::new(&new, &[], Vec::new(), workloads(), Vec::new()).await;
    let mut server = Node::new(&old, &[], Vec::new(), workloads(), Vec::new()).await;
    server.serve("server", net.at(2, 15008)).await;
    let pod = client.client("client");

    let mut refused = in_time("the connection", pod.connect(net.at(2, port))).await;
    let _ = refused.write_all(b"?").await;
    let mut byte = [0; 1];
    assert!(
        matches!(refused.read(&mut byte).await, Ok(0) | Err(_)),
        "strangers"
    );

    let both = format!("{old_root}{new_root}");
    for node in [&mut client, &mut server] {
        assert_eq!(tell(node, resource(7, "cluster.local", &both)).await, None);
    }
    let mut open = in_time("the connection", pod.connect(net.at(2, port))).await;
    open.write_all(b"!").await.unwrap();
    in_time("the echo", open.read_exact(&mut byte)).await.unwrap();
    assert_eq!(client.context.tunnels.len(), 1);

    // The old root is retired in good order: what is open goes on.
    let retired = retiring(8, "cluster.local", &new_root, &old_root);
    assert_eq!(tell(&mut client, retired).await, None);
    open.write_all(b"!").await.unwrap();
    in_time("the echo", open.read_exact(&mut byte)).await.unwrap();

    // The client's node holds to the new root alone: acknowledged when the tunnel to the other is closed.
    assert!(client.context.identities.state(&shop("client")).is_some());
    assert_eq!(
        tell(&mut client, resource(9, "cluster.local", &new_root)).await,
        None
    );
    let end = in_time("the end", open.read(&mut byte)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    until("the tunnel is gone", || client.context.tunnels.len() == 0).await;
}
