use std::time::{Duration, SystemTime};

use mesh::Identity;

use super::{IssueLog, IssueRecord, MAX_REFUSALS_PER_SECOND, MAX_REMEMBERED, Observer, Window};
use crate::Caller;

#[test]
fn the_last_certificates_are_remembered_and_no_more() {
    let log = IssueLog::default();
    let caller = Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: "ztunnel-a".to_owned(),
        pod_uid: "uid".to_owned(),
        node: "node-a".to_owned(),
    };
    let count = MAX_REMEMBERED + 10;
    for number in 0..count {
        log.issued(&IssueRecord {
            at: SystemTime::UNIX_EPOCH,
            serial: number.to_string(),
            identity: Identity::new("cluster.local", "demo", "client"),
            caller: caller.clone(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
            signed_with: String::new(),
        });
    }
    assert_eq!(log.counts(), (count as u64, 0));
    let recent = log.recent(usize::MAX);
    assert_eq!(recent.len(), MAX_REMEMBERED);
    assert_eq!(recent[0].serial, (count - 1).to_string());
    assert_eq!(recent[MAX_REMEMBERED - 1].serial, "10");
    assert_eq!(log.recent(3).len(), 3);
}

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
