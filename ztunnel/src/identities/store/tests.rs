use super::*;
use ca::Authority;
use std::os::unix::fs::PermissionsExt;
use tls::KeyAndRequest;

const LIFE: Duration = Duration::from_secs(3600);

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account)
}

fn certificate(account: &str) -> WorkloadCertificate {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(directory.path(), SystemTime::now()).unwrap();
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&identity(account)).unwrap();
    let signed = authority.sign(&request_pem, &identity(account), LIFE, SystemTime::now());
    WorkloadCertificate::from_pem(&signed.unwrap().chain, &key, &identity(account)).unwrap()
}

#[test]
fn what_was_kept_comes_back_and_only_its_owner_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let store = KeyStore::open(&path, LIFE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    assert!(store.load(&identity("a")).is_none());
    let (first, second) = (certificate("a"), certificate("a"));
    store.save(&first);
    store.save(&second);
    let file = store.path(&identity("a"));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(&path).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    let store = KeyStore::open(&path, LIFE).unwrap();
    let back = store.load(&identity("a")).unwrap();
    assert_eq!(back.serial(), second.serial());
    assert_eq!(back.roots(), second.roots());
    assert_eq!(
        back.secret_key().secret_pkcs8(),
        second.secret_key().secret_pkcs8()
    );
    store.remove(&identity("a"));
    assert!(!file.exists());
    store.remove(&identity("a"));
}

#[test]
fn only_what_is_its_own_is_deleted_for_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyStore::open(&path, LIFE).unwrap();
    let foreign = ["lost+found", "directory.pem", "mesh-state", "pem"].map(|name| path.join(name));
    let own = ["cluster.local_shop_a.pem", "cluster.local_shop_a.new"].map(|name| path.join(name));
    fs::create_dir(&foreign[0]).unwrap();
    fs::create_dir(&foreign[1]).unwrap();
    for file in foreign[2..].iter().chain(&own) {
        fs::write(file, "old").unwrap();
    }
    let old = SystemTime::now() - 2 * LIFE;
    for file in foreign.iter().chain(&own) {
        fs::File::open(file).unwrap().set_modified(old).unwrap();
    }
    KeyStore::open(&path, LIFE).unwrap();
    for file in &foreign {
        assert!(file.exists(), "{}", file.display());
    }
    for file in &own {
        assert!(!file.exists(), "{}", file.display());
    }
}

#[test]
fn a_file_that_proves_nothing_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let store = KeyStore::open(&path, LIFE).unwrap();
    store.save(&certificate("b"));
    fs::rename(store.path(&identity("b")), store.path(&identity("a"))).unwrap();
    assert!(store.load(&identity("a")).is_none(), "another's certificate");
    store.save(&certificate("a"));
    let file = store.path(&identity("a"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(store.load(&identity("a")).is_none(), "a key that others can read");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(store.load(&identity("a")).is_some());
    let text = fs::read_to_string(&file).unwrap();
    for cut in [0, 10, text.len() / 4, text.len() / 2, text.len() - 60] {
        fs::write(&file, &text[..cut]).unwrap();
        assert!(store.load(&identity("a")).is_none(), "cut at {cut}");
    }
}

#[test]
fn a_directory_that_others_may_enter_is_refused_and_what_is_too_old_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = KeyStore::open(path, LIFE).unwrap_err().to_string();
    assert!(error.contains("chmod 0700"), "{error}");
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    let store = KeyStore::open(path, LIFE).unwrap();
    store.save(&certificate("old"));
    store.save(&certificate("young"));
    let old = fs::File::options()
        .write(true)
        .open(store.path(&identity("old")))
        .unwrap();
    old.set_modified(SystemTime::now() - 2 * LIFE).unwrap();
    let store = KeyStore::open(path, LIFE).unwrap();
    assert!(store.load(&identity("old")).is_none());
    assert!(store.load(&identity("young")).is_some());
}

#[test]
fn a_bundle_is_kept_as_long_as_there_is_no_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let store = KeyStore::open(&path, LIFE).unwrap();
    assert_eq!(store.load_bundle(), None);
    let bundle = |generation| Bundle {
        generation,
        roots: certificate("a").roots().clone(),
        retired: None,
        revoked: Revoked::default(),
    };
    let (first, second) = (bundle(7), bundle(u64::MAX));
    store.save_bundle(&first);
    store.save_bundle(&second);
    let store = KeyStore::open(&path, Duration::ZERO).unwrap();
    assert_eq!(store.load_bundle(), Some(second), "age does not matter");
    fs::write(path.join(BUNDLE), "# generation 7\n").unwrap();
    assert_eq!(store.load_bundle(), None);
}
