use super::*;

fn failure(sort: Sort) -> Failure {
    Failure::new(sort, "words")
}

/// A machine that has listed everything up to version 7 and watches.
fn watching(now: Instant) -> Machine {
    let mut machine = Machine::new();
    assert_eq!(
        machine.step(now, 0),
        Step::List {
            token: None,
            limit: PAGE
        }
    );
    assert!(machine.listed("7".to_owned(), None));
    assert_eq!(
        machine.step(now, 59),
        Step::Watch {
            version: "7".to_owned(),
            seconds: 299
        }
    );
    machine
}

/// What it does after its pause, with a server that has gone on since.
fn after_the_pause(machine: &mut Machine, now: Instant) -> Step {
    let until = match machine.step(now, 0) {
        Step::Wait(until) => until,
        _ => now,
    };
    match machine.step(until, 0) {
        Step::Check => {
            machine.checked("1000");
            machine.step(until, 0)
        }
        step => step,
    }
}

fn version(step: Step) -> Option<String> {
    match step {
        Step::Watch { version, .. } => Some(version),
        Step::List { token: None, .. } => None,
        step => panic!("{step:?}"),
    }
}

#[test]
fn pages_are_asked_for_in_turn() {
    let now = Instant::now();
    let mut machine = Machine::new();
    assert!(!machine.listed("7".to_owned(), Some("more".to_owned())));
    assert_eq!(
        machine.step(now, 0),
        Step::List {
            token: Some("more".to_owned()),
            limit: PAGE
        }
    );
    // The list has expired in the middle: everything again, in larger pages.
    machine.failed(&failure(Sort::Expired), now, 0);
    assert_eq!(
        after_the_pause(&mut machine, now),
        Step::List {
            token: None,
            limit: PAGE * 4
        }
    );
    for _ in 0..9 {
        machine.listed("7".to_owned(), Some("more".to_owned()));
        machine.failed(&failure(Sort::Expired), now, 0);
    }
    assert!(
        matches!(after_the_pause(&mut machine, now + LAST_PAUSE), Step::List { limit, .. } if limit == MAX_PAGE)
    );
    assert!(machine.listed("8".to_owned(), None));
    machine.list_anew();
    assert!(matches!(machine.step(now + LAST_PAUSE, 0), Step::List { limit, .. } if limit == PAGE));
}

#[test]
fn each_failure_of_a_watch_has_its_answer() {
    let now = Instant::now();
    let cases = [
        (Sort::Expired, None),
        (Sort::Absent, None),
        (Sort::Unreadable, None),
        (Sort::Error, Some("7")),
        (Sort::Refused, Some("7")),
        (Sort::Busy, Some("7")),
        (Sort::Unreachable, Some("7")),
    ];
    for (sort, expected) in cases {
        let mut machine = watching(now);
        machine.failed(&failure(sort), now, 0);
        assert!(matches!(machine.step(now, 0), Step::Wait(_)), "{sort:?}");
        assert_eq!(
            version(after_the_pause(&mut machine, now)).as_deref(),
            expected,
            "{sort:?}"
        );
    }
}

#[test]
fn errors_that_stay_make_it_list() {
    let now = Instant::now();
    let mut machine = watching(now);
    for _ in 1..RELIST_AFTER {
        machine.failed(&failure(Sort::Error), now, 0);
        assert!(version(after_the_pause(&mut machine, now)).is_some());
    }
    machine.failed(&failure(Sort::Error), now, 0);
    assert!(version(after_the_pause(&mut machine, now)).is_none());
}

/// As API servers answer that have too much to do, or are not ready yet; a list would be the more to do.
#[test]
fn a_server_that_is_busy_is_not_asked_for_everything() {
    for code in [429, 503, 504] {
        let busy = kube::core::Status::failure("later", "words").with_code(code);
        let busy = Failure::of_status(&busy);
        let mut now = Instant::now();
        let mut machine = watching(now);
        for tries in 0..10 {
            machine.failed(&busy, now, tries);
            let Step::Wait(until) = machine.step(now, 0) else {
                panic!("no pause")
            };
            now = until;
            let again = after_the_pause(&mut machine, now);
            assert_eq!(version(again).as_deref(), Some("7"), "{code}");
        }
    }
    // Nor for the pages that it has given.
    let now = Instant::now();
    let mut machine = Machine::new();
    machine.listed("7".to_owned(), Some("more".to_owned()));
    machine.failed(&failure(Sort::Busy), now, 0);
    let token = Some("more".to_owned());
    let again = Step::List { token, limit: PAGE };
    assert_eq!(after_the_pause(&mut machine, now), again);
    machine.failed(&failure(Sort::Unreachable), now, 0);
    assert_eq!(version(after_the_pause(&mut machine, now)), None);
}

#[test]
fn a_server_that_is_away_for_an_hour_is_asked_where_the_watch_stopped() {
    let begin = Instant::now();
    let mut now = begin;
    let mut machine = watching(now);
    machine.told("9");
    let mut tries = 0;
    while now - begin < Duration::from_secs(3600) {
        machine.failed(&failure(Sort::Unreachable), now, tries);
        let Step::Wait(until) = machine.step(now, 0) else {
            panic!("no pause")
        };
        assert!(until - now >= FIRST_PAUSE / 2 && until - now <= LAST_PAUSE);
        now = until;
        tries += 1;
        assert_eq!(machine.step(now, 0), Step::Check);
    }
    assert!((120..300).contains(&tries), "{tries} tries in an hour");
    machine.checked("9");
    assert_eq!(version(machine.step(now, 0)).as_deref(), Some("9"));
}

#[test]
fn a_server_that_is_behind_has_another_history() {
    let now = Instant::now();
    let mut machine = watching(now);
    machine.failed(&failure(Sort::Unreachable), now, 0);
    assert_eq!(machine.step(now + LAST_PAUSE, 0), Step::Check);
    machine.checked("6");
    assert!(version(machine.step(now + LAST_PAUSE, 0)).is_none());
    // A bookmark may tell it as well.
    let mut machine = watching(now);
    assert!(machine.marked("7") && machine.marked("9"));
    assert!(!machine.marked("8"));
    // An event that is told again is none of that, and nothing is gone back to.
    machine.told("8");
    let later = now + Duration::from_secs(299);
    machine.ended(later);
    assert_eq!(version(machine.step(later, 0)).as_deref(), Some("9"));
    // Versions that are no numbers are not compared.
    assert!(machine.marked("abc") && machine.marked("8"));
}

#[test]
fn pauses_grow_and_are_left_to_chance() {
    assert_eq!(pause(1, 0), FIRST_PAUSE / 2);
    assert_eq!(pause(1, 250), FIRST_PAUSE);
    assert_eq!(pause(3, 0), FIRST_PAUSE * 2);
    for failures in [7, 20, u32::MAX] {
        assert_eq!(pause(failures, 0), LAST_PAUSE / 2);
        assert!(pause(failures, u64::MAX) <= LAST_PAUSE);
    }
    let now = Instant::now();
    let mut machine = watching(now);
    let mut busy = failure(Sort::Error);
    busy.retry_after = Duration::from_secs(20);
    machine.failed(&busy, now, 0);
    assert_eq!(machine.step(now, 0), Step::Wait(now + Duration::from_secs(20)));
    busy.retry_after = Duration::from_secs(1_000_000);
    machine.failed(&busy, now, 0);
    assert_eq!(machine.step(now, 0), Step::Wait(now + MAX_RETRY_AFTER));
}

#[test]
fn watches_that_are_cut_at_once_are_not_begun_without_pause() {
    let now = Instant::now();
    let mut machine = watching(now);
    machine.ended(now);
    assert_eq!(machine.step(now, 0), Step::Wait(now + WATCH_INTERVAL));
    // It was cut early: perhaps by a restart.
    assert_eq!(machine.step(now + WATCH_INTERVAL, 0), Step::Check);
    // After its whole life there is nothing to wait for.
    let later = now + Duration::from_secs(299);
    let mut machine = watching(now);
    machine.ended(later);
    assert_eq!(version(machine.step(later, 0)).as_deref(), Some("7"));
}

#[test]
fn a_sign_that_the_kind_is_there_ends_the_pause() {
    let now = Instant::now();
    let mut machine = Machine::new();
    for _ in 0..9 {
        machine.failed(&failure(Sort::Absent), now, 0);
    }
    assert_eq!(machine.step(now, 0), Step::Wait(now + LAST_PAUSE / 2));
    machine.wake();
    assert!(matches!(machine.step(now, 0), Step::List { .. }));
    machine.failed(&failure(Sort::Absent), now, 0);
    assert_eq!(machine.step(now, 0), Step::Wait(now + FIRST_PAUSE));
}
