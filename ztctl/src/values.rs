//! Values that people type.

use std::time::Duration;

/// `5s`, `100ms`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let wrong = || format!("`{text}` is no time: write 100ms, 5s or 2m");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let (_, milliseconds) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * f64::from(*milliseconds) / 1_000.0).map_err(|_| wrong())
}

/// `1000`, `64KiB`, `1GiB`, `5MB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes: write 1000, 64KiB or 1GiB");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// `500kbit`, `100mbit`, `1gbit`, as bits per second.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no rate: write 500kbit, 100mbit or 1gbit");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bits = number.checked_mul(factor).ok_or_else(wrong)?;
    if bits == 0 {
        return Err(format!(
            "`{text}` lets nothing through: to cut the wire, use --partition"
        ));
    }
    Ok(bits)
}

/// `5%` or `0.05`, as a part of one.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let (number, whole) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |number| (number, 100.0));
    let part = number
        .parse::<f64>()
        .ok()
        .map(|number| number / whole)
        .filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("`{text}` is no part of all packets: write 5%"))
}

/// `NAME=VALUE`; the value may hold further `=`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

/// `KEY=VALUE`, or `KEY-` to remove.
pub(crate) fn label(text: &str) -> Result<(String, Option<String>), String> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), Some(value.to_owned())));
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err(format!(
            "`{text}` is no change of a label: write KEY=VALUE, or KEY- to remove it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_and_parts() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "5", "-1s", "5 s", "1e400s", "5d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("7"), Ok(7));
        for wrong in ["", "GiB", "1X", "99999999999999999999", "20000000000GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate("100mbit"), Ok(100_000_000));
        assert_eq!(rate("64kbit"), Ok(64_000));
        assert_eq!(rate("1Gbit"), Ok(1_000_000_000));
        for wrong in ["", "mbit", "5", "0mbit", "-1mbit", "10mbps", "99999999999gbit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent("0.5"), Ok(0.5));
        assert!(percent("101%").is_err() && percent("x").is_err() && percent("NaN").is_err());
    }

    #[test]
    fn labels_and_assignments() {
        assert_eq!(label("a/b=c"), Ok(("a/b".to_owned(), Some("c".to_owned()))));
        assert_eq!(label("a/b-"), Ok(("a/b".to_owned(), None)));
        assert!(label("a").is_err() && label("-").is_err());
        assert_eq!(
            assignment("node-a=K=V"),
            Ok(("node-a".to_owned(), "K=V".to_owned()))
        );
        assert!(assignment("=x").is_err() && assignment("x").is_err());
    }
}
