use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl Now {
    /// Later by both clocks.
    pub(crate) fn after(self, time: Duration) -> Now {
        Now {
            monotonic: self.monotonic + time,
            wall: self.wall + time,
        }
    }
}

#[tokio::test]
async fn who_stood_still_is_behind_until_it_has_read_everything() {
    let begin = Now::read();
    let standstill = Standstill::default();
    standstill.look(begin);
    standstill.look(begin.after(LIMIT));
    assert!(!standstill.is_behind(begin.after(LIMIT + BEAT)));
    // Before the clocks are looked at, and after.
    let later = begin.after(LIMIT + LIMIT + BEAT);
    assert!(standstill.is_behind(later));
    standstill.look(later);
    assert!(standstill.is_behind(later));
    assert_eq!(standstill.noticed().await, 1);
    let later = later.after(BEAT);
    standstill.look(later);
    assert!(standstill.is_behind(later), "nothing was read yet");
    // What is served was read before it stood still.
    standstill.caught_up(0);
    assert!(standstill.is_behind(later));
    standstill.caught_up(1);
    assert!(!standstill.is_behind(later));
}

/// It may wait for its root, or for the API, before it reads anything.
#[test]
fn who_starts_slowly_has_not_stood_still() {
    let begin = Now::read();
    let standstill = Standstill::default();
    assert!(!standstill.is_behind(begin.after(HOUR)));
    standstill.look(begin.after(HOUR));
    standstill.look(begin.after(HOUR + BEAT));
    assert!(!standstill.is_behind(begin.after(HOUR + BEAT)));
    assert!(standstill.is_behind(begin.after(HOUR + HOUR)));
}

/// The monotonic clock does not count then.
#[tokio::test]
async fn a_machine_that_was_paused_stood_still() {
    let begin = Now::read();
    let standstill = Standstill::default();
    standstill.look(begin);
    let resumed = Now {
        monotonic: begin.monotonic + BEAT,
        wall: begin.wall + HOUR,
    };
    assert!(standstill.is_behind(resumed));
    standstill.look(resumed);
    assert_eq!(standstill.noticed().await, 1);
    standstill.caught_up(1);
    // A wall clock that is set back again is no standstill.
    let set_back = begin.after(BEAT + BEAT);
    standstill.look(set_back);
    assert!(!standstill.is_behind(set_back.after(BEAT)));
}
