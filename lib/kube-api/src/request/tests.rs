use hyper::header::{ACCEPT, HeaderMap};

use super::{Form, Query, Target, segments};

#[test]
fn paths() {
    // group, version, namespace, plural, name, subresource
    let cases: [(&str, [&str; 6]); 9] = [
        ("/api/v1/pods", ["", "v1", "", "pods", "", ""]),
        ("/api/v1/namespaces/x/pods", ["", "v1", "x", "pods", "", ""]),
        (
            "/api/v1/namespaces/x/pods/p/status",
            ["", "v1", "x", "pods", "p", "status"],
        ),
        ("/api/v1/namespaces", ["", "v1", "", "namespaces", "", ""]),
        ("/api/v1/namespaces/x", ["", "v1", "", "namespaces", "x", ""]),
        (
            "/api/v1/namespaces/x/status",
            ["", "v1", "", "namespaces", "x", "status"],
        ),
        ("/api/v1/nodes/n%2D1", ["", "v1", "", "nodes", "n-1", ""]),
        (
            "/apis/apps/v1/namespaces/x/deployments/d",
            ["apps", "v1", "x", "deployments", "d", ""],
        ),
        (
            "/apis/security.istio.io/v1beta1/peerauthentications",
            ["security.istio.io", "v1beta1", "", "peerauthentications", "", ""],
        ),
    ];
    for (path, [group, version, namespace, plural, name, subresource]) in cases {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let expected = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: some(namespace),
            plural: plural.to_owned(),
            name: some(name),
            subresource: some(subresource),
        };
        assert_eq!(Target::parse(&segments(path).unwrap()), Some(expected), "{path}");
    }
    for path in [
        "/api/v1",
        "/apis/apps/v1",
        "/apis/a/v1/namespaces/x/b/c/d/e",
        "/version",
    ] {
        assert_eq!(Target::parse(&segments(path).unwrap()), None, "{path}");
    }
}

#[test]
fn accepted_forms() {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let cases = [
        ("", Some(Form::Object)),
        ("*/*", Some(Form::Object)),
        (
            "application/vnd.kubernetes.protobuf,application/json",
            Some(Form::Object),
        ),
        (table, Some(Form::Table)),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some(Form::Metadata),
        ),
        ("application/vnd.kubernetes.protobuf", None),
        ("application/yaml", None),
    ];
    for (accept, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(Form::of(&headers).ok(), expected, "{accept}");
    }
}

#[test]
fn queries() {
    let query =
        Query::parse("labelSelector=a%3Db&limit=5&watch=1&sendInitialEvents=false&dryRun=All").unwrap();
    assert_eq!(query.label_selector, "a=b");
    assert_eq!(
        (query.limit, query.watch, query.send_initial_events, query.dry_run),
        (Some(5), true, Some(false), true)
    );
    for text in ["limit=x", "dryRun=some"] {
        assert_eq!(Query::parse(text).unwrap_err().code, 400, "{text}");
    }
    assert_eq!(
        Query::parse("resourceVersion=x")
            .unwrap()
            .revision()
            .unwrap_err()
            .code,
        400
    );
}
