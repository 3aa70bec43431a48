//! What replicas tell each other.

use super::*;

const SHARED: RotationSettings = RotationSettings {
    pause: Duration::from_secs(10),
    alone: false,
};

/// Two replicas of a mesh whose proxies were served by the first.
struct Two {
    now: SystemTime,
    leader: Rotation,
    other: Rotation,
}

impl Two {
    fn new() -> Two {
        let leader = Rotation::fresh(start(), SHARED);
        let mut other = Rotation::resumed(leader.state().clone(), start(), SHARED);
        other.vouched_for(start(), Duration::ZERO);
        Two {
            now: start(),
            leader,
            other,
        }
    }

    fn step(&mut self) -> Step {
        let step = carry_out(&mut self.leader, self.now);
        self.other.reached(self.leader.state().clone());
        step
    }

    /// As it is written and read.
    fn share(&mut self) {
        let report = read(&self.other, self.now, false);
        self.leader
            .told(Reports::from([("other".to_owned(), Some(report))]));
    }

    fn codes(&self) -> Vec<&'static str> {
        codes(&self.leader, self.now)
    }
}

fn read(rotation: &Rotation, now: SystemTime, ended: bool) -> Report {
    let report = rotation.report(now, ended);
    let text = report.to_text(usize::MAX);
    let read = Report::from_text(&text).unwrap();
    assert_eq!(read, report);
    read
}

fn generation(rotation: &Rotation) -> u64 {
    rotation.state().generation
}

#[test]
fn a_rotation_goes_on_by_what_both_have_seen() {
    let mut two = Two::new();
    let first = generation(&two.leader);
    for (replica, node) in [(&mut two.leader, "a"), (&mut two.other, "b")] {
        replica.issued(start(), &holder(node), &id(node), first, start() + LIFE);
    }
    two.now += MINUTE;
    two.leader.request(two.now).unwrap();
    assert_eq!(two.step(), Step::Introduce);
    two.now += SHARED.pause;
    assert_eq!(
        two.codes(),
        ["unseen", "not_acknowledged"],
        "nothing was told yet"
    );
    two.share();
    assert_eq!(two.codes(), ["not_acknowledged", "not_acknowledged"]);
    let texts: Vec<String> = two
        .leader
        .blockers(two.now)
        .iter()
        .map(Blocker::to_string)
        .collect();
    assert!(
        texts[1].contains("1 that other replicas have issued"),
        "{texts:?}"
    );
    assert_eq!(two.leader.status(two.now).holders, 2);

    // Each is heard where it speaks.
    let introduced = generation(&two.leader);
    two.leader.acknowledged(&holder("b"), introduced);
    two.other.acknowledged(&holder("a"), introduced);
    two.share();
    assert_eq!(two.codes(), [""; 0]);
    assert_eq!(two.step(), Step::Switch);

    // What was told in an earlier phase says nothing in this one.
    two.now += SHARED.pause;
    assert!(two.codes().contains(&"unseen"));
    two.share();
    assert_eq!(two.codes(), ["not_renewed", "not_renewed"]);
    // Each renews where it has not been before.
    let switched = generation(&two.leader);
    two.leader
        .issued(two.now, &holder("b"), &id("b"), switched, two.now + LIFE);
    two.other
        .issued(two.now, &holder("a"), &id("a"), switched, two.now + LIFE);
    two.share();
    assert_eq!(two.codes().len(), 2, "an answer may be lost");
    two.now += SETTLE;
    two.share();
    assert_eq!(two.codes(), [""; 0]);
    assert_eq!(two.step(), Step::Drop);
    assert!(two.now < start() + LIFE / 2);
}

#[test]
fn a_replica_that_does_not_follow_is_waited_for() {
    let mut two = Two::new();
    two.leader.request(two.now).unwrap();
    let before = read(&two.other, two.now, false);
    two.step();
    two.now += SHARED.pause;
    // It may go on signing: what it says is of an earlier generation.
    two.leader
        .told(Reports::from([("other".to_owned(), Some(before))]));
    assert_eq!(
        two.codes(),
        [""; 0],
        "nothing was ever issued, so nothing can be in use"
    );
    let long = RotationState {
        longest_life: LIFE,
        ..two.leader.state().clone()
    };
    two.leader.reached(long);
    for report in [Some(read(&Two::new().other, start(), false)), None] {
        two.leader.told(Reports::from([("other".to_owned(), report)]));
        assert_eq!(two.codes(), ["replica"]);
        let until = two.leader.blockers(two.now)[0].until();
        assert_eq!(until, two.leader.state().since + SHARED.pause + LIFE);
        assert_eq!(codes(&two.leader, until), [""; 0]);
    }
}

#[test]
fn who_ends_in_good_order_leaves_nothing_unseen() {
    let mut two = Two::new();
    let first = generation(&two.leader);
    two.other
        .issued(start(), &holder("a"), &id("a"), first, start() + LIFE);
    let last = read(&two.other, start() + MINUTE, true);
    assert!(!last.is_spent(start() + LIFE - MINUTE, 2 * LIFE));
    assert!(last.is_spent(start() + LIFE + MINUTE, 2 * LIFE));
    // Another process begins, and a rotation after it.
    two.now += 2 * MINUTE;
    two.leader.request(two.now).unwrap();
    carry_out(&mut two.leader, two.now);
    two.now += SHARED.pause;
    let told =
        |rotation: &mut Rotation| rotation.told(Reports::from([("gone".to_owned(), Some(last.clone()))]));
    told(&mut two.leader);
    assert_eq!(two.codes(), ["not_acknowledged"]);
    let introduced = generation(&two.leader);
    two.leader
        .issued(two.now, &holder("a"), &id("a"), introduced, two.now + LIFE);
    two.now += SETTLE;
    assert_eq!(two.codes(), [""; 0], "it was renewed by somebody else");
    carry_out(&mut two.leader, two.now);
    told(&mut two.leader);
    two.now += SHARED.pause;
    assert_eq!(two.codes(), ["not_renewed"], "what the new root has not signed");
}

#[test]
fn a_certificate_that_may_be_younger_is_not_replaced() {
    let mut two = Two::new();
    let first = generation(&two.leader);
    two.leader.request(two.now).unwrap();
    carry_out(&mut two.leader, two.now);
    let introduced = generation(&two.leader);
    // The other is late, and issues an old one after the leader has issued a new one.
    two.now += SHARED.pause + MINUTE;
    two.leader
        .issued(two.now, &holder("a"), &id("a"), introduced, two.now + LIFE);
    two.other.issued(
        two.now + MINUTE,
        &holder("a"),
        &id("a"),
        first,
        two.now + MINUTE + LIFE,
    );
    two.now += 2 * MINUTE;
    two.other.reached(two.leader.state().clone());
    two.share();
    assert_eq!(two.codes(), ["not_acknowledged"]);
    // In the pause nobody knows who is late, so what is issued then replaces nothing of others.
    let mut two = Two::new();
    two.other
        .issued(start(), &holder("a"), &id("a"), first, start() + LIFE);
    two.leader.request(two.now).unwrap();
    two.step();
    two.leader
        .issued(two.now, &holder("a"), &id("a"), introduced, two.now + LIFE);
    two.now += SHARED.pause + SETTLE;
    two.share();
    assert_eq!(two.codes(), ["not_acknowledged"]);
}

#[test]
fn two_thousand_nodes_fit_and_more_are_told_of_more_coarsely() {
    let mut other = Rotation::fresh(start(), SHARED);
    let first = generation(&other);
    for node in 0..2_000 {
        let holder = holder(&format!("ip-10-0-{node}.eu-central-1.compute.internal"));
        for pod in 0..30 {
            other.issued(
                start(),
                &holder,
                &id(&format!("account-{pod}")),
                first,
                start() + LIFE,
            );
        }
    }
    let state = other.after(Step::Introduce, start());
    other.reached(state.clone());
    let now = start() + SHARED.pause + SETTLE;
    let report = other.report(now, false);
    let whole = report.to_text(usize::MAX);
    assert!(whole.len() < 900_000, "{}", whole.len());
    let mut lengths = vec![whole.len()];
    for room in [400_000, 100_000] {
        let text = report.to_text(room);
        assert!(text.len() <= room, "{} in {room}", text.len());
        lengths.push(text.len());
        // It holds up no less.
        let mut leader = Rotation::resumed(state.clone(), start(), SHARED);
        leader.vouched_for(start(), Duration::ZERO);
        leader.told(Reports::from([(
            "other".to_owned(),
            Some(Report::from_text(&text).unwrap()),
        )]));
        let blockers = leader.blockers(now);
        assert!(!blockers.is_empty());
        assert!(blockers.iter().all(|blocker| blocker.until() >= start() + LIFE));
        assert!(
            leader
                .blockers(start() + LIFE + Duration::from_secs(20))
                .is_empty()
        );
    }
    println!("bytes: {lengths:?}");
}

#[test]
fn damaged_reports_are_refused() {
    let good = Rotation::fresh(start(), SHARED)
        .report(start(), false)
        .to_text(usize::MAX);
    assert!(Report::from_text(&good).is_ok());
    let with = |holders: &str| good.replace('}', &format!(r#","holders":{{{holders}}}}}"#));
    assert!(Report::from_text(&with(r#""a/b/c":{"acknowledged":true}"#)).is_ok());
    for bad in [
        "",
        "{}",
        "null",
        &good[..good.len() - 2],
        &good.replace("\"made\"", "\"mode\""),
        &good.replace("\"made\":1", "\"made\":111111111111111111"),
        &with(r#""a/b":{"acknowledged":true}"#),
        &with(r#""a/b/c":{"old":"AAAAAAAA"}"#),
        &with(r#""a/b/c":{"old":"AAAAA","old_until":9}"#),
        &with(r#""a/b/c":{"old":"???","old_until":9}"#),
        &with(r#""a/b/c":{"more":true}"#),
        &with(r#""a/b/c":{"old_until":99999999999999999999}"#),
    ] {
        assert!(Report::from_text(bad).is_err(), "{bad}");
    }
}
