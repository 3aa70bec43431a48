//! Questions and answers, without the socket; the integration test asks over it.

use proto::security::{Authorization, Clause, Match, Rule, StringMatch, string_match::MatchType};

use tokio::net::UnixStream;

use super::*;
use crate::xds::ResourceKind;
use crate::xds::resource::{Links, Resource};

fn get(debug: &Debug, path: &str) -> (u16, Value) {
    let (status, body) = debug.answer_now(&Method::GET, path, "");
    (status.as_u16(), body)
}

#[test]
fn it_is_ready_once_there_is_a_view() {
    let debug = Debug::new(Proxies::default(), None);
    assert_eq!(get(&debug, "/healthz").0, 503);
    assert_eq!(get(&debug, "/debug/policies").0, 503);
    assert_eq!(
        get(&debug, "/debug/sync"),
        (200, json!({ "revision": null, "proxies": [] }))
    );
    let view = View {
        revision: 4,
        ..View::default()
    };
    let (_sender, receiver) = watch::channel(Arc::new(History::new(Arc::new(view))));
    debug.ready(receiver);
    assert_eq!(get(&debug, "/healthz").0, 200);
    assert_eq!(
        get(&debug, "/debug/sync"),
        (200, json!({ "revision": 4, "proxies": [] }))
    );
    assert_eq!(get(&debug, "/nothing").0, 404);
    assert_eq!(
        debug.answer_now(&Method::POST, "/healthz", "").0,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[test]
fn policies_are_shown_by_what_they_restrict() {
    use prost::Message;
    let prefix = StringMatch {
        match_type: Some(MatchType::Prefix("cluster.local/".to_owned())),
    };
    let one = Match {
        principals: vec![prefix],
        not_destination_ports: vec![80],
        ..Match::default()
    };
    let policy = Authorization {
        name: "p".to_owned(),
        namespace: "demo".to_owned(),
        rules: vec![Rule {
            clauses: vec![Clause { matches: vec![one] }],
        }],
        ..Authorization::default()
    };
    let mut view = View::default();
    let payload = policy.encode_to_vec();
    view.policies.put(Resource::new(
        ResourceKind::Authorization,
        "demo/p",
        payload,
        Links::default(),
    ));
    let shown = dump::policies(&view);
    assert_eq!(shown[0]["name"], "p");
    assert_eq!(shown[0]["action"], "ALLOW");
    assert_eq!(
        shown[0]["rules"],
        json!([[[{ "principals": ["cluster.local/*"], "notDestinationPorts": [80] }]]])
    );
    assert_eq!(shown[0]["version"].as_str().map(str::len), Some(24));
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_replaces_an_old_one_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug.sock");
    for _ in 0..2 {
        let _listener = listen(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        UnixStream::connect(&path).await.unwrap();
    }
    let file = folder.path().join("precious");
    std::fs::write(&file, "text").unwrap();
    assert!(listen(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}
