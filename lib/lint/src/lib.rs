//! The linter: objects in, findings out. It says what a policy will not do though its author means it to: what nobody
//! enforces, what can never match, what locks out more than it says.
//!
//! Where it compares rules, it is never wrong about "covers" and "can never match", and may miss some.
//!
//! What this crate deliberately is not: it does no I/O, it refuses nothing (`objects` does), and it decides about no
//! connection (`mesh` does).

mod authorization;
mod code;
mod finding;
mod input;
mod labels;
mod lockout;
mod modes;
mod network;
mod overlap;
mod peer_authentication;
mod principals;
mod scope;
mod selectors;
mod terms;
mod unread;
mod waypoints;
mod world;

pub use code::{Code, Severity};
pub use finding::Finding;
pub use input::{Input, Settings};

use world::World;

/// Everything that is to be said about these manifests: the worst first, then by object, field and code. The order and
/// the text depend on nothing but the objects.
pub fn lint(input: &Input, settings: &Settings) -> Vec<Finding> {
    let world = World::new(input, settings);
    let mut found = Vec::new();
    unread::check(&world, &mut found);
    labels::check(&world, &mut found);
    selectors::check(&world, &mut found);
    authorization::check(&world, &mut found);
    waypoints::check(&world, &mut found);
    principals::check(&world, &mut found);
    overlap::check(&world, &mut found);
    peer_authentication::check(&world, &mut found);
    lockout::check(&world, &mut found);
    network::check(&world, &mut found);
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
