//! The program itself, in a network namespace of the test's own: probes, admin pages, and agents that misbehave.

#![allow(clippy::unwrap_used)]

mod admin;
mod agent;
mod health;
mod hostile_agent;
mod running;
