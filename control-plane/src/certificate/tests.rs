use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn it_is_renewed_at_half_its_life_and_when_the_clock_is_set_back() {
    let made = SystemTime::UNIX_EPOCH + 500_000 * HOUR;
    let (from, until) = (made - Duration::from_secs(120), made + LIFE);
    let needed = |now: SystemTime| is_needed(from, until, &Moment::from(now));
    assert!(!needed(made) && !needed(made + LIFE / 2 - HOUR));
    assert!(needed(made + LIFE / 2) && needed(until + HOUR));
    // It would be refused as not valid yet, for as long as the clock was ahead.
    assert!(needed(from - HOUR));
}

#[test]
fn while_the_clock_is_in_doubt_it_is_valid_whichever_time_it_is() {
    let truth = SystemTime::now();
    let root = ca::StoredAuthority::generate(truth - 1000 * HOUR).unwrap();
    let authority = Authority::new(ca::Material::of_stored(&root, truth).unwrap());
    let monotonic = std::time::Instant::now();
    for (ahead, back, is_heard) in [
        (14 * HOUR, Duration::ZERO, false),
        (Duration::ZERO, 14 * HOUR, false),
        (30 * LIFE, Duration::ZERO, true),
        (30 * LIFE, Duration::ZERO, false),
    ] {
        let wall = truth + ahead - back;
        let mut clock = ca::SettledClock::new(HOUR, truth, monotonic);
        if is_heard {
            clock.heard(truth, truth, monotonic);
        }
        let now = clock.look(wall, monotonic);
        assert!(now.is_doubtful);
        let own = issue_at(&authority, &["cp.svc".to_owned()], &now).unwrap();
        let right = if is_heard { truth } else { wall };
        let other = if ahead > LIFE { right } else { truth };
        for time in [right, other] {
            assert!(
                own.not_before <= time && time + LIFE <= own.identity.not_after() + Duration::from_secs(1)
            );
        }
        assert!(
            !is_needed(own.not_before, own.identity.not_after(), &now),
            "once is enough"
        );
    }
}
