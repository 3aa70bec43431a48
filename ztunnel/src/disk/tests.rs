use super::file::FileError;
use super::*;
use proto::security::AUTHORIZATION_TYPE_URL;
use std::os::unix::fs::PermissionsExt;
use xds_client::ResourceUpdate;

const DAY: Duration = Duration::from_secs(86_400);

fn scope() -> Scope {
    Scope {
        trust_domain: "cluster.local".into(),
        cluster: "Kubernetes".into(),
        network: String::new(),
        node: "node-a".into(),
    }
}

fn resource(name: &str, version: &str) -> ResourceUpdate {
    ResourceUpdate {
        name: name.into(),
        aliases: Vec::new(),
        version: version.into(),
        payload: Bytes::from(format!("{name} {version}")),
    }
}

fn update(type_url: &str, resources: Vec<ResourceUpdate>, removed: &[&str]) -> Update {
    Update {
        type_url: type_url.into(),
        resources,
        removed: removed.iter().map(|&name| name.into()).collect(),
        ..Update::default()
    }
}

fn open(directory: &Path) -> (Disk, Option<Loaded>) {
    Disk::open(directory, scope(), DAY)
}

fn named(resources: &[ResourceUpdate]) -> Vec<(&str, &str)> {
    resources
        .iter()
        .map(|one| (one.name.as_str(), one.version.as_str()))
        .collect()
}

#[tokio::test]
async fn what_was_noted_is_there_at_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("state");
    let (disk, nothing) = open(&directory);
    assert!(nothing.is_none());
    let (a, b) = (resource("a", "1"), resource("b", "1"));
    disk.note(&update(ADDRESS_TYPE_URL, vec![a, b], &[]), &[]);
    disk.note(
        &update(AUTHORIZATION_TYPE_URL, vec![resource("p", "7")], &[]),
        &[],
    );
    disk.note(
        &update(ADDRESS_TYPE_URL, vec![resource("a", "2")], &["b", "never"]),
        &[],
    );
    assert!(disk.write().await.unwrap());
    assert!(!disk.write().await.unwrap(), "nothing is left to write");
    let mode = fs::metadata(directory.join(NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (again, loaded) = open(&directory);
    let loaded = loaded.unwrap();
    assert_eq!(named(&loaded.addresses.resources), [("a", "2")]);
    assert_eq!(loaded.addresses.resources[0].payload, "a 2");
    assert_eq!(named(&loaded.policies.resources), [("p", "7")]);
    assert!(loaded.written.elapsed().unwrap() < Duration::from_secs(60));
    // What was read counts as kept: a later change does not lose it.
    again.note(&update(ADDRESS_TYPE_URL, vec![resource("c", "1")], &[]), &[]);
    again.write().await.unwrap();
    let loaded = open(&directory).1.unwrap();
    assert_eq!(named(&loaded.addresses.resources), [("a", "2"), ("c", "1")]);
    assert_eq!(named(&loaded.policies.resources), [("p", "7")]);
}

#[tokio::test]
async fn of_a_refused_resource_the_last_good_version_is_kept_or_else_the_refused_one_without_a_version() {
    let place = tempfile::tempdir().unwrap();
    let (disk, _) = open(place.path());
    let refused = |name: &str| Rejection {
        name: name.into(),
        reason: "port 0".into(),
    };
    disk.note(
        &update(AUTHORIZATION_TYPE_URL, vec![resource("good", "1")], &[]),
        &[],
    );
    let second = vec![resource("good", "2"), resource("new", "2")];
    disk.note(
        &update(AUTHORIZATION_TYPE_URL, second, &[]),
        &[refused("good"), refused("new")],
    );
    disk.write().await.unwrap();
    let loaded = open(place.path()).1.unwrap();
    assert_eq!(named(&loaded.policies.resources), [("good", "1"), ("new", "")]);
    assert_eq!(loaded.policies.resources[1].payload, "new 2");
}

#[tokio::test]
async fn what_came_without_a_message_is_closed_again_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let (disk, _) = open(place.path());
    let unreadable = |name: &str| Unreadable {
        name: name.into(),
        aliases: vec!["/10.0.0.77".into()],
        reason: "the resource has no body".into(),
    };
    let all = ["good", "new", "gone", "mended"];
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        let without = Update {
            unreadable: all.map(unreadable).to_vec(),
            ..update(type_url, vec![resource("good", "1")], &[])
        };
        disk.note(&without, &[]);
        disk.note(&update(type_url, vec![resource("mended", "2")], &["gone"]), &[]);
    }
    disk.write().await.unwrap();
    let loaded = open(place.path()).1.unwrap();
    for update in [&loaded.addresses, &loaded.policies] {
        assert_eq!(named(&update.resources), [("good", "1"), ("mended", "2")]);
        let left: Vec<&str> = update.unreadable.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(left, ["new"]);
    }
    // What was read counts as kept.
    let (again, _) = open(place.path());
    again.note(&update(ADDRESS_TYPE_URL, vec![resource("c", "1")], &[]), &[]);
    again.write().await.unwrap();
    let loaded = open(place.path()).1.unwrap();

    let (changes, held) = crate::state::restored(loaded.addresses, loaded.policies);
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        // The control plane is told the name, so that it says when the resource is gone.
        assert!(held.contains(&(type_url.into(), "new".into(), String::new())));
    }
    let mut snapshot = mesh::Snapshot::new();
    snapshot.apply(changes);
    let rejected: Vec<&str> = snapshot
        .rejected_policies()
        .map(|one| one.name.as_str())
        .collect();
    assert!(rejected.contains(&"new"), "{rejected:?}");
    let address = mesh::NetworkAddress::new("", "10.0.0.77".parse().unwrap());
    assert!(snapshot.not_understood(&address).is_some());
}

#[tokio::test]
async fn a_file_that_is_damaged_foreign_old_or_open_to_others_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let (disk, _) = open(place.path());
    disk.note(&update(ADDRESS_TYPE_URL, vec![resource("a", "1")], &[]), &[]);
    disk.write().await.unwrap();
    let path = place.path().join(NAME);
    let good = fs::read(&path).unwrap();
    let why = |limit| load(&path, &scope(), limit).unwrap_err();

    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let loaded = file::decode(&bad, &scope(), SystemTime::now(), DAY);
        assert!(loaded.is_err(), "byte {position}");
    }
    for length in 0..good.len() {
        assert!(file::decode(&good[..length], &scope(), SystemTime::now(), DAY).is_err());
    }
    let other = Scope {
        trust_domain: "other.example".into(),
        ..scope()
    };
    let error = load(&path, &other, DAY).unwrap_err();
    assert!(
        error.contains("belongs to trust domain cluster.local") && error.contains("other.example"),
        "{error}"
    );
    let late = SystemTime::now() + DAY + Duration::from_secs(5);
    let old = file::decode(&good, &scope(), late, DAY).unwrap_err();
    assert!(matches!(old, FileError::TooOld { .. }), "{old}");
    let early = SystemTime::now() - DAY;
    assert_eq!(
        file::decode(&good, &scope(), early, DAY).unwrap_err(),
        FileError::Future
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(why(DAY).contains("should be 0600"));
    assert!(
        open(place.path()).1.is_none(),
        "and the proxy starts all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_are_written_soon_and_a_directory_that_cannot_be_made_stops_nothing() {
    let place = tempfile::tempdir().unwrap();
    let blocked = place.path().join("file");
    fs::write(&blocked, "not a directory").unwrap();
    let directory = blocked.join("state");
    let (disk, _) = open(&directory);
    let writer = tokio::spawn(disk.clone().run());
    disk.note(&update(ADDRESS_TYPE_URL, vec![resource("a", "1")], &[]), &[]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fs::remove_file(&blocked).unwrap();
    // The next attempt finds the way free.
    let path = directory.join(NAME);
    for _ in 0..1000 {
        if path.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(path.exists());
    writer.abort();
}
