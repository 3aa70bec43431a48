use kube_api::{ApiServer as Server, Key, Requests, StatusError, Verb};
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::testing::{NAMESPACE, PATIENCE, client, server, until};

/// A follower of what Secrets name, and what it tells.
struct World {
    own: Server,
    board: Board,
    news: mpsc::Receiver<News>,
    task: JoinSet<()>,
}

impl World {
    async fn start() -> World {
        let own = server().await;
        let (sender, news) = mpsc::channel(crate::clusters::MAX_NEWS);
        let board = Board::default();
        let follower = Follower {
            client: client(&own),
            namespace: NAMESPACE.to_owned(),
            own: "Kubernetes".to_owned(),
            look: Duration::from_millis(20),
            board: board.clone(),
            events: None,
            news: sender,
        };
        let mut task = JoinSet::new();
        task.spawn(follower.follow());
        World {
            own,
            board,
            news,
            task,
        }
    }

    /// A Secret with these keys.
    fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let labels = json!({ "istio/multiCluster": "true" });
        self.put(name, labels, &data);
    }

    fn put(&self, name: &str, labels: Value, data: &BTreeMap<&str, &str>) {
        let encoded = data.iter().map(|(key, text)| {
            (
                (*key).to_owned(),
                json!(data_encoding::BASE64.encode(text.as_bytes())),
            )
        });
        let encoded: serde_json::Map<String, Value> = encoded.collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
            "data": encoded,
        });
        self.own.put(secret).unwrap();
    }

    fn delete(&self, name: &str) {
        assert!(self.own.remove(&Key::new("secrets", NAMESPACE, name)));
    }

    /// The next news that is not of a batch without changes.
    async fn next(&mut self) -> String {
        let told = async {
            loop {
                match self.news.recv().await.unwrap() {
                    News::Batch { cluster, batch } => {
                        let named = batch.changes.iter().map(|change| match change {
                            object_store::StoreChange::Put(object) => object.metadata.name.clone(),
                            object_store::StoreChange::Delete(key) => format!("-{}", key.name),
                        });
                        let mut named: Vec<_> = named
                            .filter(|name| name.trim_start_matches('-').starts_with("ns-"))
                            .collect();
                        named.sort();
                        if !named.is_empty() {
                            return format!("{cluster} {}", named.join(","));
                        }
                    }
                    News::Gone(cluster) => return format!("{cluster} gone"),
                    News::Settled => return "settled".to_owned(),
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap()
    }

    fn cluster(&self, name: &str) -> Value {
        self.board.page()["clusters"][name].clone()
    }
}

/// An API server with a namespace by which it is known.
async fn remote(name: &str) -> Server {
    let server = server().await;
    add(&server, name);
    server
}

fn add(server: &Server, name: &str) {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": format!("ns-{name}") } });
    server.put(namespace).unwrap();
}

#[tokio::test]
async fn clusters_come_and_go_with_the_secrets_that_name_them() {
    let (west, east) = (remote("west").await, remote("east").await);
    let mut world = World::start().await;
    assert_eq!(world.next().await, "settled");
    // Two in one Secret; what has no label names none.
    world.put(
        "no-label",
        json!({}),
        &BTreeMap::from([("other", west.kubeconfig().as_str())]),
    );
    // A token is another each time.
    let to_east = east.kubeconfig();
    world.secret("both", &[("west", &west.kubeconfig()), ("east", &to_east)]);
    let mut seen = [world.next().await, world.next().await];
    seen.sort();
    assert_eq!(seen, ["east ns-east", "west ns-west"]);
    add(&west, "more");
    assert_eq!(world.next().await, "west ns-more");
    until("both are followed", || {
        ["west", "east"].map(|name| world.cluster(name)["state"] == "followed") == [true, true]
    })
    .await;
    assert_eq!(world.cluster("other"), Value::Null);

    world.secret("both", &[("east", &to_east)]);
    assert_eq!(world.next().await, "west gone");
    assert_eq!(world.cluster("west"), Value::Null);
    world.delete("both");
    assert_eq!(world.next().await, "east gone");
    world.task.shutdown().await;
}

#[tokio::test]
async fn an_api_that_is_away_takes_nothing_and_neither_does_a_list_that_fails() {
    let west = remote("west").await;
    let mut world = World::start().await;
    assert_eq!(world.next().await, "settled");
    world.secret("west", &[("west", &west.kubeconfig())]);
    assert_eq!(world.next().await, "west ns-west");
    // Both APIs are away.
    world.own.faults().fail(
        Requests::with_verb(Verb::List).of("secrets"),
        StatusError::unavailable(),
        None,
    );
    west.faults()
        .fail(Requests::any(), StatusError::unavailable(), None);
    west.faults().cut_watches();
    until("it is behind", || world.cluster("west")["state"] == "behind").await;
    assert!(!world.cluster("west")["problems"].as_object().unwrap().is_empty());
    add(&west, "later");
    world.own.faults().clear();
    west.faults().clear();
    // Nothing was told meanwhile, and what came then is.
    assert_eq!(world.next().await, "west ns-later");
}

#[tokio::test]
async fn a_cluster_that_never_answered_does_not_make_others_wait_for_ever() {
    let west = remote("west").await;
    let mut world = World::start().await;
    assert_eq!(world.next().await, "settled");
    let nowhere = west.kubeconfig();
    let away = remote("away").await;
    let address = away.url();
    drop(away);
    world.secret("a-away", &[("away", &nowhere.replace(&west.url(), &address))]);
    world.secret("b-west", &[("west", &nowhere)]);
    assert_eq!(world.next().await, "west ns-west");
    assert_eq!(world.cluster("away")["state"], "waiting");
    assert!(!world.board.are_known());
}

#[tokio::test]
async fn what_is_not_taken_is_said_and_leaves_what_was_followed() {
    let (west, east) = (remote("west").await, remote("east").await);
    let mut world = World::start().await;
    assert_eq!(world.next().await, "settled");
    let good = west.kubeconfig();
    world.secret("b-west", &[("west", &good)]);
    assert_eq!(world.next().await, "west ns-west");

    let exec = good.replace("\"token\":", "\"exec\":{\"command\":\"/bin/sh\"},\"token\":");
    assert_ne!(exec, good);
    for bad in [exec.as_str(), "rubbish: [", "", &"a".repeat(1_000_000)] {
        world.secret("b-west", &[("west", bad)]);
        let reason = match bad {
            bad if bad == exec => "no program is run",
            bad if bad.len() > 1000 => "at most",
            _ => "kubeconfig",
        };
        until("the refusal is seen", || {
            let refused = world.cluster("west")["refused"].clone();
            refused.as_str().is_some_and(|why| why.contains(reason))
        })
        .await;
    }
    add(&west, "still");
    assert_eq!(world.next().await, "west ns-still");

    // The name of this cluster, and one that another Secret has.
    world.secret("a-own", &[("Kubernetes", &east.kubeconfig())]);
    world.secret("c-other", &[("west", &east.kubeconfig())]);
    world.secret("d-bad", &[("new", &exec)]);
    until("the new one is refused", || {
        world.cluster("new")["state"] == "refused"
    })
    .await;
    assert_eq!(world.cluster("Kubernetes"), Value::Null);
    world.secret("b-west", &[("west", &good)]);
    until("it is followed as written", || {
        let west = world.cluster("west");
        west["refused"].is_null() && west["secret"] == format!("{NAMESPACE}/b-west")
    })
    .await;
    // The same bytes as before: it was not begun anew. With another server it is.
    add(&west, "yet");
    assert_eq!(world.next().await, "west ns-yet");
    world.secret("b-west", &[("west", &east.kubeconfig())]);
    assert_eq!(world.next().await, "west ns-east");
    // Whoever was second is first.
    world.delete("d-bad");
    until("it is forgotten", || world.cluster("new").is_null()).await;
    add(&east, "more");
    assert_eq!(world.next().await, "west ns-more");
}
