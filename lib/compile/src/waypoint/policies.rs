//! Which policies count on a waypoint to be enforced.

use objects::{Action, Kind, Object, Spec, TargetRef, WAYPOINT_CLASS};

use super::attach::Obstacle;
use super::{Asks, Named};
use crate::authorization_policy;
use crate::index::Index;
use crate::settings::Settings;

/// A policy that nobody enforces for who asks while the waypoint cannot be used, as `namespace/name`. One for a whole
/// waypoint counts only where the waypoint would take the traffic if it were ready.
pub(super) fn counting_on(
    index: &Index,
    settings: &Settings,
    named: &Named<'_>,
    asks: &Asks<'_>,
    obstacle: &Obstacle,
) -> Option<String> {
    let metadata = asks.metadata;
    let own = find(index, &metadata.namespace, |target| {
        target.kind == asks.kind.as_str() && target.group == asks.kind.group() && target.name == metadata.name
    });
    let may_be_ready = matches!(obstacle, Obstacle::Missing | Obstacle::NotReady);
    let of_waypoint = || {
        find(index, named.namespace, |target| {
            is_of_gateway_api(target, Kind::Gateway) && target.name == named.name
        })
    };
    let of_class = || {
        find(index, &settings.root_namespace, |target| {
            is_of_gateway_api(target, Kind::GatewayClass) && target.name == WAYPOINT_CLASS
        })
    };
    own.or_else(|| may_be_ready.then(of_waypoint)?)
        .or_else(|| may_be_ready.then(of_class)?)
}

/// Whether a policy may refuse somebody: who only watches needs nobody refused.
pub(super) fn refuses(object: &Object) -> bool {
    let watches = matches!(&object.spec, Spec::AuthorizationPolicy(policy) if policy.action == Action::Audit);
    !watches && !authorization_policy::is_dry_run(object)
}

fn is_of_gateway_api(target: &TargetRef, kind: Kind) -> bool {
    target.kind == kind.as_str() && target.group == kind.group()
}

fn find(index: &Index, namespace: &str, is_meant: impl Fn(&TargetRef) -> bool) -> Option<String> {
    // What is attached to a target has no selector.
    let mut policies = index.without_selector(Kind::AuthorizationPolicy, namespace);
    let is_meant = |object: &&Object| {
        let Spec::AuthorizationPolicy(policy) = &object.spec else {
            return false;
        };
        refuses(object) && policy.target_refs.iter().any(&is_meant)
    };
    policies.find(is_meant).map(authorization_policy::key)
}
