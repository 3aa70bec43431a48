use super::*;
use crate::test_support::needs_root;

#[test]
fn namespaces_are_isolated_and_have_loopback() {
    if needs_root() {
        return;
    }
    let one = Namespace::create().unwrap();
    let two = Namespace::create().unwrap();
    assert_ne!(one.id(), two.id());
    assert_ne!(one.id(), Namespace::current().unwrap().id());
    assert!(one.addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));

    // The same port can be taken in each: they share nothing.
    let bind = || std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
    let in_one = one.enter(bind).unwrap();
    let in_two = two.enter(bind).unwrap();
    drop(in_two);
    let connect = || {
        std::net::TcpStream::connect("127.0.0.1:8080")
            .map(|_| ())
            .map_err(|error| error.kind())
    };
    assert_eq!(one.enter(connect).unwrap(), Ok(()));
    assert_eq!(two.enter(connect).unwrap(), Err(io::ErrorKind::ConnectionRefused));
    drop(in_one);
}

#[test]
fn enter_comes_back_also_from_nesting_and_panics() {
    if needs_root() {
        return;
    }
    let home = Namespace::current().unwrap().id();
    let one = Namespace::create().unwrap();
    let two = Namespace::create().unwrap();
    let inner = one
        .enter(|| {
            let inner = two.enter(|| Namespace::current().unwrap().id()).unwrap();
            assert_eq!(Namespace::current().unwrap().id(), one.id());
            inner
        })
        .unwrap();
    assert_eq!(inner, two.id());
    let panicked = std::panic::catch_unwind(|| one.enter(|| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(Namespace::current().unwrap().id(), home);
}

#[test]
fn pins_outlive_descriptors() {
    if needs_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinned");
    let namespace = Namespace::create().unwrap();
    let id = namespace.id();
    namespace.pin(&path).unwrap();
    assert!(namespace.pin(&path).is_err(), "a path that exists is refused");
    drop(namespace);
    assert_eq!(Namespace::open(&path).unwrap().id(), id);
    Namespace::unpin(&path).unwrap();
    assert!(!path.exists());
    Namespace::unpin(&path).unwrap();
}

#[test]
fn other_files_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Namespace::open(file.path()).unwrap_err();
    assert!(
        matches!(error, NamespaceError::NotANetworkNamespace { .. }),
        "{error}"
    );
    let error = Namespace::open("/proc/self/ns/mnt").unwrap_err();
    assert_eq!(error.to_string(), "/proc/self/ns/mnt is not a network namespace");
    let error = Namespace::from_fd(File::open("/dev/null").unwrap().into()).unwrap_err();
    assert_eq!(error.to_string(), "the descriptor is not a network namespace");
    assert!(matches!(
        Namespace::open("/does/not/exist").unwrap_err(),
        NamespaceError::Open { .. }
    ));
}
