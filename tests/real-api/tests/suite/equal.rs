//! What a real server says of manifests means the same from a Kubernetes API as from files: byte for byte what proxies
//! are served.

use std::collections::BTreeMap;
use std::sync::Arc;

use compile::{Compiler, Settings};
use futures_util::StreamExt;
use kube_source::{ApiServer, KubernetesStore, Wanted};
use object_store::{Directory, ObjectSource, StoreChange};
use objects::{Kind, Object, ObjectKey};
use prost::Message;
use real_api::{Cluster, Programs};
use serde_json::Value;

use crate::support::{PATIENCE, examples, shop};

type Served = BTreeMap<(&'static str, String), Vec<u8>>;

/// Everything that proxies would be served, by type and name.
async fn served(source: &dyn ObjectSource) -> Served {
    let mut stream = source.watch();
    let mut objects: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
    // A server that closes a connection, as it does when it learns of new kinds, is asked again.
    let first = async {
        loop {
            match stream.next().await.unwrap() {
                Ok(first) => break first,
                Err(error) => eprintln!("{error}; waiting"),
            }
        }
    };
    let first = tokio::time::timeout(PATIENCE, first).await.unwrap();
    for change in first.changes {
        if let StoreChange::Put(object) = change {
            objects.insert(object.key(), object);
        }
    }
    let mut compiler = Compiler::new(Settings::default());
    compiler.apply(objects.into_iter().map(|(key, object)| (key, Some(object))));
    let addresses = compiler.addresses().iter();
    let addresses = addresses.map(|(name, address)| (("address", name.clone()), address.encode_to_vec()));
    let policies = compiler.policies().iter();
    let policies = policies.map(|(name, policy)| (("policy", name.clone()), policy.encode_to_vec()));
    addresses.chain(policies).collect()
}

#[test]
fn what_the_server_stores_means_the_same_as_in_files() {
    let Some(programs) = Programs::named() else { return };
    let cluster = Cluster::start(&programs);
    cluster.install("defaults");
    shop(&cluster);
    let applied = examples(&cluster);
    assert!(applied > 20, "only {applied} objects of the examples were taken");

    // As `kubectl get -o yaml > file` has it: everything that the server adds is in it.
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let mut stored = 0;
    for kind in Kind::ALL {
        let Some(list) = kind.api_versions().iter().find_map(|version| {
            let base = if version.contains('/') { "apis" } else { "api" };
            cluster.api().get(&format!("/{base}/{version}/{}", kind.plural()))
        }) else {
            continue;
        };
        let version = list["apiVersion"].clone();
        for mut item in list["items"].as_array().cloned().unwrap_or_default() {
            item["apiVersion"] = version.clone();
            item["kind"] = Value::from(kind.as_str());
            directory.put(Object::from_value(item).unwrap()).unwrap();
            stored += 1;
        }
    }
    let token = cluster.folder().join("administrator.token");
    std::fs::write(&token, "administrator").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let api = ApiServer::at(&cluster.url(), Some(&cluster.root()), Some(&token)).unwrap();
        let kubernetes = served(&KubernetesStore::new(api, Wanted::for_control_plane())).await;
        let files = served(&directory).await;
        let names = |served: &Served| served.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&kubernetes), names(&files), "of {stored} objects");
        let of = |wanted: &str| files.keys().filter(|(kind, _)| *kind == wanted).count();
        assert!(of("address") > 5 && of("policy") > 3, "{:?}", names(&files));
        for (name, bytes) in &files {
            assert_eq!(&kubernetes[name], bytes, "{name:?}");
        }
    });
}
