//! Values as YAML text that reads back to the same values, here and in readers of YAML 1.1 and 1.2.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::scalar::{self, Scalar};

/// A document. Fields that say what the document is come first.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        _ => {
            scalar(&mut out, value);
            out.push('\n');
        }
    }
    out
}

/// Writes a mapping; with `inline`, the first key goes on the line that is already begun.
fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize, inline: bool) {
    const FIRST: [&str; 5] = ["apiVersion", "kind", "metadata", "name", "namespace"];
    let rank = |key: &str| {
        FIRST
            .iter()
            .position(|first| *first == key)
            .unwrap_or(FIRST.len())
    };
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| rank(key));
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 || !inline {
            spaces(out, indent);
        }
        // YAML limits a key that stands before its colon to 1024 characters; a longer one is marked.
        const LONGEST_KEY: usize = 160;
        if key.len() > LONGEST_KEY {
            out.push_str("? ");
            text(out, key);
            out.push('\n');
            spaces(out, indent);
        } else {
            text(out, key);
        }
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(out, map, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, indent);
            }
            _ => {
                out.push(' ');
                scalar(out, value);
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        spaces(out, indent);
        out.push('-');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push(' ');
                mapping(out, map, indent + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, indent + 2);
            }
            _ => {
                out.push(' ');
                scalar(out, item);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(string) => text(out, string),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        // null, true, false and numbers are spelled as in JSON.
        other => _ = write!(out, "{other}"),
    }
}

/// A string, without quotes where nobody can take it for something else.
fn text(out: &mut String, string: &str) {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    let begins = string
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    if begins && string.bytes().all(inner) && scalar::resolve(string) == Scalar::Text {
        out.push_str(string);
        return;
    }
    out.push('"');
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Not printable in YAML, or a line break in one of its versions.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => escape(out, character),
            other if other.is_control() => escape(out, other),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, character: char) {
    // Everything that comes here lies in the basic plane. Writing to a string cannot fail.
    _ = write!(out, "\\u{:04x}", u32::from(character));
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

#[cfg(test)]
mod tests;
