//! Who is served, and who is refused and why.

use super::*;

#[tokio::test]
async fn strangers_are_refused_with_the_reason() {
    let world = World::start().await;
    let good = world.caller();
    let open =
        async |token: Token, node: Node| Client::open(world.channel(token), node).await.refusal().await;
    let with = |caller: Caller| Token::Inline(world.token(caller));
    let refused = |status: Status, code: Code, words: &str| {
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    };
    refused(
        open(Token::None, node("zt-a", "node-a")).await,
        Code::Unauthenticated,
        "no bearer token",
    );
    let forger = TokenSigner::load_or_create(&world.folder.path().join("other-key.pem")).unwrap();
    let subject = TokenSubject {
        issuer: "lab".to_owned(),
        audience: "istio-ca".to_owned(),
        caller: good.clone(),
        service_account_uid: "sa-uid".to_owned(),
        node_uid: "node-uid".to_owned(),
        ttl: Duration::from_secs(600),
    };
    let forged = Token::Inline(forger.sign(&subject, SystemTime::now()).unwrap());
    refused(
        open(forged, node("zt-a", "node-a")).await,
        Code::Unauthenticated,
        "not signed by a key",
    );
    let other_node = open(with(good.clone()), node("zt-a", "node-b")).await;
    refused(other_node, Code::PermissionDenied, "NODE_NAME");
    let other_pod = open(with(good.clone()), node("zt-b", "node-a")).await;
    refused(other_pod, Code::PermissionDenied, "NAME");
    let other_account = Caller {
        service_account: "web".to_owned(),
        ..good.clone()
    };
    refused(
        open(with(other_account), node("zt-a", "node-a")).await,
        Code::PermissionDenied,
        "istio-system/web",
    );
    let nobody = open(with(good.clone()), Node::default()).await;
    refused(nobody, Code::InvalidArgument, "NAMESPACE");
    // Expired, and for another audience.
    for (audience, age, words) in [
        ("istio-ca", 3600, "expired"),
        ("https://kubernetes.default.svc", 0, "another audience"),
    ] {
        let subject = TokenSubject {
            audience: audience.to_owned(),
            ..subject.clone()
        };
        let signed = SystemTime::now() - Duration::from_secs(age);
        let token = Token::Inline(world.signer.sign(&subject, signed).unwrap());
        refused(
            open(token, node("zt-a", "node-a")).await,
            Code::Unauthenticated,
            words,
        );
    }
    let mut envoy = node("zt-a", "node-a");
    envoy.id = envoy.id.replace("ztunnel~", "waypoint~");
    refused(
        open(with(good), envoy).await,
        Code::PermissionDenied,
        "only ztunnels",
    );
    assert_eq!(world.ask("/debug/sync").await["proxies"], json!([]));
    let metrics = world.monitoring("/metrics").await;
    for line in [
        "ztunnel_control_plane_streams_refused_total{reason=\"token_expired\"} 1",
        "ztunnel_control_plane_streams_refused_total{reason=\"token_audience\"} 1",
        "ztunnel_control_plane_streams_refused_total{reason=\"not_its_node\"} 2",
        "ztunnel_control_plane_streams_refused_total{reason=\"no_such_pod\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn one_pod_does_not_take_the_places_of_others() {
    let world = World::start().await;
    let mut open = Vec::new();
    let status = loop {
        let mut client = world.connect().await;
        client.subscribe().await;
        match client.receive().await {
            Ok(_) => open.push(client),
            Err(status) => break status,
        }
        assert!(open.len() < 100, "there is no limit");
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        open.len() >= 2,
        "a proxy that comes back is served beside its old stream"
    );
    put(
        &world.objects,
        pod("istio-system", "zt-b", "ztunnel", "node-b", "10.9.0.2"),
    );
    let key = ObjectKey::new(objects::Kind::Pod, "istio-system", "zt-b");
    let other = Caller {
        pod_name: "zt-b".to_owned(),
        pod_uid: world.objects.get(&key).unwrap().unwrap().metadata.uid.clone(),
        node: "node-b".to_owned(),
        ..world.caller()
    };
    // The pod is known as soon as the source has told of it.
    tokio::time::timeout(PATIENCE, async {
        loop {
            let channel = world.channel(Token::Inline(world.token(other.clone())));
            let mut client = Client::open(channel, node("zt-b", "node-b")).await;
            client.subscribe().await;
            match client.receive().await {
                Ok(told) => break assert!(told.is_some()),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    })
    .await
    .unwrap();
    // What goes makes room.
    open.clear();
    tokio::time::timeout(PATIENCE, async {
        loop {
            let mut client = world.connect().await;
            client.subscribe().await;
            if client.receive().await.is_ok() {
                break;
            }
        }
    })
    .await
    .unwrap();
}

/// Tokens outlive their pods; here until they end.
#[tokio::test]
async fn a_pod_that_has_gone_is_not_served_any_more() {
    let world = World::start().await;
    let (token, mut client) = (world.token(world.caller()), world.connect().await);
    client.subscribe().await;
    client.next().await;
    let key = ObjectKey::new(objects::Kind::Pod, "istio-system", "zt-a");
    world.objects.delete(&key).unwrap();
    let status = loop {
        match client.receive().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let again = Client::open(
        world.channel(Token::Inline(token.clone())),
        node("zt-a", "node-a"),
    )
    .await;
    let status = again.refusal().await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(
        status.message().contains("istio-system/zt-a is not known"),
        "{status}"
    );
    // Another of that name is not the one that the token is for.
    let proxy = pod("istio-system", "zt-a", "ztunnel", "node-a", "10.9.0.1");
    put(&world.objects, proxy);
    let replaced = async {
        loop {
            let again = Client::open(
                world.channel(Token::Inline(token.clone())),
                node("zt-a", "node-a"),
            )
            .await;
            let status = again.refusal().await;
            if status.code() == Code::PermissionDenied {
                break status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, replaced).await.unwrap();
    assert!(status.message().contains("uid"), "{status}");
}

/// A pod of an application, that is there from now on.
fn web(world: &World) -> Caller {
    put(&world.objects, pod("demo", "web-1", "web", "node-a", "10.9.0.7"));
    let key = ObjectKey::new(objects::Kind::Pod, "demo", "web-1");
    Caller {
        namespace: "demo".to_owned(),
        service_account: "web".to_owned(),
        pod_name: "web-1".to_owned(),
        pod_uid: world.objects.get(&key).unwrap().unwrap().metadata.uid.clone(),
        node: "node-a".to_owned(),
    }
}

/// How its dedicated proxy names itself.
fn web_itself() -> Node {
    let mut message = node("web-1", "node-a");
    message.id = "ztunnel~10.9.0.7~web-1.demo~demo.svc.cluster.local".to_owned();
    let fields = &mut message.metadata.as_mut().unwrap().fields;
    fields.get_mut("NAMESPACE").unwrap().kind = Some(Kind::StringValue("demo".to_owned()));
    message
}

/// Who comes back names what it has, which is much in a large mesh; but not any pod may make the server read as much.
#[tokio::test]
async fn a_pod_that_is_no_node_proxy_may_say_less_at_once() {
    const TOO_MUCH: usize = 20;
    let world = World::start().await;
    let own = web(&world);
    let versions: BTreeMap<_, _> = (0..TOO_MUCH)
        .map(|index| (format!("name-{index}"), "x".repeat(1024 * 1024)))
        .collect();
    let ask = async |client: &mut Client| {
        client.held.insert(ADDRESSES.to_owned(), versions.clone());
        client.subscribe().await;
        client.receive().await
    };
    assert!(ask(&mut world.connect().await).await.unwrap().is_some());
    let channel = world.channel(Token::Inline(world.token(own)));
    let status = ask(&mut Client::open(channel, web_itself()).await)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("too large"), "{status}");
}

#[tokio::test]
async fn another_account_is_served_as_its_own_pod_alone() {
    let world = World::start().await;
    let own = web(&world);
    let itself = web_itself;
    let open = async |caller: &Caller, node: Node| {
        Client::open(world.channel(Token::Inline(world.token(caller.clone()))), node).await
    };
    // The pod is known as soon as the source has told of it.
    let mut client = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut client = open(&own, itself()).await;
            client.subscribe().await;
            if let Ok(Some(_)) = client.receive().await {
                break client;
            }
        }
    })
    .await
    .unwrap();
    let sync = world
        .proxy(|proxy| proxy["pod"] == "web-1" && proxy["connected"] == true)
        .await;
    assert_eq!(
        (&sync["proxies"][0]["dedicated"], &sync["proxies"][0]["node"]),
        (&json!(true), &json!("node-a"))
    );

    // It may leave out where it runs, and names itself with each type that it asks for.
    let mut elsewhere = itself();
    let fields = &mut elsewhere.metadata.as_mut().unwrap().fields;
    fields.remove("NODE_NAME");
    let mut brief = open(&own, elsewhere).await;
    brief.subscribe().await;
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        told.insert(brief.next().await.type_url);
    }
    let sync = world.ask("/debug/sync").await;
    let of_web = |proxy: &&serde_json::Value| proxy["pod"] == "web-1";
    let mut named = sync["proxies"].as_array().unwrap().iter().filter(of_web);
    assert!(named.all(|proxy| proxy["node"] == "node-a"), "{sync}");
    drop(brief);

    // It stays who it is.
    client.node = node("zt-a", "node-a");
    client.subscribe().await;
    let status = loop {
        match client.receive().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");

    for (caller, node, words) in [
        (
            own.clone(),
            node("zt-a", "node-a"),
            "demo/web is not a trusted node account",
        ),
        (
            Caller {
                pod_uid: "another".to_owned(),
                ..own.clone()
            },
            itself(),
            "uid",
        ),
        (
            Caller {
                pod_name: String::new(),
                ..own.clone()
            },
            itself(),
            "NAME",
        ),
    ] {
        let status = open(&caller, node).await.refusal().await;
        let code = status.code();
        assert!(
            matches!(code, Code::PermissionDenied | Code::Unauthenticated),
            "{status}"
        );
        assert!(
            code == Code::Unauthenticated || status.message().contains(words),
            "{status}"
        );
    }
}
