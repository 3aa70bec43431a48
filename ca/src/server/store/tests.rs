use std::sync::Arc;

use super::{AuthorityStore, StoreError, load_material, load_or_create};
use crate::server::directory::DirectoryStore;
use crate::server::stored::{KeyAndCertificate, ROOT_LIFE, StoredAuthority};
use crate::server::testing::now;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_agree_on_one_root() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(folder.path()).unwrap());
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                load_or_create(&*store, now())
                    .await
                    .unwrap()
                    .1
                    .roots_pem()
                    .to_owned()
            })
        })
        .collect();
    let mut roots = Vec::new();
    for task in tasks {
        roots.push(task.await.unwrap());
    }
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[tokio::test]
async fn what_is_kept_must_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(folder.path()).unwrap();
    let root = || KeyAndCertificate::generate_root(now(), ROOT_LIFE).unwrap();
    let mixed = KeyAndCertificate {
        certificate: root().certificate,
        ..root()
    };
    store.save(&StoredAuthority::of(mixed), None).await.unwrap();
    let error = load_material(&store, now()).await.err().unwrap();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("not the certificate's"), "{error}");
    // It is not replaced by a new root either: every workload would lose its trust.
    assert!(load_or_create(&store, now()).await.is_err());
}
