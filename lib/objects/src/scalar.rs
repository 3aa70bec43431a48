//! What a plain YAML scalar means.
//!
//! Kubernetes reads YAML 1.1, where `yes`, `on` and `0123` are not text. A manifest must mean the same here, so the
//! same rules hold; a value that Kubernetes would read as a boolean or number is never taken for a string.

/// A resolved scalar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text,
}

/// Resolves a scalar written without quotes and without a tag.
pub(crate) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Boolean(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Boolean(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if let Some(integer) = integer(text) {
        return Scalar::Integer(integer);
    }
    match float(text) {
        Some(float) => Scalar::Float(float),
        None => Scalar::Text,
    }
}

/// Integers of YAML 1.1: decimal, `0x`, `0b`, and octal with `0` or `0o` in front; `_` between digits.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let plain = digits.replace('_', "");
    let (radix, plain) = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &plain[2..]),
        [b'0', b'b' | b'B', ..] => (2, &plain[2..]),
        [b'0', b'o' | b'O', ..] => (8, &plain[2..]),
        [b'0', _, ..] => (8, &plain[1..]),
        _ => (10, plain.as_str()),
    };
    // The sign was taken off above; a second one is text.
    if !plain.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    let value = i128::from_str_radix(plain, radix).ok()?;
    // Beyond 64 bits a number is a float, as in JSON readers everywhere.
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&value)
        .then_some(value)
}

fn float(text: &str) -> Option<f64> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = body
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let begins = body
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    let has_digit = body.bytes().any(|byte| byte.is_ascii_digit());
    if numeric && begins && has_digit {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
