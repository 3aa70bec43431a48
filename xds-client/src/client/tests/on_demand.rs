use super::*;
use crate::ask::{AskError, Asker, on_demand};

/// A client that asks for names of [`POLICY`] only, with a handler that accepts everything.
fn start(address: SocketAddr) -> (Asker, JoinHandle<()>) {
    struct Accepting;
    impl Handler for Accepting {
        async fn apply(&mut self, _: Update) -> Vec<Rejection> {
            Vec::new()
        }
    }
    let (asker, demands) = on_demand(POLICY);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = Client {
        state: State::new(Node::default(), [POLICY.to_owned()]).on_demand(POLICY),
        demands: Some(demands),
        waiters: Waiters::default(),
        handler: Accepting,
        status: watch::channel(Status::default()).0,
        observer: None,
        address: "test".into(),
    };
    let task = tokio::spawn(async move {
        client.run(move || Ok(endpoint.connect_lazy())).await;
    });
    (asker, task)
}

#[tokio::test]
async fn many_askers_of_one_name_share_one_question() {
    let (listener, address) = listener().await;
    let (mut streams, server) = serve(listener).await;
    let (asker, client) = start(address);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    let first = stream.request().await;
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert_eq!(first.resource_names_unsubscribe, ["*"]);

    let asked: Vec<_> = (0..50)
        .map(|_| {
            let asker = asker.clone();
            tokio::spawn(async move { asker.ask("a", LONG).await })
        })
        .collect();
    let question = stream.request().await;
    assert_eq!(question.resource_names_subscribe, ["a"]);
    // Nothing more is asked while that question is open.
    let more = timeout(Duration::from_millis(200), stream.requests.message()).await;
    assert!(more.is_err(), "{more:?}");
    stream.send("n1", &[("a", "1")], &[]).await;
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Ok(true));
    }
    assert_eq!(stream.request().await.response_nonce, "n1");
    assert_eq!(asker.ask("a", LONG).await, Ok(true), "known by now");
    client.abort();
    server.abort();
}

#[tokio::test]
async fn a_question_outlives_its_stream_and_its_deadline_fails_only_the_asker() {
    let (listener, address) = listener().await;
    let (mut streams, server) = serve(listener).await;
    let (asker, client) = start(address);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    stream.request().await;
    let hasty = asker.ask("b", Duration::from_millis(50)).await;
    assert_eq!(hasty, Err(AskError::Deadline(Duration::from_millis(50))));
    assert_eq!(stream.request().await.resource_names_subscribe, ["b"]);
    let patient = tokio::spawn(async move { (asker.ask("b", LONG).await, asker) });
    drop(stream);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    let again = stream.request().await;
    assert_eq!(again.resource_names_subscribe, ["*", "b"]);
    assert_eq!(again.initial_resource_versions["b"], "");
    stream.send("n1", &[], &["b"]).await;
    assert_eq!(patient.await.unwrap().0, Ok(false));
    client.abort();
    server.abort();
}

#[tokio::test]
async fn asking_while_the_control_plane_is_away_ends_at_the_deadline() {
    let (listener, address) = listener().await;
    drop(listener);
    let (asker, client) = start(address);
    let deadline = Duration::from_millis(100);
    assert_eq!(asker.ask("c", deadline).await, Err(AskError::Deadline(deadline)));
    client.abort();
    let ended = asker.ask("c", LONG).await;
    assert_eq!(ended, Err(AskError::Ended));
}
