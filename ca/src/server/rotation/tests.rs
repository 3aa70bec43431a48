use super::*;

mod random;
mod shared;

const MINUTE: Duration = Duration::from_secs(60);
const LIFE: Duration = Duration::from_secs(3600);
const CAREFUL: RotationSettings = RotationSettings {
    pause: Duration::from_secs(10),
    alone: true,
};

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn young() -> RootLife {
    RootLife {
        not_before: start(),
        not_after: start() + Duration::from_secs(10 * 365 * 24 * 3600),
    }
}

fn holder(node: &str) -> Holder {
    Holder {
        node: node.to_owned(),
        namespace: "istio-system".to_owned(),
        pod: format!("ztunnel-{node}"),
    }
}

fn id(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

/// An authority that everybody on node `a` and `b` has a certificate of.
fn mesh() -> Rotation {
    let mut rotation = Rotation::fresh(start(), CAREFUL);
    let generation = rotation.state().generation;
    for node in ["a", "b"] {
        rotation.issued(start(), &holder(node), &id(node), generation, start() + LIFE);
    }
    rotation
}

fn carry_out(rotation: &mut Rotation, now: SystemTime) -> Step {
    let step = rotation.next(now, young()).expect("a step");
    rotation.reached(rotation.after(step, now));
    step
}

fn codes(rotation: &Rotation, now: SystemTime) -> Vec<&'static str> {
    rotation.blockers(now).iter().map(Blocker::code).collect()
}

#[test]
fn it_switches_when_all_have_acknowledged_and_drops_when_all_have_renewed() {
    let mut rotation = mesh();
    let mut now = start() + MINUTE;
    assert_eq!(rotation.next(now, young()), None, "nobody has asked");
    rotation.request(now).unwrap();
    assert_eq!(carry_out(&mut rotation, now), Step::Introduce);
    let introduced = rotation.state().generation;
    assert_eq!(
        rotation.request(now),
        Err(RotationRefused::UnderWay(Duration::ZERO))
    );
    assert_eq!(
        codes(&rotation, now),
        ["pause", "not_acknowledged", "not_acknowledged"]
    );

    now += CAREFUL.pause;
    // Node a is one of ours; node b's proxy knows no bundle, and is issued a certificate for each identity anew.
    rotation.acknowledged(&holder("a"), introduced - 1);
    assert_eq!(codes(&rotation, now), ["not_acknowledged", "not_acknowledged"]);
    rotation.acknowledged(&holder("a"), introduced);
    assert_eq!(rotation.next(now, young()), None);
    let [Blocker::NotAcknowledged { holder: late, .. }] = &rotation.blockers(now)[..] else {
        panic!("{:?}", rotation.blockers(now))
    };
    assert_eq!(*late, holder("b"));
    rotation.issued(now, &holder("b"), &id("b"), introduced, now + LIFE);
    assert_eq!(rotation.next(now, young()), None, "the answer may have been lost");
    now += SETTLE;
    assert_eq!(rotation.status(now).done, 2);
    assert_eq!(carry_out(&mut rotation, now), Step::Switch);
    let switched = rotation.state().generation;
    assert_eq!(rotation.abort(), Err(RotationRefused::TooLate));

    now += CAREFUL.pause;
    rotation.acknowledged(&holder("a"), switched);
    assert_eq!(
        codes(&rotation, now),
        ["not_renewed", "not_renewed"],
        "what was signed counts now"
    );
    rotation.issued(now, &holder("a"), &id("a"), switched, now + LIFE);
    now += SETTLE;
    assert_eq!(codes(&rotation, now), ["not_renewed"]);
    // Node b is gone, and does not hold it up for longer than its certificate lives.
    let Blocker::NotRenewed { until, .. } = rotation.blockers(now)[0].clone() else {
        panic!()
    };
    assert_eq!(rotation.next(until - Duration::from_secs(1), young()), None);
    rotation.issued(until - MINUTE, &holder("a"), &id("a"), switched, until + LIFE);
    assert_eq!(carry_out(&mut rotation, until), Step::Drop);
    assert_eq!(rotation.state().phase, Phase::Steady);
    assert!(rotation.blockers(until).is_empty());
}

#[test]
fn it_is_given_up_only_before_the_new_root_signs() {
    let mut rotation = mesh();
    assert_eq!(rotation.abort(), Err(RotationRefused::NoneUnderWay));
    rotation.request(start()).unwrap();
    rotation.abort().unwrap();
    assert_eq!(
        rotation.next(start(), young()),
        None,
        "taken back before it began"
    );
    rotation.request(start()).unwrap();
    carry_out(&mut rotation, start());
    rotation.abort().unwrap();
    let before = rotation.state().generation;
    assert_eq!(carry_out(&mut rotation, start()), Step::Abort);
    assert_eq!(rotation.state().phase, Phase::Steady);
    assert!(rotation.state().generation > before);
}

#[test]
fn it_begins_by_itself_in_the_last_part_of_the_roots_life() {
    let mut rotation = mesh();
    let root = young();
    let life = root.not_after.duration_since(root.not_before).unwrap();
    let begins = root.not_after - life / LAST_PART;
    assert_eq!(rotation.next(begins - MINUTE, root), None);
    assert_eq!(rotation.next(begins, root), Some(Step::Introduce));
}

#[test]
fn what_another_process_has_issued_counts_as_in_use_until_it_must_have_expired() {
    let mut rotation = mesh();
    rotation.request(start()).unwrap();
    carry_out(&mut rotation, start());
    let text = rotation.state().to_text();
    assert!(!text.contains('\n'));
    let state = RotationState::from_text(&text).unwrap();
    assert_eq!(state, *rotation.state());

    let now = start() + MINUTE;
    let mut next = Rotation::resumed(state.clone(), now, CAREFUL);
    for node in ["a", "b"] {
        next.acknowledged(&holder(node), state.generation);
    }
    let [Blocker::Unseen { until }] = next.blockers(now)[..] else {
        panic!("{:?}", next.blockers(now))
    };
    assert_eq!(until, start() + state.longest_life);
    assert!(state.longest_life >= LIFE && state.longest_life <= LIFE + Duration::from_secs(1));
    assert_eq!(next.next(until, young()), Some(Step::Switch));

    // Among several replicas that is always so, and those may be late by the pause.
    let several = RotationSettings {
        alone: false,
        ..CAREFUL
    };
    let next = Rotation::resumed(state.clone(), now, several);
    let [Blocker::Unseen { until: later }] = next.blockers(now)[..] else {
        panic!()
    };
    assert_eq!(later, until + CAREFUL.pause);
}

#[test]
fn what_finds_no_room_counts_as_not_seen() {
    let mut rotation = Rotation::fresh(start(), CAREFUL);
    let generation = rotation.state().generation;
    for number in 0..MAX_HOLDERS {
        rotation.issued(
            start(),
            &holder(&number.to_string()),
            &id("a"),
            generation,
            start() + LIFE,
        );
    }
    rotation.request(start()).unwrap();
    carry_out(&mut rotation, start());
    let now = start() + MINUTE;
    assert!(!codes(&rotation, now).contains(&"unseen"));
    rotation.issued(now, &holder("one too many"), &id("a"), generation, now + LIFE);
    assert!(codes(&rotation, now).contains(&"unseen"));
}

#[test]
fn damage_is_refused() {
    for text in [
        "",
        "{}",
        "null",
        r#"{"phase":"later","since":0,"generation":1,"longest_life":1}"#,
    ] {
        assert!(RotationState::from_text(text).is_err(), "{text}");
    }
    let far = r#"{"phase":"steady","since":1,"generation":1,"longest_life":18446744073709551615}"#;
    let state = RotationState::from_text(far).unwrap();
    assert!(state.longest_life <= crate::server::MAX_TTL + Duration::from_secs(1));
    let never = r#"{"phase":"steady","since":18446744073709551615,"generation":1,"longest_life":1}"#;
    assert!(RotationState::from_text(never).is_err());
    // Neither can such a time be written anywhere, nor could the next generation be counted.
    for (since, generation) in [(1_u64 << 62, 1), (1, u64::MAX)] {
        let text =
            format!(r#"{{"phase":"steady","since":{since},"generation":{generation},"longest_life":1}}"#);
        assert!(RotationState::from_text(&text).is_err(), "{text}");
    }
}

#[test]
fn who_is_waited_for_is_named_in_words() {
    let mut rotation = mesh();
    rotation.request(start()).unwrap();
    carry_out(&mut rotation, start());
    let texts: Vec<String> = rotation
        .blockers(start())
        .iter()
        .map(Blocker::to_string)
        .collect();
    assert!(texts[0].contains("2027-01-15T08:00:10Z"), "{texts:?}");
    assert!(
        texts[1].contains("spiffe://cluster.local/ns/demo/sa/a"),
        "{texts:?}"
    );
}

#[test]
fn the_steps_exchange_the_roots_that_are_kept() {
    use crate::server::rotation::carry_out as done_to;
    use crate::server::{Material, StoredAuthority, certificate_fingerprint};
    let now = SystemTime::now();
    let mut kept = StoredAuthority::generate(now).unwrap();
    let mut rotation = Rotation::fresh(now, CAREFUL);
    let old = kept.current.certificate.clone();
    let life = root_life(&old).unwrap();
    assert!(life.not_before < now && now < life.not_after);
    let mut seen = vec![kept.roots_pem()];
    for (step, phase) in [
        (Step::Introduce, Phase::Introduced),
        (Step::Switch, Phase::Switched),
        (Step::Drop, Phase::Steady),
    ] {
        let state = rotation.after(step, now);
        kept = done_to(step, &kept, &state, now).unwrap();
        let written = RotationState::from_text(kept.rotation.as_deref().unwrap()).unwrap();
        assert_eq!(written.generation, state.generation);
        assert_eq!((phase_of(&kept), written.phase), (phase, phase));
        let retired = (step == Step::Drop).then(|| old.clone());
        assert_eq!(written.retired, retired.into_iter().collect::<Vec<_>>());
        rotation.reached(written);
        seen.push(kept.roots_pem());
        // What is kept can sign at every moment.
        assert_eq!(
            Material::of_stored(&kept, now).unwrap().roots_pem(),
            kept.roots_pem()
        );
    }
    let new = &kept.current.certificate;
    assert_ne!(certificate_fingerprint(&old), certificate_fingerprint(new));
    for both in &seen[1..3] {
        assert!(both.contains(old.trim()) && both.contains(new.trim()));
    }
    assert!(
        seen[1].starts_with(old.trim()) && seen[2].starts_with(new.trim()),
        "who signs is first"
    );
    assert!(!seen[3].contains(old.trim()));

    let state = rotation.after(Step::Introduce, now);
    let introduced = done_to(Step::Introduce, &kept, &state, now).unwrap();
    let aborted = done_to(Step::Abort, &introduced, &state, now).unwrap();
    assert_eq!(aborted.roots_pem(), kept.roots_pem());
    assert!(
        done_to(Step::Switch, &kept, &state, now).is_err(),
        "there is nobody to switch to"
    );

    // Somebody has put back an older copy: what is trusted decides, and the wait begins anew.
    let resumed = Rotation::resumed_as(state.clone(), phase_of(&kept), now, CAREFUL);
    assert_eq!(resumed.state().phase, Phase::Steady);
    assert!(resumed.state().generation > state.generation);
}
