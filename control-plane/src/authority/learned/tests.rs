use super::*;

const LIFE: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn roots(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}\n")).collect()
}

#[test]
fn a_root_signs_once_all_have_learned_it_and_stays_as_long_as_it_is_needed() {
    let mut now = SystemTime::UNIX_EPOCH + 1000 * LIFE;
    let mut learned = Learned::new(LIFE, &roots(&["old"]), now);
    now += 10 * LIFE;
    learned.signs("old\n", now);
    learned.trusted(&roots(&["old", "new"]), now);
    assert_eq!(learned.ready("old\n"), Some(now - 10 * LIFE));
    assert_eq!(learned.ready("new\n"), Some(now + LIFE));
    assert_eq!(learned.ready("other\n"), None);
    now += LIFE;
    learned.signs("old\n", now);
    learned.signs("new\n", now);
    // Left out at once, it is kept until what it has signed last is over.
    now += MINUTE;
    learned.signs("new\n", now);
    assert_eq!(learned.missing(&roots(&["new"]), now), "old\n");
    learned.trusted(&roots(&["new"]), now);
    now += LIFE - MINUTE;
    assert_eq!(learned.missing(&roots(&["new"]), now), "");
    learned.trusted(&roots(&["new"]), now);
    assert_eq!(learned.ready("old\n"), None);
    assert_eq!(learned.missing(&roots(&["new"]), now), "");
}

#[test]
fn what_is_learned_outlives_a_process_in_the_middle_of_an_exchange() {
    let mut now = SystemTime::UNIX_EPOCH + 1000 * LIFE;
    let (old, both, new) = (roots(&["old"]), roots(&["old", "new"]), roots(&["new"]));
    let mut learned = Learned::new(LIFE, &old, now);
    now += 2 * LIFE;
    learned.signs("old\n", now);
    learned.trusted(&both, now);
    let ready = now + LIFE;
    // A restart makes a root neither ready earlier nor later.
    now += MINUTE;
    let mut learned = Learned::resumed(LIFE, &both, &learned.to_text(&both), now).unwrap();
    assert_eq!(learned.ready("new\n"), Some(ready));
    assert!(learned.ready("old\n").unwrap() < now);
    // Time alone is no news.
    let text = learned.to_text(&both);
    learned.signs("old\n", now + MINUTE);
    assert_eq!(learned.to_text(&both), text);

    // The old one was left out while no process ran: it may have signed until then.
    now = ready + MINUTE;
    let mut learned = Learned::resumed(LIFE, &new, &text, now).unwrap();
    assert_eq!(learned.missing(&new, now), "old\n");
    learned.trusted(&new, now);
    let until = now + LIFE;
    // From then on it counts down, over any number of restarts.
    for _ in 0..3 {
        now += MINUTE;
        let text = learned.to_text(&new);
        learned = Learned::resumed(LIFE, &new, &text, now).unwrap();
        assert_eq!(learned.missing(&new, until - Duration::from_secs(1)), "old\n");
        assert_eq!(learned.missing(&new, until), "");
    }
    // One that nobody has seen before has to be learned first.
    let learned = Learned::resumed(LIFE, &roots(&["other"]), &text, now).unwrap();
    assert_eq!(learned.ready("other\n"), Some(now + LIFE));
    for damage in ["", "{}", "[{\"certificate\":1}]"] {
        assert!(Learned::resumed(LIFE, &new, damage, now).is_err());
    }
    // A clock that was ahead keeps nothing for longer than a life.
    let far =
        "[{\"certificate\":\"far\\n\",\"ready\":18446744073709551615,\"needed_until\":18446744073709551615}]";
    let learned = Learned::resumed(LIFE, &new, far, now).unwrap();
    assert_eq!(learned.missing(&new, now + LIFE), "");
}

#[test]
fn a_clock_that_is_set_makes_no_root_ready_early_and_none_unneeded() {
    let truth = SystemTime::UNIX_EPOCH + 1000 * LIFE;
    let mut learned = Learned::new(LIFE, &roots(&["old"]), truth - 2 * LIFE);
    let began = std::time::Instant::now();
    let mut clock = ca::SettledClock::new(LIFE, truth, began);
    for wall in [truth + 1000 * LIFE, truth - 900 * LIFE] {
        let now = clock.look(wall, began);
        learned.signs("old\n", now);
        learned.trusted(&roots(&["old", "new"]), now);
        assert!(learned.ready("new\n").unwrap() > now.earliest);
        assert_eq!(learned.missing(&roots(&["new"]), now), "old\n");
        learned.trusted(&roots(&["new"]), now);
    }
    let now = clock.look(truth, began);
    assert_eq!(learned.missing(&roots(&["new"]), now), "old\n");
    // What was written with a clock that was ahead is not waited for longer than a life from when that is known.
    learned.trusted(&roots(&["new"]), truth + LIFE);
    assert_eq!(learned.ready("new\n"), Some(truth + 2 * LIFE));
    assert_eq!(learned.missing(&roots(&["new"]), truth + 2 * LIFE), "");
}

#[test]
fn what_two_replicas_know_comes_together() {
    let now = SystemTime::UNIX_EPOCH + 1000 * LIFE;
    let (old, both, new) = (roots(&["old"]), roots(&["old", "new"]), roots(&["new"]));
    let mut one = Learned::new(LIFE, &old, now - 2 * LIFE);
    one.signs("old\n", now);
    one.trusted(&both, now);
    one.trusted(&new, now);
    // Another that began later, and has never seen the old one.
    let mut other = Learned::new(LIFE, &new, now);
    other.merge(&one.to_text(&new), &new, now).unwrap();
    assert_eq!(other.missing(&new, now), "old\n");
    assert_eq!(other.ready("new\n"), Some(now + LIFE), "the later one counts");
    let text = other.to_text(&new);
    one.merge(&text, &new, now).unwrap();
    assert_eq!(one.to_text(&new), text);
    assert!(other.merge("rubbish", &new, now).is_err());
    assert_eq!(other.to_text(&new), text);
}
