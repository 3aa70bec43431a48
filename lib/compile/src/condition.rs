//! Status conditions: what a node proxy makes of a policy, for the policy's author.

/// Whether a policy is enforced by node proxies as it is written.
pub(crate) const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// The reason when it is.
pub(crate) const ACCEPTED: &str = "Accepted";
/// The reason when a part of it is not enforced as written.
pub(crate) const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
/// The reason when a stored policy cannot be read, and closes instead.
pub(crate) const INVALID: &str = "Invalid";
/// The reason when another policy of the same level decides.
pub(crate) const CONFLICTED: &str = "Conflicted";

/// Whether what an object's label names as its waypoint is in front of it.
pub(crate) const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// The reason when it is.
pub(crate) const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// The reason when it is not there, or has no address yet.
pub(crate) const WAYPOINT_IS_NOT_READY: &str = "WaypointIsNotReady";
/// The reason when it is for other traffic.
pub(crate) const UNSUPPORTED_TRAFFIC_TYPE: &str = "UnsupportedTrafficType";
/// The reason when its listener does not admit the namespace.
pub(crate) const ATTACHMENT_DENIED: &str = "AttachmentDenied";
/// The reason when only its own namespace sees the object, and the waypoint is in another one.
pub(crate) const CROSS_NAMESPACE_WAYPOINT: &str = "CrossNamespaceWaypointForbidden";
/// The reason when the share of the second waypoint is no share.
pub(crate) const CANARY_INVALID_WEIGHT: &str = "CanaryInvalidWeight";
/// The reason when the second waypoint is the first.
pub(crate) const CANARY_SAME_AS_PRIMARY: &str = "CanarySameAsPrimary";
/// Whether a waypoint stands in front of everything that a policy is attached to.
pub(crate) const TARGETS_BOUND: &str = "ztunnel.dev/TargetsBound";
/// The reason when one does.
pub(crate) const BOUND: &str = "Bound";
/// The reason when a target is not there.
pub(crate) const TARGET_NOT_FOUND: &str = "TargetNotFound";
/// The reason when no waypoint stands in front of a target.
pub(crate) const ANCESTOR_NOT_BOUND: &str = "AncestorNotBound";
/// The reason when waypoints stand in front of some of the targets.
pub(crate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// Whether only those see a ServiceEntry that `exportTo` names.
pub(crate) const VISIBILITY_APPLIED: &str = "istio.io/VisibilityApplied";
/// Whether a ServiceEntry stands for all addresses that its author chose; told only where it does not.
pub(crate) const ADDRESSES_ACCEPTED: &str = "ztunnel.dev/AddressesAccepted";
/// Whether a ServiceEntry speaks for all of its hosts wherever it is seen; told only where it does not.
pub(crate) const HOSTS_ACCEPTED: &str = "ztunnel.dev/HostsAccepted";
/// Whether a ServiceEntry would need a waypoint and has none.
pub(crate) const WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
/// The reason when it stands for a pattern of names that are resolved as they are used.
pub(crate) const PATTERN_NEEDS_WAYPOINT: &str = "NoWaypointForWildcardService";

/// A condition for an object's `status.conditions`. When it last changed is known to whoever writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The type, such as `ZtunnelAccepted`.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one word for programs; `Accepted` when everything is enforced as written.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// The generation of the object that this was made of; 0 where the store does not count them.
    pub observed_generation: i64,
}

impl Condition {
    /// Whether the object means exactly what it says.
    pub fn is_clean(&self) -> bool {
        self.status && matches!(self.reason, ACCEPTED | WAYPOINT_ACCEPTED | BOUND)
    }
}
