use std::sync::Arc;
use std::time::SystemTime;

use ca::{Authority, KeyAndCertificate, Material, ROOT_LIFE, StoredAuthority};
use kube_api::{ApiServer, Key, Options, Requests, StatusError, Verb};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Told, keep};
use crate::kubernetes::testing::{asked, client, server, until};

struct World {
    server: ApiServer,
    authority: Arc<Authority>,
    revocation_list: watch::Sender<Option<String>>,
    stored: StoredAuthority,
    keeper: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl World {
    fn start(server: ApiServer) -> World {
        for name in ["kube-public", "kube-node-lease", "demo"] {
            server.put(namespace(name)).unwrap();
        }
        let stored = StoredAuthority::generate(SystemTime::now()).unwrap();
        let authority = Arc::new(Authority::new(material(&stored)));
        let revocation_list = watch::Sender::new(None);
        let told = Arc::new(Told {
            authority: authority.clone(),
            revocation_list: revocation_list.subscribe(),
        });
        World {
            keeper: tokio::spawn(keep(client(&server), told)),
            server,
            authority,
            revocation_list,
            stored,
        }
    }

    fn map(&self, namespace: &str, name: &str) -> Option<Value> {
        let found = self.server.store().get(&Key::new("configmaps", namespace, name));
        found.map(|found| {
            let mut object = found.value().clone();
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("ConfigMap");
            object
        })
    }

    fn has(&self, namespace: &str, roots: &str) -> bool {
        self.map(namespace, "istio-ca-root-cert").is_some_and(|map| {
            map["data"]["root-cert.pem"] == roots && map["metadata"]["labels"]["istio.io/config"] == "true"
        })
    }

    async fn told(&self, namespaces: &[&str], roots: &str) {
        until("every namespace has the roots", || {
            namespaces.iter().all(|namespace| self.has(namespace, roots))
        })
        .await;
    }
}

fn material(stored: &StoredAuthority) -> Material {
    Material::of_stored(stored, SystemTime::now()).unwrap()
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

#[tokio::test]
async fn every_namespace_has_the_roots_whatever_happens() {
    let mut world = World::start(server().await);
    let roots = world.authority.root_pem();
    world.told(&["default", "kube-system", "demo"], &roots).await;
    for excluded in ["kube-public", "kube-node-lease"] {
        assert!(world.map(excluded, "istio-ca-root-cert").is_none(), "{excluded}");
    }
    assert!(world.map("demo", "istio-ca-crl").is_none());
    let manager = &world.map("demo", "istio-ca-root-cert").unwrap()["metadata"]["managedFields"][0];
    assert_eq!(manager["manager"], kube_source::FIELD_MANAGER);
    assert_eq!(manager["operation"], "Apply");

    world.server.put(namespace("new")).unwrap();
    world.told(&["new"], &roots).await;
    // Somebody edits one, and deletes another.
    let mut edited = world.map("demo", "istio-ca-root-cert").unwrap();
    edited["data"] = json!({ "root-cert.pem": "rubbish", "theirs": "stays" });
    world.server.put(edited).unwrap();
    world
        .server
        .remove(&Key::new("configmaps", "default", "istio-ca-root-cert"));
    world.told(&["demo", "default", "new"], &roots).await;
    assert_eq!(
        world.map("demo", "istio-ca-root-cert").unwrap()["data"]["theirs"],
        "stays"
    );

    // Another root is announced.
    let next = KeyAndCertificate::generate_root(SystemTime::now(), ROOT_LIFE).unwrap();
    world.stored.next = Some(next);
    world.authority.replace(material(&world.stored));
    let both = world.authority.root_pem();
    assert_ne!(both, roots);
    world
        .told(&["default", "kube-system", "demo", "new"], &both)
        .await;

    // A list of revoked certificates appears.
    world.revocation_list.send_replace(Some("list".to_owned()));
    until("the list is everywhere", || {
        let has = |namespace| {
            world
                .map(namespace, "istio-ca-crl")
                .is_some_and(|map| map["data"]["ca-crl.pem"] == "list")
        };
        ["default", "demo", "new"].into_iter().all(has)
    })
    .await;
    assert!(world.map("kube-public", "istio-ca-crl").is_none());
}

#[tokio::test]
async fn what_is_right_is_not_written() {
    let world = World::start(server().await);
    let roots = world.authority.root_pem();
    world
        .told(&["default", "kube-system", "istio-system", "demo"], &roots)
        .await;
    let writes = || asked(&world.server, "PATCH", "/configmaps").len();
    assert_eq!(writes(), 4);
    // A successor (another replica, or the next term) finds everything right. It has looked at all when it has
    // written into a namespace that it was told of after its lists.
    world.keeper.abort();
    let told = Arc::new(Told {
        authority: world.authority.clone(),
        revocation_list: world.revocation_list.subscribe(),
    });
    world.server.forget_records();
    let successor = tokio::spawn(keep(client(&world.server), told));
    until("the successor watches", || {
        let watches = |path: &str| {
            asked(&world.server, "GET", path)
                .iter()
                .any(|record| record.uri.contains("watch=true"))
        };
        watches("/namespaces?") && watches("istio-ca-root-cert") && watches("istio-ca-crl")
    })
    .await;
    world.server.put(namespace("later")).unwrap();
    world.told(&["later"], &roots).await;
    assert_eq!(writes(), 1);
    successor.abort();
}

#[tokio::test]
async fn a_server_with_troubles_is_asked_again() {
    let server = server().await;
    let fail = |which: Requests, code: u16, times| {
        let reason = if code == 403 { "Forbidden" } else { "InternalError" };
        server
            .faults()
            .fail(which, StatusError::new(code, reason, "trouble"), Some(times));
    };
    fail(Requests::with_verb(Verb::List).of("namespaces"), 500, 2);
    fail(Requests::with_verb(Verb::Watch).of("configmaps"), 410, 1);
    fail(Requests::with_verb(Verb::Patch).of("configmaps"), 403, 2);
    let world = World::start(server);
    let roots = world.authority.root_pem();
    world.told(&["default", "kube-system", "demo"], &roots).await;
    // Watches that are cut are opened again, and nothing is missed.
    world.server.faults().cut_watches();
    world.server.put(namespace("meanwhile")).unwrap();
    world.told(&["meanwhile"], &roots).await;
}

/// The kind as newer servers have it; here by a definition.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "clustertrustbundles.certificates.k8s.io" },
        "spec": {
            "group": "certificates.k8s.io", "scope": "Cluster",
            "names": { "plural": "clustertrustbundles", "singular": "clustertrustbundle", "kind": "ClusterTrustBundle" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    })
}

#[tokio::test]
async fn a_cluster_trust_bundle_is_kept_where_the_api_has_it() {
    let options = Options {
        definitions: vec![definition()],
        ..Options::default()
    };
    let mut world = World::start(ApiServer::start(options).await.unwrap());
    let key = Key::new(
        "clustertrustbundles.certificates.k8s.io",
        "",
        "istio.io:istiod-ca:root-cert",
    );
    let found = || {
        world
            .server
            .store()
            .get(&key)
            .map(|found| found.value()["spec"].clone())
    };
    let holds = |roots: &str| {
        found().is_some_and(|spec| spec["trustBundle"] == roots && spec["signerName"] == "istio.io/istiod-ca")
    };
    let roots = world.authority.root_pem();
    until("the bundle", || holds(&roots)).await;
    let next = KeyAndCertificate::generate_root(SystemTime::now(), ROOT_LIFE).unwrap();
    world.stored.next = Some(next);
    world.authority.replace(material(&world.stored));
    let both = world.authority.root_pem();
    let found = || {
        world
            .server
            .store()
            .get(&key)
            .map(|found| found.value()["spec"]["trustBundle"].clone())
    };
    until("the new bundle", || {
        found().is_some_and(|bundle| bundle == both.as_str())
    })
    .await;
}
