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
        self.status && self.reason == ACCEPTED
    }
}
