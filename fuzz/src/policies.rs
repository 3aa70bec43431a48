//! The mesh's answers against a naive reading of the rules, on objects made of the bytes.

#[path = "../../lib/explain/tests/support/mod.rs"]
mod support;

/// Makes a mesh and connections of the bytes. Accepted are those where somebody is let in and somebody refused.
pub(crate) fn rules(input: &[u8]) -> bool {
    support::check_bytes(input)
}
