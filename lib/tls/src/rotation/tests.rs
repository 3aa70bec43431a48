use super::*;
use crate::KeyAndRequest;
use ca::Authority;

const HOUR: Duration = Duration::from_secs(3600);

fn authority() -> Authority {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), SystemTime::now()).unwrap()
}

fn id(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

/// A certificate for `account` by `signer`, in an answer that carries the roots of `roots`.
fn answer(account: &str, signer: &Authority, roots: &[&Authority]) -> WorkloadCertificate {
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&id(account)).unwrap();
    let now = SystemTime::now();
    let mut chain = signer.sign(&request_pem, &id(account), HOUR, now).unwrap().chain;
    *chain.last_mut().unwrap() = roots.iter().map(|root| root.root_pem()).collect();
    WorkloadCertificate::from_pem(&chain, &key, &id(account)).unwrap()
}

fn roots(of: &[&Authority]) -> Roots {
    Roots::from_pem(&of.iter().map(|root| root.root_pem()).collect::<String>()).unwrap()
}

#[test]
fn a_new_root_counts_for_all_at_once_and_nobody_is_asked_to_renew_for_it() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    let first = rotation.on_certificate(now, &answer("a", &old, &[&old]), || 0);
    assert_eq!(first.trusted, Some(roots(&[&old])));
    let again = rotation.on_certificate(now, &answer("b", &old, &[&old]), || 0);
    assert_eq!(again, Outcome::default());
    let both = rotation.on_certificate(now, &answer("a", &old, &[&old, &new]), || 0);
    assert_eq!(both.trusted, Some(roots(&[&old, &new])));
    assert!(both.renew.is_empty());
    assert_eq!(rotation.next_tick(now), None);
}

#[test]
fn an_old_root_goes_when_no_answer_carries_it_any_more() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    for account in ["a", "b"] {
        rotation.on_certificate(now, &answer(account, &new, &[&old, &new]), || 0);
    }
    let outcome = rotation.on_certificate(now, &answer("a", &new, &[&new]), || u64::MAX);
    assert_eq!(outcome.trusted, None, "b's answer still carries the old one");
    let [(identity, wait)] = &outcome.renew[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(*identity, id("b"));
    assert!(*wait > Duration::ZERO && *wait <= SPREAD, "{wait:?}");
    let later = now + *wait;
    let outcome = rotation.on_certificate(later, &answer("b", &new, &[&new]), || 0);
    assert_eq!(outcome.trusted, Some(roots(&[&new])));
    assert!(outcome.renew.is_empty());
}

#[test]
fn an_old_root_goes_with_the_last_identity_that_carries_it() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_certificate(now, &answer("b", &old, &[&old]), || 0);
    rotation.on_certificate(now, &answer("a", &new, &[&new]), || 0);
    assert_eq!(rotation.trusted(), Some(&roots(&[&old, &new])));
    assert_eq!(rotation.forget(now, &id("b")).trusted, Some(roots(&[&new])));
    assert_eq!(rotation.forget(now, &id("a")).trusted, None);
    assert_eq!(
        rotation.trusted(),
        Some(&roots(&[&new])),
        "open tunnels still rest on it"
    );
}

#[test]
fn who_does_not_lead_to_the_new_roots_is_asked_at_once_and_an_old_root_lingers_no_longer_than_it_may() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_certificate(now, &answer("b", &old, &[&old]), || 0);
    let outcome = rotation.on_certificate(now, &answer("a", &new, &[&new]), || u64::MAX);
    assert_eq!(outcome.trusted, Some(roots(&[&old, &new])));
    assert_eq!(outcome.renew, vec![(id("b"), Duration::ZERO)]);
    // The authority does not answer b.
    let end = rotation.next_tick(now).unwrap();
    assert_eq!(end, now + LINGER);
    assert_eq!(rotation.tick(end - Duration::from_secs(1)), Outcome::default());
    assert_eq!(rotation.tick(end).trusted, Some(roots(&[&new])));
    assert_eq!(rotation.next_tick(end), None);
}

#[test]
fn authorities_that_contradict_each_other_do_not_make_us_ask_without_end() {
    let (one, other) = (authority(), authority());
    let start = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_certificate(start, &answer("a", &one, &[&one]), || 0);
    let mut due: BTreeMap<Identity, SystemTime> = BTreeMap::new();
    let mut asked = 0;
    let mut turn = false;
    let mut now = start;
    let mut outcome = rotation.on_certificate(now, &answer("b", &other, &[&other]), || 0);
    while now < start + HOUR {
        for (identity, wait) in outcome.renew {
            asked += 1;
            due.insert(identity, now + wait);
        }
        let Some((identity, at)) = due
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(id, at)| (id.clone(), *at))
        else {
            break;
        };
        due.remove(&identity);
        now = now.max(at);
        // Whoever asks gets the other one's answer.
        turn = !turn;
        let authority = if turn { &other } else { &one };
        let certificate = answer(identity.service_account(), authority, &[authority]);
        outcome = rotation.on_certificate(now, &certificate, || 0);
    }
    let most = 2 * (HOUR.as_secs() / EARLY_PAUSE.as_secs() + 1);
    assert!(asked <= most, "asked {asked} times in an hour");
}

#[test]
fn what_was_kept_on_disk_counts_until_the_authority_answers_and_is_never_the_newest() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    let restored = answer("a", &old, &[&old]);
    assert_eq!(rotation.on_restored(now, &restored).trusted, Some(roots(&[&old])));
    let outcome = rotation.on_certificate(now, &answer("a", &new, &[&new]), || 0);
    assert_eq!(outcome.trusted, Some(roots(&[&new])));
    let late = rotation.on_restored(now, &answer("b", &old, &[&old]));
    assert_eq!(
        late.trusted,
        Some(roots(&[&old, &new])),
        "b's peers are believed for a while"
    );
    let end = rotation.next_tick(now).unwrap();
    assert_eq!(rotation.tick(end).trusted, Some(roots(&[&new])));
}

#[test]
fn a_bundle_counts_at_once_and_no_answer_takes_it_back() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_certificate(now, &answer("a", &old, &[&old]), || 0);
    let outcome = rotation.on_bundle(now, roots(&[&old, &new]), || 0);
    assert_eq!(outcome.trusted, Some(roots(&[&old, &new])));
    assert!(outcome.renew.is_empty(), "{outcome:?}");
    // From a replica of the authority that has not heard of the new root.
    let outcome = rotation.on_certificate(now, &answer("b", &old, &[&old]), || 0);
    assert_eq!(outcome, Outcome::default());
    assert_eq!(rotation.trusted(), Some(&roots(&[&old, &new])));
}

#[test]
fn a_root_that_a_bundle_leaves_out_goes_with_the_certificates_that_came_with_it() {
    let (old, new) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_bundle(now, roots(&[&old, &new]), || 0);
    for account in ["a", "b"] {
        rotation.on_certificate(now, &answer(account, &new, &[&old, &new]), || 0);
    }
    let outcome = rotation.on_bundle(now, roots(&[&new]), || u64::MAX);
    assert_eq!(outcome.trusted, None, "peers may not know it yet");
    let asked: Vec<_> = outcome
        .renew
        .iter()
        .map(|(identity, _)| identity.clone())
        .collect();
    assert_eq!(asked, [id("a"), id("b")]);
    let later = now + SPREAD;
    for account in ["a", "b"] {
        rotation.on_certificate(later, &answer(account, &new, &[&new]), || 0);
    }
    assert_eq!(rotation.trusted(), Some(&roots(&[&new])));

    // An authority that does not answer holds it up only so long.
    let mut rotation = RootRotation::new();
    rotation.on_certificate(now, &answer("a", &old, &[&old]), || 0);
    rotation.on_bundle(now, roots(&[&new]), || 0);
    assert_eq!(rotation.tick(now + LINGER).trusted, Some(roots(&[&new])));
}

#[test]
fn an_answer_younger_than_the_bundle_adds_its_root_and_is_asked_once_whether_it_means_it() {
    let (old, other) = (authority(), authority());
    let now = SystemTime::now();
    let mut rotation = RootRotation::new();
    rotation.on_bundle(now, roots(&[&old]), || 0);
    let outcome = rotation.on_certificate(now, &answer("a", &other, &[&other]), || 0);
    assert_eq!(outcome.trusted, Some(roots(&[&old, &other])));
    assert_eq!(outcome.renew, [(id("a"), Duration::ZERO)]);
    let later = now + LINGER * 2;
    let outcome = rotation.on_certificate(later, &answer("a", &other, &[&other]), || 0);
    assert_eq!(outcome, Outcome::default(), "it means it");
    assert_eq!(rotation.tick(later + LINGER * 2), Outcome::default());
    // Where it was a race, the next answer settles it.
    let outcome = rotation.on_certificate(later, &answer("a", &old, &[&old]), || 0);
    assert_eq!(outcome.trusted, Some(roots(&[&old])));
}
