//! Seeds, and choices by a random generator.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::generator::Entropy;

/// A random generator as a source of choices.
pub(crate) struct Random(pub(crate) StdRng);

impl Random {
    /// The generator of the seed that the environment names, else of the usual one; prints how to repeat the run.
    pub(crate) fn of_environment() -> Random {
        let seed = number("EXPLAIN_SEED", 20_261_127);
        println!("EXPLAIN_SEED={seed} repeats this run");
        Random(StdRng::seed_from_u64(seed))
    }
}

impl Entropy for Random {
    fn below(&mut self, most: usize) -> usize {
        self.0.random_range(0..most)
    }
}

/// How many rounds the environment asks for, else the usual number.
pub(crate) fn rounds(usual: usize) -> usize {
    usize::try_from(number("EXPLAIN_ROUNDS", usual as u64)).unwrap_or(usual)
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
