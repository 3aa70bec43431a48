use std::time::{Duration, SystemTime};

use super::{MAX_REFUSALS_PER_SECOND, Window};

#[test]
fn refusals_cannot_fill_the_log() {
    let mut window = Window::default();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let admitted = (0..500).filter(|_| window.admit(start).is_some()).count();
    assert_eq!(admitted, MAX_REFUSALS_PER_SECOND as usize);
    let later = start + Duration::from_secs(1);
    assert_eq!(
        window.admit(later),
        Some(500 - u64::from(MAX_REFUSALS_PER_SECOND))
    );
    assert_eq!(window.admit(later), Some(0));
    // The clock is set back: that must not silence the log until it has caught up.
    for _ in 0..500 {
        window.admit(later);
    }
    assert!(window.admit(start - Duration::from_secs(500)).is_some());
}
