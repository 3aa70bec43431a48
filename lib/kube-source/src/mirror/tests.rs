use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A service account as the API has it: its content is the value of a label.
fn account(name: &str, uid: &str, version: u64, content: &str) -> Seen {
    let key = ObjectKey::new(Kind::ServiceAccount, "demo", name);
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": name, "namespace": "demo", "uid": uid, "resourceVersion": version.to_string(),
            "labels": { "content": content },
        },
    }));
    Seen {
        key,
        uid: uid.to_owned(),
        version: Some(version),
        object: Ok(Arc::new(object.unwrap())),
    }
}

fn unreadable(seen: Seen, problem: &str) -> Seen {
    Seen {
        object: Err(problem.to_owned()),
        ..seen
    }
}

const KIND: Kind = Kind::ServiceAccount;
const POLICY: Kind = Kind::AuthorizationPolicy;

/// A mirror whose reader knows these accounts.
fn mirror(accounts: &[Seen]) -> Mirror {
    let mut mirror = Mirror::new([KIND]);
    mirror.list_begins(KIND);
    for account in accounts {
        mirror.listed(account.clone());
    }
    assert!(mirror.take().is_none(), "the list has not ended");
    mirror.list_ends(KIND, Some(10));
    let batch = batch(&mut mirror);
    assert!(batch.initial);
    assert_eq!(batch.changes.len(), accounts.len());
    mirror
}

fn batch(mirror: &mut Mirror) -> Batch {
    mirror.take().expect("something is owed").unwrap()
}

/// `name=content` of what was put, `-name` of what was deleted.
fn words(batch: &Batch) -> Vec<String> {
    let word = |change: &StoreChange| match change {
        StoreChange::Put(object) => {
            format!("{}={}", object.metadata.name, object.metadata.labels["content"])
        }
        StoreChange::Delete(key) => format!("-{}", key.name),
    };
    batch.changes.iter().map(word).collect()
}

#[test]
fn a_slow_reader_finds_the_latest_state_once() {
    let mut mirror = mirror(&[account("a", "1", 1, "x"), account("b", "2", 2, "x")]);
    for (version, content) in [(11, "y"), (12, "z")] {
        mirror.changed(account("a", "1", version, content));
    }
    mirror.deleted(&account("b", "2", 13, "x"));
    // Made and deleted while the reader was away: it never knew.
    mirror.changed(account("c", "3", 14, "x"));
    mirror.deleted(&account("c", "3", 15, "x"));
    let batch = batch(&mut mirror);
    assert_eq!(words(&batch), ["a=z", "-b"]);
    assert_eq!((batch.revision, batch.initial), (2, false));
    assert!(mirror.take().is_none());
}

#[test]
fn what_says_the_same_is_not_told_again() {
    let mut mirror = mirror(&[account("a", "1", 1, "x")]);
    mirror.changed(account("a", "1", 11, "x"));
    assert!(mirror.take().is_none());
    // A label to and fro: told, since the reader may have seen anything between.
    mirror.changed(account("a", "1", 12, "y"));
    assert_eq!(words(&batch(&mut mirror)), ["a=y"]);
    // Another object of the same name and content is another object.
    mirror.changed(account("a", "9", 13, "y"));
    assert_eq!(words(&batch(&mut mirror)), ["a=y"]);
}

#[test]
fn a_new_list_tells_what_was_missed() {
    let mut mirror = mirror(&[account("a", "1", 1, "x"), account("b", "2", 2, "x")]);
    mirror.list_begins(KIND);
    mirror.listed(account("b", "2", 20, "y"));
    // The list broke off, and began again.
    mirror.list_begins(KIND);
    mirror.listed(account("b", "2", 21, "z"));
    mirror.listed(account("c", "3", 22, "x"));
    mirror.list_ends(KIND, Some(30));
    assert_eq!(words(&batch(&mut mirror)), ["-a", "b=z", "c=x"]);
}

#[test]
fn a_list_of_another_history_counts_though_its_versions_are_lower() {
    let mut mirror = mirror(&[account("a", "1", 9, "x"), account("b", "2", 10, "x")]);
    mirror.list_begins(KIND);
    mirror.listed(account("a", "1", 1, "old"));
    mirror.list_ends(KIND, Some(2));
    assert_eq!(words(&batch(&mut mirror)), ["a=old", "-b"]);
    mirror.changed(account("a", "1", 3, "new"));
    assert_eq!(words(&batch(&mut mirror)), ["a=new"]);
}

#[test]
fn events_that_come_again_change_nothing() {
    let mut mirror = mirror(&[account("a", "1", 1, "x")]);
    mirror.changed(account("a", "1", 11, "y"));
    mirror.deleted(&account("a", "1", 12, "y"));
    mirror.changed(account("a", "2", 13, "z"));
    assert_eq!(words(&batch(&mut mirror)), ["a=z"]);
    mirror.changed(account("a", "1", 11, "y"));
    mirror.deleted(&account("a", "1", 12, "y"));
    mirror.changed(account("b", "3", 9, "x"));
    assert!(mirror.take().is_none());
    // Of the same version is not older: a store may change several objects at once.
    mirror.changed(account("b", "3", 13, "x"));
    assert_eq!(words(&batch(&mut mirror)), ["b=x"]);
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_last_good_version() {
    let mut mirror = mirror(&[account("a", "1", 1, "x")]);
    let bad = |version| unreadable(account("a", "1", version, "y"), "it is bad");
    let complaint = mirror.changed(bad(11)).unwrap();
    assert_eq!((complaint.problem.as_str(), complaint.kept), ("it is bad", true));
    assert!(mirror.changed(bad(12)).is_none(), "said once");
    assert_eq!(mirror.status()[0].unreadable, 1);
    assert!(mirror.take().is_none());
    // One that never was good is known and not told.
    let complaint = mirror.changed(unreadable(account("b", "2", 13, ""), "no"));
    assert!(!complaint.unwrap().kept);
    assert!(mirror.take().is_none());
    assert_eq!(mirror.status()[0].unreadable, 2);
    // Another object of that name has no last good version.
    mirror.changed(unreadable(account("a", "3", 14, ""), "no"));
    assert_eq!(words(&batch(&mut mirror)), ["-a"]);
    mirror.changed(account("a", "3", 15, "z"));
    mirror.deleted(&account("b", "2", 16, ""));
    assert_eq!(words(&batch(&mut mirror)), ["a=z"]);
    assert_eq!(mirror.status()[0].unreadable, 0);
}

#[test]
fn the_first_batch_waits_for_every_kind_but_those_that_are_not_there() {
    let absent = Failure::new(Sort::Absent, "no such kind");
    let listed = || {
        let mut mirror = Mirror::new([KIND, POLICY]);
        mirror.list_begins(KIND);
        mirror.listed(account("a", "1", 1, "x"));
        mirror.list_ends(KIND, Some(1));
        mirror
    };
    // A 404 alone is not believed: a server that starts does not know yet what it has.
    let mut mirror = listed();
    mirror.failed(POLICY, &absent);
    assert!(mirror.take().is_none());
    mirror.define(Definitions::Known(BTreeSet::new()));
    assert_eq!(words(&batch(&mut mirror)), ["a=x"]);
    assert_eq!(mirror.status()[1].state, KindState::Absent);

    // The definition is there, but the kind is not served yet.
    let mut mirror = listed();
    let name = "authorizationpolicies.security.istio.io".to_owned();
    mirror.define(Definitions::Known(BTreeSet::from([name])));
    mirror.failed(POLICY, &absent);
    let problem = mirror.take().unwrap().unwrap_err().to_string();
    assert!(problem.contains("not served"), "{problem}");
    assert!(mirror.take().is_none());

    // Who may not look at the definitions has to believe it.
    let mut mirror = listed();
    mirror.define(Definitions::Unavailable);
    mirror.failed(POLICY, &absent);
    assert!(mirror.take().is_some());

    // A kind that every server has is never absent.
    let mut mirror = Mirror::new([KIND]);
    mirror.define(Definitions::Known(BTreeSet::new()));
    assert!(mirror.failed(KIND, &absent));
    assert!(matches!(mirror.take(), Some(Err(SourceError::Remote { .. }))));
    assert!(mirror.take().is_none());
}

#[test]
fn policies_vanish_only_with_their_definition() {
    let absent = Failure::new(Sort::Absent, "no such kind");
    let policy = Object::from_value(json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "p", "namespace": "demo" }, "spec": { "action": "DENY", "rules": [{}] },
    }));
    let policy = policy.unwrap();
    let seen = Seen {
        key: policy.key(),
        uid: String::new(),
        version: Some(1),
        object: Ok(Arc::new(policy)),
    };
    for known in [true, false] {
        let name = "authorizationpolicies.security.istio.io".to_owned();
        let mut mirror = Mirror::new([POLICY]);
        mirror.list_begins(POLICY);
        mirror.listed(seen.clone());
        mirror.list_ends(POLICY, Some(1));
        batch(&mut mirror);
        if known {
            mirror.define(Definitions::Known(BTreeSet::from([name])));
        } else {
            mirror.define(Definitions::Unavailable);
        }
        mirror.failed(POLICY, &absent);
        assert!(mirror.take().is_none_or(|owed| owed.is_err()));
        mirror.define(Definitions::Known(BTreeSet::new()));
        assert!(matches!(batch(&mut mirror).changes[..], [StoreChange::Delete(_)]));
    }
}

#[test]
fn failures_are_told_when_they_are_new() {
    let mut mirror = mirror(&[]);
    let down = Failure::new(Sort::Unreachable, "connection refused");
    for news in [true, false, false] {
        assert_eq!(mirror.failed(KIND, &down), news);
    }
    assert_eq!(
        mirror.take().unwrap().unwrap_err().to_string(),
        "cannot watch serviceaccounts: connection refused"
    );
    assert!(mirror.take().is_none());
    assert_eq!(mirror.status()[0].problem.as_deref(), Some("connection refused"));
    mirror.changed(account("a", "1", 11, "x"));
    assert_eq!(mirror.status()[0].problem, None);
    // That a version has expired is nothing to tell anybody.
    mirror.failed(KIND, &Failure::new(Sort::Expired, "gone"));
    assert_eq!(words(&batch(&mut mirror)), ["a=x"]);
}

#[test]
fn a_write_is_known_from_the_batch_that_has_it() {
    let mut mirror = mirror(&[account("a", "1", 1, "x"), account("b", "2", 2, "x")]);
    let a = account("a", "1", 0, "").key;
    // Not back yet: no batch says that it is.
    let promised = mirror.wrote(&a, "1", Some(20));
    mirror.changed(account("b", "2", 19, "y"));
    assert!(batch(&mut mirror).revision < promised);
    mirror.changed(account("a", "1", 20, "y"));
    assert!(batch(&mut mirror).revision >= promised);
    // Back already: the next batch has it, or the last one had.
    mirror.changed(account("a", "1", 21, "z"));
    let promised = mirror.wrote(&a, "1", Some(21));
    let told = batch(&mut mirror).revision;
    assert_eq!(promised, told);
    assert_eq!(mirror.wrote(&a, "1", Some(21)), told);
    // It changes nothing that is read: still there must be a batch to tell.
    let promised = mirror.wrote(&a, "1", Some(30));
    mirror.changed(account("a", "1", 30, "z"));
    let empty = batch(&mut mirror);
    assert!(empty.changes.is_empty() && empty.revision >= promised);
    // The object went before it came back.
    let promised = mirror.wrote(&a, "1", Some(40));
    mirror.deleted(&account("a", "1", 41, "z"));
    assert!(batch(&mut mirror).revision >= promised);
    assert!(mirror.take().is_none());
    // Nothing will come back of an object that is not followed.
    let other = ObjectKey::new(KIND, "demo", "other");
    assert!(mirror.wrote(&other, "9", Some(50)) <= batch_revision(&mirror));
}

fn batch_revision(mirror: &Mirror) -> u64 {
    mirror.revisions.told(false)
}

/// What happens at the server, and how much of it gets through.
#[derive(Clone, Debug)]
enum Happening {
    Put(u8, u8),
    Delete(u8),
    /// The watch is cut; what happens until the next list is missed.
    Cut,
    /// A list, broken off after so many objects, or whole.
    List(Option<usize>),
    /// An event is sent again.
    Again(usize),
    /// The reader takes what it is owed.
    Read,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..4u8, 0..3u8).prop_map(|(name, content)| Happening::Put(name, content)),
        3 => (0..4u8).prop_map(Happening::Delete),
        1 => Just(Happening::Cut),
        2 => proptest::option::of(0..4usize).prop_map(Happening::List),
        1 => (0..50usize).prop_map(Happening::Again),
        3 => Just(Happening::Read),
    ]
}

proptest! {
    #[test]
    fn the_reader_ends_with_what_the_server_has(happenings in proptest::collection::vec(happening(), 0..60)) {
        let mut mirror = Mirror::new([KIND]);
        let (mut version, mut uid, mut is_cut) = (1u64, 0u64, true);
        let mut server: BTreeMap<String, Seen> = BTreeMap::new();
        let mut events: Vec<(bool, Seen)> = Vec::new();
        let mut reader: BTreeMap<String, Arc<Object>> = BTreeMap::new();
        let mut last = 0;
        let ending = [Happening::List(None), Happening::Read];
        for happening in happenings.into_iter().chain(ending) {
            version += 1;
            let event = match happening {
                Happening::Put(name, content) => {
                    let name = name.to_string();
                    let kept = server.get(&name).map(|seen| seen.uid.clone());
                    uid += 1;
                    let seen = account(&name, &kept.unwrap_or(uid.to_string()), version, &content.to_string());
                    server.insert(name, seen.clone());
                    Some((true, seen))
                }
                Happening::Delete(name) => server
                    .remove(&name.to_string())
                    .map(|seen| (false, Seen { version: Some(version), ..seen })),
                Happening::Cut => { is_cut = true; None }
                Happening::List(broken) => {
                    mirror.list_begins(KIND);
                    let count = broken.unwrap_or(usize::MAX);
                    server.values().take(count).for_each(|seen| drop(mirror.listed(seen.clone())));
                    if broken.is_none() {
                        mirror.list_ends(KIND, Some(version));
                    }
                    is_cut = broken.is_some();
                    None
                }
                Happening::Again(index) => {
                    // Only of this watch: older ones are cut off by the list's own version.
                    if let (Some((put, seen)), false) = (events.get(index), is_cut) {
                        if *put { mirror.changed(seen.clone()); } else { mirror.deleted(seen); }
                    }
                    None
                }
                Happening::Read => {
                    while let Some(batch) = mirror.take() {
                        let batch = batch.unwrap();
                        prop_assert!(batch.revision > last, "{} after {last}", batch.revision);
                        last = batch.revision;
                        for change in batch.changes {
                            match change {
                                StoreChange::Put(object) => drop(reader.insert(object.metadata.name.clone(), object)),
                                StoreChange::Delete(key) => prop_assert!(reader.remove(&key.name).is_some(), "{key}"),
                            }
                        }
                    }
                    None
                }
            };
            if let Some((put, seen)) = event {
                if !is_cut {
                    if put { mirror.changed(seen.clone()); } else { mirror.deleted(&seen); }
                }
                events.push((put, seen));
            }
        }
        let content = |object: &Object| (object.metadata.uid.clone(), object.metadata.labels.clone());
        let expected: Vec<_> = server.values().map(|seen| content(seen.object.as_ref().unwrap())).collect();
        let found: Vec<_> = reader.values().map(|object| content(object)).collect();
        prop_assert_eq!(found, expected);
    }
}
