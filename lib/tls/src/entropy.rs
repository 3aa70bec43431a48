//! Chance as an argument.

/// Entropy as a number from 0 up to, not including, 1.
pub(crate) fn fraction(entropy: u64) -> f64 {
    // The upper 53 bits are what a double holds exactly.
    (entropy >> 11) as f64 / (1_u64 << 53) as f64
}
