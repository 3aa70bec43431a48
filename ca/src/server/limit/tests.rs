use std::time::{Duration, Instant};

use super::{BURST, Limit, MAX_CALLERS, PER_SECOND};

fn admitted(limit: &mut Limit, key: &str, now: Instant) -> usize {
    (0..5000).filter(|_| limit.admit(key, now)).count()
}

#[test]
fn one_caller_does_not_take_anothers_share() {
    let now = Instant::now();
    let mut limit = Limit::default();
    assert_eq!(admitted(&mut limit, "a", now), BURST as usize);
    assert_eq!(admitted(&mut limit, "b", now), BURST as usize);
    assert_eq!(
        admitted(&mut limit, "a", now + Duration::from_secs(2)),
        2 * PER_SECOND as usize
    );
    // Whoever goes on asking is served at the rate all the same.
    let mut served = 0;
    for tick in 1..=1000 {
        let later = now + Duration::from_secs(2) + Duration::from_millis(tick * 10);
        served += usize::from(limit.admit("a", later)) + usize::from(limit.admit("a", later));
    }
    assert!((990..=1001).contains(&served), "{served}");
    assert_eq!(
        admitted(&mut limit, "a", now + Duration::from_secs(3600)),
        BURST as usize
    );
}

#[test]
fn callers_that_are_done_make_room() {
    let now = Instant::now();
    let mut limit = Limit::default();
    for caller in 0..MAX_CALLERS {
        assert!(limit.admit(&caller.to_string(), now));
    }
    assert!(!limit.admit("one more", now));
    assert!(limit.admit("0", now), "those that are known are served");
    assert!(limit.admit("one more", now + Duration::from_secs(1)));
    assert!(limit.callers.len() < 10);
}
