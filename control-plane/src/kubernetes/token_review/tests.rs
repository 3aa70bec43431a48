use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{AuthError, Authenticator, Caller};
use kube_api::{ApiServer, Requests, StatusError, TokenSubject, Verb};
use object_store::StoreChange;
use objects::Object;
use serde_json::{Value, json};

use super::{MAX_REVIEWS_PER_PEER, TokenReviewer};
use crate::kubernetes::testing::{PATIENCE, asked, client, server, until};
use crate::pods::Pods;

const HOUR: Duration = Duration::from_secs(3600);
const REVIEWS: &str = "/tokenreviews";

/// A cluster with a node proxy.
struct World {
    server: ApiServer,
    reviewer: TokenReviewer,
    pods: Pods,
}

impl World {
    async fn start() -> World {
        let server = server().await;
        for object in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": "ztunnel", "namespace": "istio-system", "uid": "uid-sa" } }),
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-a", "uid": "uid-node" } }),
            pod(),
        ] {
            server.put(object).unwrap();
        }
        let pods = Pods::default();
        World {
            reviewer: TokenReviewer::new(client(&server), "istio-ca", pods.clone()),
            server,
            pods,
        }
    }

    fn token(&self, change: impl FnOnce(&mut TokenSubject)) -> String {
        let mut subject = TokenSubject {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            service_account_uid: "uid-sa".to_owned(),
            audiences: vec!["istio-ca".to_owned()],
            pod: Some(("zt-a".to_owned(), "uid-pod".to_owned())),
            node: Some(("node-a".to_owned(), "uid-node".to_owned())),
        };
        change(&mut subject);
        self.server.sign_token(&subject, SystemTime::now(), HOUR).unwrap()
    }

    async fn ask(&self, token: &str) -> Result<Caller, AuthError> {
        let asking = self.reviewer.authenticate(token, None);
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    fn reviews(&self) -> usize {
        asked(&self.server, "POST", REVIEWS).len()
    }
}

fn pod() -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "zt-a", "namespace": "istio-system", "uid": "uid-pod" },
        "spec": { "serviceAccountName": "ztunnel", "nodeName": "node-a", "containers": [{ "name": "c", "image": "i" }] } })
}

fn caller() -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: "zt-a".to_owned(),
        pod_uid: "uid-pod".to_owned(),
        node: "node-a".to_owned(),
    }
}

#[tokio::test]
async fn a_bound_token_names_its_pod_and_node() {
    let world = World::start().await;
    let token = world.token(|_| ());
    assert_eq!(world.ask(&token).await, Ok(caller()));
    // Asked once, however often it is shown within a moment.
    for _ in 0..20 {
        assert_eq!(world.ask(&token).await, Ok(caller()));
    }
    assert_eq!(world.reviews(), 1);
    world.ask(&world.token(|_| ())).await.unwrap();
    assert_eq!(world.reviews(), 2, "another token");
}

#[tokio::test]
async fn bad_tokens_are_refused_with_the_reason() {
    let world = World::start().await;
    let audience = AuthError::Audience {
        expected: "istio-ca".to_owned(),
    };
    let wrong = world.token(|subject| subject.audiences = vec!["vault".to_owned()]);
    assert_eq!(world.ask(&wrong).await, Err(audience));
    for bad in ["", "x", "a.b.c", &wrong.replace('.', "")] {
        assert_eq!(world.ask(bad).await, Err(AuthError::Malformed), "{bad}");
    }
    assert_eq!(world.ask(&"x".repeat(70_000)).await, Err(AuthError::TooLong));
    assert_eq!(world.reviews(), 0, "no request for what no API would accept");

    let rejected = async |token: &str| match world.ask(token).await {
        Err(AuthError::Rejected(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let expired = {
        let subject = TokenSubject {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            service_account_uid: "uid-sa".to_owned(),
            audiences: vec!["istio-ca".to_owned()],
            ..TokenSubject::default()
        };
        let began = SystemTime::now() - 2 * HOUR;
        world.server.sign_token(&subject, began, HOUR).unwrap()
    };
    assert!(rejected(&expired).await.contains("expired"));
    // Signed by another cluster.
    let forger = World::start().await;
    assert!(rejected(&forger.token(|_| ())).await.contains("invalid"));
    let replaced =
        world.token(|subject| subject.pod = Some(("zt-a".to_owned(), "an-earlier-one".to_owned())));
    assert!(rejected(&replaced).await.contains("pod"));
    // A token of the account that is bound to no pod.
    let unbound = world.token(|subject| {
        subject.pod = None;
        subject.node = None;
    });
    let missing = AuthError::MissingClaim("authentication.kubernetes.io/pod-name");
    assert_eq!(world.ask(&unbound).await, Err(missing));
    // Nothing of this was remembered as good.
    assert!(world.ask(&unbound).await.is_err());
}

#[tokio::test]
async fn a_deleted_pods_token_is_refused_once_it_is_asked_again() {
    let world = World::start().await;
    let token = world.token(|_| ());
    world
        .server
        .remove(&kube_api::Key::new("pods", "istio-system", "zt-a"));
    assert!(matches!(world.ask(&token).await, Err(AuthError::Rejected(_))));
}

#[tokio::test]
async fn identical_reviews_are_one_whoever_goes_meanwhile() {
    let world = World::start().await;
    let token = Arc::new(world.token(|_| ()));
    let reviews = Requests::with_verb(Verb::Create).of("tokenreviews.authentication.k8s.io");
    world.server.faults().delay(reviews, Duration::from_millis(300));
    let begin = || {
        let (reviewer, token) = (world.reviewer.clone(), token.clone());
        tokio::spawn(async move { reviewer.authenticate(&token, None).await })
    };
    let first = begin();
    until("a review under way", || {
        !world.reviewer.shared.state().under_way.is_empty()
    })
    .await;
    let others: Vec<_> = (0..50).map(|_| begin()).collect();
    // Whoever came first goes before it is answered; the others are answered all the same.
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(caller()));
    }
    assert_eq!(world.reviews(), 1);
    assert!(world.reviewer.shared.state().under_way.is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_is_no_reason_to_call_somebody_a_stranger() {
    let world = World::start().await;
    let (known, fresh) = (world.token(|_| ()), world.token(|_| ()));
    assert_eq!(world.ask(&known).await, Ok(caller()));
    let reviews = || Requests::with_verb(Verb::Create).of("tokenreviews.authentication.k8s.io");
    for answer in [
        StatusError::unavailable(),
        StatusError::internal("etcd"),
        StatusError::new(403, "Forbidden", "tokenreviews is forbidden"),
        StatusError::unauthorized(),
        StatusError::too_many_requests(1),
    ] {
        world.server.faults().fail(reviews(), answer, Some(1));
        let outcome = world.ask(&fresh).await;
        assert!(matches!(outcome, Err(AuthError::Unavailable(_))), "{outcome:?}");
        // The next one is asked anew: failures are not remembered.
    }
    assert_eq!(world.ask(&known).await, Ok(caller()));
    assert_eq!(world.ask(&fresh).await, Ok(caller()));
    let unseen = world.token(|_| ());
    world.server.stop().await;
    let outcome = tokio::time::timeout(PATIENCE, world.reviewer.authenticate(&unseen, None))
        .await
        .unwrap();
    assert!(matches!(outcome, Err(AuthError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test]
async fn where_tokens_name_no_node_that_of_the_pod_counts() {
    let world = World::start().await;
    let token = world.token(|subject| subject.node = None);
    let outcome = world.ask(&token).await;
    assert!(matches!(outcome, Err(AuthError::Unavailable(_))), "{outcome:?}");
    let known = |object: Value| StoreChange::Put(Arc::new(Object::from_value(object).unwrap()));
    // An earlier pod of that name is another one.
    let mut earlier = pod();
    earlier["metadata"]["uid"] = json!("earlier");
    world.pods.apply(&[known(earlier)]);
    assert!(world.ask(&token).await.is_err());
    world.pods.apply(&[known(pod())]);
    assert_eq!(world.ask(&token).await, Ok(caller()));
    assert_eq!(world.reviews(), 1, "what is looked up here costs no request");
}

#[tokio::test]
async fn one_address_does_not_take_the_places_of_others() {
    let world = World::start().await;
    let reviews = || Requests::with_verb(Verb::Create).of("tokenreviews.authentication.k8s.io");
    world.server.faults().delay(reviews(), PATIENCE);
    let from = |host: u8| Some(std::net::IpAddr::from([192, 0, 2, host]));
    let begin = |host: u8| {
        let (reviewer, token) = (world.reviewer.clone(), world.token(|_| ()));
        tokio::spawn(async move { reviewer.authenticate(&token, from(host)).await })
    };
    let under_way = || world.reviewer.shared.state().under_way.len();
    let _flood: Vec<_> = (0..3 * MAX_REVIEWS_PER_PEER).map(|_| begin(1)).collect();
    until("its places are taken", || under_way() == MAX_REVIEWS_PER_PEER).await;
    let outcome = world.reviewer.authenticate(&world.token(|_| ()), from(1)).await;
    assert!(matches!(outcome, Err(AuthError::Unavailable(_))), "{outcome:?}");
    world.server.faults().clear();
    assert_eq!(
        world.reviewer.authenticate(&world.token(|_| ()), from(2)).await,
        Ok(caller())
    );
}
