//! A table per verb, over HTTP.

use crate::common::Client;
use kube_api::{ApiServer, Key, Options};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/default/peerauthentications";

async fn start() -> (ApiServer, Client) {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let client = Client::new(&server);
    (server, client)
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "containers": [{ "name": "main", "image": "x" }] },
    })
}

fn policy(name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": { "name": name },
        "spec": { "mtls": { "mode": mode } },
    })
}

#[tokio::test]
async fn create() {
    let (_server, client) = start().await;
    let made = client.post(PODS, pod("a")).await;
    assert_eq!(made.code, 201);
    let metadata = &made.body["metadata"];
    assert_eq!(metadata["namespace"], "default");
    for field in ["uid", "creationTimestamp", "resourceVersion", "managedFields"] {
        assert!(metadata.get(field).is_some(), "{field} in {metadata}");
    }
    assert_eq!(made.body["status"]["phase"], "Pending");

    let (mut without_name, mut generated) = (pod(""), pod(""));
    without_name["metadata"] = json!({});
    generated["metadata"] = json!({ "generateName": "a-" });
    let mut status = policy("with-status", "STRICT");
    status["status"] = json!({ "x": 1 });
    let large = json!({ "metadata": { "name": "large" }, "data": { "a": "x".repeat(1600 * 1024) } });
    let cases = [
        ("the same again", PODS, pod("a"), 409),
        ("bad name", PODS, pod("A_b"), 422),
        ("no name", PODS, without_name, 422),
        ("generated name", PODS, generated, 201),
        ("unknown namespace", "/api/v1/namespaces/gone/pods", pod("a"), 404),
        ("all namespaces", "/api/v1/pods", pod("b"), 405),
        ("other kind", PODS, policy("a", "STRICT"), 400),
        ("no object", PODS, json!(5), 400),
        ("metadata is a list", PODS, json!({ "metadata": [] }), 400),
        (
            "spec is a number",
            PODS,
            json!({ "metadata": { "name": "c" }, "spec": 5 }),
            400,
        ),
        (
            "unknown resource",
            "/api/v1/namespaces/default/nothings",
            pod("a"),
            404,
        ),
        (
            "unknown group",
            "/apis/a.b/v1/namespaces/default/nothings",
            pod("a"),
            404,
        ),
        (
            "too large to store",
            "/api/v1/namespaces/default/configmaps",
            large,
            413,
        ),
        ("dry run", &format!("{PODS}?dryRun=All"), pod("dry"), 201),
        ("a policy", POLICIES, status, 201),
    ];
    for (what, path, object, code) in cases {
        let answer = client.post(path, object).await;
        assert_eq!(answer.code, code, "{what}: {}", answer.body);
        if code >= 400 && code != 404 {
            assert_eq!(answer.body["kind"], "Status", "{what}");
            assert_eq!(answer.body["code"], code, "{what}");
        }
    }
    assert_eq!(client.get(&format!("{PODS}/dry")).await.code, 404);
    let stored = client.get(&format!("{POLICIES}/with-status")).await;
    assert_eq!(
        (&stored.body["metadata"]["generation"], stored.body.get("status")),
        (&json!(1), None)
    );
    let answer = client
        .send_text(
            "POST",
            PODS,
            &[("content-type", "application/yaml")],
            "a: b".to_owned(),
        )
        .await;
    assert_eq!(answer.code, 415);
    let answer = client
        .send_text(
            "POST",
            PODS,
            &[("content-type", "application/json")],
            "{".to_owned(),
        )
        .await;
    assert_eq!(answer.code, 400);
    let huge = "x".repeat(kube_api::MAX_BODY_BYTES + 1);
    assert_eq!(client.send_text("POST", PODS, &[], huge).await.code, 413);
}

#[tokio::test]
async fn update() {
    let (_server, client) = start().await;
    let first = client.post(POLICIES, policy("a", "STRICT")).await.body;
    let path = format!("{POLICIES}/a");
    let with = |field: &str, value: Value| {
        let mut object = first.clone();
        object["metadata"][field] = value;
        object
    };
    let mut changed = first.clone();
    changed["spec"]["mtls"]["mode"] = json!("PERMISSIVE");
    let second = client.put(&path, changed.clone()).await;
    assert_eq!(second.code, 200);
    assert_eq!(second.body["metadata"]["generation"], 2);
    assert_ne!(
        second.body["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    for (what, object, code) in [
        ("an old version", changed, 409),
        ("no version", with("resourceVersion", json!("")), 422),
        ("another uid", with("uid", json!("other")), 409),
        ("another name", with("name", json!("other")), 400),
    ] {
        let answer = client.put(&path, object).await;
        assert_eq!(answer.code, code, "{what}: {}", answer.body);
    }
    // The same again is no change.
    let again = client.put(&path, second.body.clone()).await;
    assert_eq!(again.body, second.body);

    let mut status = second.body.clone();
    status["spec"] = json!({});
    status["status"] = json!({ "conditions": [] });
    status["metadata"]["labels"] = json!({ "a": "b" });
    let answer = client.put(&format!("{path}/status"), status).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.body["spec"]["mtls"]["mode"], "PERMISSIVE");
    assert_eq!(answer.body["status"], json!({ "conditions": [] }));
    assert_eq!(
        (
            answer.body["metadata"].get("labels"),
            &answer.body["metadata"]["generation"]
        ),
        (None, &json!(2))
    );
    assert_eq!(
        client
            .put(&format!("{POLICIES}/gone"), policy("gone", "STRICT"))
            .await
            .code,
        404
    );
    assert_eq!(client.put(POLICIES, policy("a", "STRICT")).await.code, 405);
    // What one version writes, the other reads.
    let beta = client.get(&path.replace("/v1/", "/v1beta1/")).await;
    assert_eq!(beta.body["apiVersion"], "security.istio.io/v1beta1");
}

#[tokio::test]
async fn patch() {
    let (_server, client) = start().await;
    client.post(PODS, pod("a")).await;
    client.post(POLICIES, policy("a", "STRICT")).await;
    let (pod, policy) = (format!("{PODS}/a"), format!("{POLICIES}/a"));
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    let stale = json!({ "metadata": { "resourceVersion": "1", "labels": { "x": "z" } } });
    let rename = json!({ "metadata": { "name": "b" } });
    let spoil = json!([{ "op": "replace", "path": "/metadata", "value": 5 }]);
    for (what, path, kind, body, code) in [
        ("merge", &pod, "merge", label.clone(), 200),
        ("strategic", &pod, "strategic-merge", label.clone(), 200),
        (
            "strategic on a custom kind",
            &policy,
            "strategic-merge",
            label.clone(),
            415,
        ),
        ("unknown kind of patch", &pod, "odd", label.clone(), 415),
        ("stale", &pod, "merge", stale, 409),
        ("rename", &pod, "merge", rename, 400),
        (
            "json",
            &policy,
            "json",
            json!([{ "op": "remove", "path": "/spec/mtls" }]),
            200,
        ),
        (
            "json that fails",
            &policy,
            "json",
            json!([{ "op": "remove", "path": "/spec/mtls" }]),
            422,
        ),
        ("no operations", &policy, "json", json!({}), 400),
        ("metadata is spoilt", &pod, "json", spoil, 400),
        ("no object", &pod, "merge", json!([]), 400),
        ("gone", &format!("{PODS}/gone"), "merge", label, 404),
    ] {
        let answer = client.patch(path, kind, body).await;
        assert_eq!(answer.code, code, "{what}: {}", answer.body);
    }
    // The annotation that node agents write through the status.
    let annotation = json!({ "metadata": { "annotations": { "a/b": "c" } }, "spec": { "nodeName": "x" } });
    let answer = client.patch(&format!("{pod}/status"), "merge", annotation).await;
    assert_eq!(answer.body["metadata"]["annotations"]["a/b"], "c");
    assert_eq!(answer.body["spec"].get("nodeName"), None);
}

#[tokio::test]
async fn apply() {
    let (_server, client) = start().await;
    let path = |query: &str| format!("{POLICIES}/a?{query}");
    let made = client
        .patch(&path("fieldManager=one"), "apply", policy("a", "STRICT"))
        .await;
    assert_eq!(made.code, 201);
    let again = client
        .patch(&path("fieldManager=one"), "apply", policy("a", "STRICT"))
        .await;
    assert_eq!((again.code, &again.body), (200, &made.body));
    let refused = client
        .patch(&path("fieldManager=two"), "apply", policy("a", "DISABLE"))
        .await;
    assert_eq!(refused.code, 409);
    assert_eq!(refused.body["details"]["causes"][0]["field"], ".spec.mtls.mode");
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "FieldManagerConflict"
    );
    let forced = client
        .patch(
            &path("fieldManager=two&force=true"),
            "apply",
            policy("a", "DISABLE"),
        )
        .await;
    assert_eq!(forced.body["spec"]["mtls"]["mode"], "DISABLE");
    assert_eq!(
        client.patch(&path(""), "apply", policy("a", "STRICT")).await.code,
        400
    );
    let mut kindless = policy("a", "STRICT");
    kindless.as_object_mut().unwrap().remove("kind");
    assert_eq!(
        client
            .patch(&path("fieldManager=one"), "apply", kindless)
            .await
            .code,
        400
    );

    // Status has owners of its own; a status in an apply of the object itself is not taken.
    let mut status = policy("a", "STRICT");
    status["status"] = json!({ "conditions": [{ "type": "Accepted", "status": "True" }] });
    let path = format!("{POLICIES}/a/status?fieldManager=mesh");
    let answer = client.patch(&path, "apply", status.clone()).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    assert_eq!(
        (&answer.body["status"], &answer.body["spec"]["mtls"]["mode"]),
        (&status["status"], &json!("DISABLE"))
    );
    // A list of which the schema says nothing is one value: a second manager of conditions is refused.
    status["status"]["conditions"][0]["type"] = json!("Other");
    let answer = client
        .patch(&path.replace("=mesh", "=other"), "apply", status)
        .await;
    assert_eq!(answer.code, 409);
    let missing = format!("{POLICIES}/gone/status?fieldManager=mesh");
    assert_eq!(
        client
            .patch(&missing, "apply", policy("gone", "STRICT"))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn delete() {
    let (server, client) = start().await;
    let made = client.post(PODS, pod("a")).await.body;
    let path = format!("{PODS}/a");
    let precondition = |uid: &Value| Some(json!({ "preconditions": { "uid": uid } }));
    assert_eq!(
        client.delete(&path, precondition(&json!("other"))).await.code,
        409
    );
    let gone = client.delete(&path, precondition(&made["metadata"]["uid"])).await;
    assert_eq!((gone.code, &gone.body["status"]), (200, &json!("Success")));
    assert_eq!(client.delete(&path, None).await.code, 404);

    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["a/b"]);
    client.post(PODS, held).await;
    let path = format!("{PODS}/held");
    let answer = client.delete(&path, None).await;
    assert!(
        answer.body["metadata"].get("deletionTimestamp").is_some(),
        "{}",
        answer.body
    );
    let more = json!({ "metadata": { "finalizers": ["a/b", "c/d"] } });
    assert_eq!(client.patch(&path, "merge", more).await.code, 422);
    let release = json!({ "metadata": { "finalizers": null } });
    assert_eq!(client.patch(&path, "merge", release).await.code, 200);
    assert_eq!(client.get(&path).await.code, 404);

    for name in ["x", "y", "z"] {
        client.post(PODS, pod(name)).await;
    }
    let answer = client
        .delete(&format!("{PODS}?labelSelector=app%21%3Dz"), None)
        .await;
    assert_eq!(
        (answer.code, answer.body["items"].as_array().unwrap().len()),
        (200, 2)
    );
    assert_eq!(client.get(PODS).await.body["items"].as_array().unwrap().len(), 1);

    // A namespace goes with what is in it, once nobody holds that.
    client
        .post("/api/v1/namespaces", json!({ "metadata": { "name": "demo" } }))
        .await;
    let mut held = json!({ "metadata": { "name": "c", "finalizers": ["a/b"] } });
    let maps = "/api/v1/namespaces/demo/configmaps";
    client.post(maps, held.clone()).await;
    let answer = client.delete("/api/v1/namespaces/demo", None).await;
    assert_eq!(answer.body["status"]["phase"], "Terminating");
    held["metadata"]["name"] = json!("d");
    assert_eq!(client.post(maps, held).await.code, 403);
    client
        .patch(
            &format!("{maps}/c"),
            "json",
            json!([{ "op": "remove", "path": "/metadata/finalizers" }]),
        )
        .await;
    assert_eq!(client.get("/api/v1/namespaces/demo").await.code, 404);
    assert!(server.store().get(&Key::new("configmaps", "demo", "c")).is_none());
}

#[tokio::test]
async fn pods_on_a_node_wait_for_their_kubelet() {
    let options = Options {
        kubelet: true,
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let client = Client::new(&server);
    let mut placed = pod("a");
    placed["spec"]["nodeName"] = json!("n");
    client.post(PODS, placed).await;
    let path = format!("{PODS}/a");
    let answer = client.delete(&path, None).await;
    assert_eq!(answer.body["metadata"]["deletionGracePeriodSeconds"], 30);
    let again = client.delete(&path, None).await;
    assert_eq!(
        again.body["metadata"]["resourceVersion"],
        answer.body["metadata"]["resourceVersion"]
    );
    client
        .delete(&path, Some(json!({ "gracePeriodSeconds": 0 })))
        .await;
    assert_eq!(client.get(&path).await.code, 404);
}

#[tokio::test]
async fn list() {
    let (server, client) = start().await;
    for name in ["a", "b", "c", "d", "e"] {
        client.post(PODS, pod(name)).await;
    }
    let names = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().unwrap_or_else(|| panic!("{body}"));
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = client.get("/api/v1/pods").await.body;
    assert_eq!(
        (&all["kind"], &all["apiVersion"]),
        (&json!("PodList"), &json!("v1"))
    );
    assert_eq!(all["items"][0].get("kind"), None);
    let version: u64 = all["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();

    let first = client.get(&format!("{PODS}?limit=2")).await.body;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(3))
    );
    client.delete(&format!("{PODS}/c"), None).await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = client.get(&format!("{PODS}?limit=2&continue={token}")).await.body;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );

    let future = version + 1000;
    for (what, query, expected) in [
        ("now", String::new(), Ok("a b d e")),
        ("any", "resourceVersion=0".into(), Ok("a b d e")),
        (
            "exactly then",
            format!("resourceVersion={version}&resourceVersionMatch=Exact"),
            Ok("a b c d e"),
        ),
        (
            "exactly by limit",
            format!("resourceVersion={version}&limit=9"),
            Ok("a b c d e"),
        ),
        (
            "not older",
            format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
            Ok("a b d e"),
        ),
        (
            "any ignores the limit",
            "resourceVersion=0&limit=1".into(),
            Ok("a b d e"),
        ),
        ("labels", "labelSelector=app%20in%20(a,e)".into(), Ok("a e")),
        ("fields", "fieldSelector=metadata.name%3Db".into(), Ok("b")),
        ("the future", format!("resourceVersion={future}"), Err(504)),
        (
            "the exact future",
            format!("resourceVersion={future}&resourceVersionMatch=Exact"),
            Err(504),
        ),
        (
            "match without version",
            "resourceVersionMatch=Exact".into(),
            Err(400),
        ),
        (
            "exactly any",
            "resourceVersion=0&resourceVersionMatch=Exact".into(),
            Err(400),
        ),
        (
            "odd match",
            "resourceVersion=1&resourceVersionMatch=Odd".into(),
            Err(400),
        ),
        ("no number", "resourceVersion=x".into(), Err(400)),
        (
            "version and continue",
            format!("resourceVersion=5&continue={token}"),
            Err(400),
        ),
        ("odd token", "continue=x".into(), Err(400)),
        ("unknown field", "fieldSelector=spec.odd%3Db".into(), Err(400)),
        ("bad selector", "labelSelector=%28".into(), Err(400)),
        ("initial events", "sendInitialEvents=true".into(), Err(422)),
    ] {
        let answer = client.get(&format!("{PODS}?{query}")).await;
        match expected {
            Ok(expected) => assert_eq!(names(&answer.body).join(" "), expected, "{what}"),
            Err(code) => assert_eq!(answer.code, code, "{what}: {}", answer.body),
        }
    }

    server.store().compact();
    let expired = client.get(&format!("{PODS}?limit=2&continue={token}")).await;
    assert_eq!((expired.code, &expired.body["reason"]), (410, &json!("Expired")));
    let rest = expired.body["metadata"]["continue"].as_str().unwrap();
    let inconsistent = client.get(&format!("{PODS}?limit=9&continue={rest}")).await.body;
    assert_eq!(names(&inconsistent), ["d", "e"]);
    let old = client
        .get(&format!(
            "{PODS}?resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .await;
    assert_eq!(old.code, 410);
}

#[tokio::test]
async fn forms() {
    let (_server, client) = start().await;
    client.post(PODS, pod("a")).await;
    let accept = |form: &str| vec![("accept", format!("application/json;as={form};g=meta.k8s.io;v=v1"))];
    let get = async |path: &str, form: &str| {
        let headers = accept(form);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.send_text("GET", path, &headers, String::new()).await
    };
    let table = get(PODS, "Table").await.body;
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    let list = get(PODS, "PartialObjectMetadataList").await.body;
    assert_eq!(
        (&list["kind"], list["items"][0].get("spec")),
        (&json!("PartialObjectMetadataList"), None)
    );
    let one = get(&format!("{PODS}/a"), "PartialObjectMetadata").await.body;
    assert_eq!(
        (&one["kind"], &one["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("a"))
    );
    let refused = client
        .send_text(
            "GET",
            PODS,
            &[("accept", "application/vnd.kubernetes.protobuf")],
            String::new(),
        )
        .await;
    assert_eq!(refused.code, 406);
}

#[tokio::test]
async fn a_kind_is_served_once_it_is_defined() {
    let options = Options {
        definitions: Vec::new(),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let client = Client::new(&server);
    let missing = client.get(POLICIES).await;
    assert_eq!(
        (missing.code, &missing.body),
        (404, &json!("404 page not found\n"))
    );
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = kube_api::mesh_definitions()
        .into_iter()
        .find(|d| d["spec"]["names"]["kind"] == "PeerAuthentication");
    let made = client.post(definitions, definition.unwrap()).await;
    assert_eq!(made.code, 201, "{}", made.body);
    assert_eq!(made.body["status"]["conditions"][1]["type"], "Established");
    assert_eq!(client.get(POLICIES).await.code, 200);
    client.post(POLICIES, policy("a", "STRICT")).await;
    let mut watch = client.watch(POLICIES).await;
    assert_eq!(watch.next().await, ("ADDED".into(), "a".into()));
    client
        .delete(
            &format!("{definitions}/peerauthentications.security.istio.io"),
            None,
        )
        .await;
    assert_eq!(watch.next().await, ("DELETED".into(), "a".into()));
    assert_eq!(watch.try_next().await.unwrap(), None);
    assert_eq!(client.get(POLICIES).await.code, 404);
}
