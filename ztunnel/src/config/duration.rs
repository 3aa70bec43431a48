//! Durations as people write them in manifests.

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("expected a duration such as `10s`, `5m`, `24h`, `250ms` or `1h30m`")]
pub struct DurationError;

/// Reads `250ms`, `10s`, `5m`, `24h`, `2d`, or several of these in a row; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError)?;
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError)?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let milliseconds: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(DurationError),
        };
        rest = &rest[letters..];
        let part = number
            .checked_mul(milliseconds)
            .map(Duration::from_millis)
            .ok_or(DurationError)?;
        total = total.checked_add(part).ok_or(DurationError)?;
    }
    if text.is_empty() {
        Err(DurationError)
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests;
