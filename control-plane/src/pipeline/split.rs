//! Objects that changed together, in the order in which the change is told.

use objects::{Kind, ObjectKey};

use crate::scope::Changes;
use crate::xds::history::MAX_VIEWS;

/// How many policies of one batch are told one by one. With more, the batch is one change: there would be no room for
/// it in the history, and each is compiled by itself.
const MAX_STEPS: usize = MAX_VIEWS / 2;

/// Each policy by itself, and everything that is no policy at once: new and changed policies first, so that a workload
/// is not there before its policy; policies that are gone last, so that what takes their place is there.
pub(super) fn steps(changes: Changes) -> Vec<Changes> {
    let is_policy =
        |key: &ObjectKey| matches!(key.kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication);
    if changes.keys().filter(|key| is_policy(key)).count() > MAX_STEPS {
        return vec![changes];
    }
    let (mut first, mut rest, mut last) = (Vec::new(), Changes::new(), Vec::new());
    for (key, object) in changes {
        match (is_policy(&key), &object) {
            (true, Some(_)) => first.push(Changes::from([(key, object)])),
            (true, None) => last.push(Changes::from([(key, object)])),
            (false, _) => drop(rest.insert(key, object)),
        }
    }
    if !rest.is_empty() {
        first.push(rest);
    }
    first.append(&mut last);
    first
}
