use proto::discovery;

use super::*;

fn bundle(generation: u64) -> Option<Arc<Bundle>> {
    Some(Arc::new(Bundle::new(
        generation,
        "cluster.local",
        "the roots",
        "",
        None,
    )))
}

fn subscribe(version: Option<&str>) -> Request {
    let version = version.map(|version| ("cluster.local".to_owned(), version.to_owned()));
    Request {
        initial_versions: version.into_iter().collect(),
        ..Request::default()
    }
}

fn answer(response: &Response, error: Option<&str>) -> Request {
    Request {
        nonce: response.nonce.clone(),
        error: error.map(str::to_owned),
        ..Request::default()
    }
}

fn sent(response: &Response) -> (TrustBundle, String) {
    let resource = discovery::Resource::decode(response.resources.get(0).unwrap().clone()).unwrap();
    assert_eq!(resource.name, "cluster.local");
    let body = resource.resource.unwrap();
    assert_eq!(body.type_url, proto::origin::TRUST_BUNDLE_TYPE_URL);
    (TrustBundle::decode(&*body.value).unwrap(), resource.version)
}

#[test]
fn only_who_asks_is_told_and_only_an_answer_without_error_acknowledges() {
    let mut session = BundleSession::new(1, bundle(5));
    assert_eq!(session.next(), None, "a foreign proxy never asks");
    assert_eq!(session.request(subscribe(None)), None);
    let response = session.next().unwrap();
    assert_eq!(sent(&response).0.generation, 5);
    assert_eq!((session.next(), session.acknowledged()), (None, None));
    session.request(answer(&response, None));
    assert_eq!(session.acknowledged(), Some(5));

    session.update(bundle(6));
    let response = session.next().unwrap();
    let rejection = session.request(answer(&response, Some("not mine"))).unwrap();
    assert_eq!(
        (rejection.name.as_str(), rejection.reason.as_str()),
        ("cluster.local", "not mine")
    );
    assert_eq!(session.rejected(), Some(&rejection));
    assert_eq!((session.next(), session.acknowledged()), (None, Some(5)));
    session.update(bundle(7));
    let response = session.next().unwrap();
    session.request(answer(&response, None));
    assert_eq!((session.rejected(), session.acknowledged()), (None, Some(7)));
}

#[test]
fn a_newer_bundle_waits_for_no_answer_and_an_answer_to_an_older_one_says_nothing() {
    let mut session = BundleSession::new(1, bundle(5));
    session.request(subscribe(None));
    let first = session.next().unwrap();
    session.update(bundle(6));
    let second = session.next().unwrap();
    assert_ne!(first.nonce, second.nonce);
    session.request(answer(&first, None));
    assert_eq!(session.acknowledged(), None);
    session.request(Request {
        nonce: "made up".to_owned(),
        ..Request::default()
    });
    assert_eq!(session.acknowledged(), None);
    session.request(answer(&second, None));
    assert_eq!(session.acknowledged(), Some(6));
    session.request(answer(&second, Some("on second thought")));
    assert_eq!((session.acknowledged(), session.rejected()), (Some(6), None));
}

#[test]
fn who_comes_back_with_the_bundle_has_it_in_force_and_who_has_another_is_told() {
    let mut first = BundleSession::new(1, bundle(5));
    first.request(subscribe(None));
    let (_, version) = sent(&first.next().unwrap());
    let mut again = BundleSession::new(2, bundle(5));
    again.request(subscribe(Some(&version)));
    assert_eq!((again.next(), again.acknowledged()), (None, Some(5)));
    let mut other = BundleSession::new(3, bundle(6));
    other.request(subscribe(Some(&version)));
    assert_eq!(other.acknowledged(), None);
    assert_eq!(sent(&other.next().unwrap()).0.generation, 6);
    // Before it is known whether there is a bundle, nothing is said.
    let mut early = BundleSession::new(4, None);
    early.request(subscribe(Some(&version)));
    assert_eq!(early.next(), None);
    early.update(bundle(5));
    assert!(early.next().is_some());
}

#[test]
fn of_what_a_proxy_says_against_a_bundle_the_beginning_is_kept() {
    let mut session = BundleSession::new(1, bundle(5));
    session.request(subscribe(None));
    let sent = session.next().unwrap();
    session.request(answer(&sent, Some(&"no ".repeat(100_000))));
    assert!(session.rejected().unwrap().reason.len() < 2000);
}
