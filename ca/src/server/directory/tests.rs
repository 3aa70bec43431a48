use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::DirectoryStore;
use crate::server::store::{AuthorityStore, StoreError};
use crate::server::stored::{KeyAndCertificate, ROOT_LIFE, StoredAuthority};
use crate::server::testing::now;

fn root() -> KeyAndCertificate {
    KeyAndCertificate::generate_root(now(), ROOT_LIFE).unwrap()
}

#[tokio::test]
async fn everything_comes_back_as_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(folder.path()).unwrap();
    assert!(store.load().await.unwrap().is_none());
    let mut stored = StoredAuthority::of(root());
    let mut version = store.save(&stored, None).await.unwrap();
    let states = [
        (Some(root()), None, Some("{\"phase\":\"introduced\"}".to_owned())),
        (
            None,
            Some(root().certificate),
            Some("{\"phase\":\"switched\"}".to_owned()),
        ),
        (Some(root()), Some(root().certificate), None),
        (None, None, Some("one\nline".to_owned())),
    ];
    for (next, previous, rotation) in states {
        stored = StoredAuthority {
            next,
            previous_key: previous.is_some().then(|| root().key),
            revoked: rotation.is_some().then(|| "{\"number\":1}".to_owned()),
            previous,
            rotation,
            ..stored
        };
        version = store.save(&stored, Some(&version)).await.unwrap();
        let loaded = store.load().await.unwrap().unwrap();
        assert_eq!(loaded.version, version);
        stored.rotation = stored.rotation.map(|text| text.replace('\n', " "));
        assert!(loaded.stored == stored);
        let public = fs::read_to_string(folder.path().join("root-cert.pem")).unwrap();
        assert_eq!(public, stored.roots_pem());
        let mode = fs::metadata(store.secret_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn of_two_writers_one_loses() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        DirectoryStore::open(folder.path()).unwrap(),
        DirectoryStore::open(folder.path()).unwrap(),
    );
    let first = StoredAuthority::of(root());
    let version = one.save(&first, None).await.unwrap();
    let lost = two.save(&StoredAuthority::of(root()), None).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    let next = StoredAuthority {
        next: Some(root()),
        ..first.clone()
    };
    two.save(&next, Some(&version)).await.unwrap();
    let lost = one.save(&first, Some(&version)).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    assert!(one.load().await.unwrap().unwrap().stored == next);
}

#[tokio::test]
async fn a_crash_while_writing_leaves_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(folder.path()).unwrap();
    let stored = StoredAuthority::of(root());
    let version = store.save(&stored, None).await.unwrap();
    // What a crash leaves behind: a part of the next one, not yet renamed.
    let text = fs::read_to_string(store.secret_file()).unwrap();
    fs::write(folder.path().join(".root-key.pem.0123"), &text[..text.len() / 2]).unwrap();
    assert!(store.load().await.unwrap().unwrap().stored == stored);
    // A file that somebody cut is never used, wherever it was cut, nor replaced by a new root.
    for cut in (0..text.len() - 1).step_by(97) {
        fs::write(store.secret_file(), &text[..cut]).unwrap();
        assert!(
            matches!(store.load().await, Err(StoreError::Unusable { .. })),
            "{cut}"
        );
        let lost = store.save(&stored, Some(&version)).await;
        assert!(lost.is_err(), "{cut}");
    }
}

/// Whoever reads while another writes must not put back the roots that it has read.
#[test]
fn the_public_copy_is_never_older_than_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(folder.path()).unwrap();
    let states = [StoredAuthority::of(root()), StoredAuthority::of(root())];
    let mut version = store.save_now(&states[0], None).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    store.read_and_publish().unwrap();
                }
            });
        }
        let mut behind = 0;
        for number in 1..300 {
            let state = &states[number % 2];
            version = store.save_now(state, Some(&version)).unwrap();
            std::thread::yield_now();
            let public = fs::read_to_string(folder.path().join("root-cert.pem")).unwrap();
            behind += usize::from(public != state.roots_pem());
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(behind, 0, "old roots were published over newer ones");
    });
    // One that somebody has lost or changed comes back.
    fs::write(folder.path().join("root-cert.pem"), "rubbish").unwrap();
    let (kept, _) = store.read_and_publish().unwrap().unwrap();
    let public = fs::read_to_string(folder.path().join("root-cert.pem")).unwrap();
    assert_eq!(public, kept.roots_pem());
}
