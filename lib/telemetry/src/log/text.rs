//! Values as text that cannot be taken for anything else: no value ends its line, its quotes or its field, and none
//! moves a terminal's cursor.

use std::fmt::{self, Write};

/// The longest value in bytes as it is written. Longer ones are cut.
pub(crate) const MAX_VALUE: usize = 4096;

/// Writes `value` between double quotes, escaped as in JSON.
pub(crate) fn quoted(out: &mut String, value: &str) {
    out.push('"');
    escaped(out, value, true);
    out.push('"');
}

/// Writes `value` without quotes around it, on one line.
pub(crate) fn one_line(out: &mut String, value: &str) {
    escaped(out, value, false);
}

/// Writes a value of which it is not known whether it is already quoted: as it is when nothing can be mistaken,
/// else quoted.
pub(crate) fn plain_or_quoted(out: &mut String, value: &str) {
    if value.len() <= MAX_VALUE && (is_plain(value) || is_quoted(value)) {
        out.push_str(value);
    } else {
        quoted(out, value);
    }
}

fn escaped(out: &mut String, value: &str, in_quotes: bool) {
    let limit = out.len() + MAX_VALUE;
    for character in value.chars() {
        if out.len() >= limit {
            out.push('…');
            return;
        }
        match character {
            '"' if in_quotes => out.push_str("\\\""),
            '\\' if in_quotes => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hidden if is_hidden(hidden) => escape_hidden(out, hidden),
            visible => out.push(visible),
        }
    }
}

fn escape_hidden(out: &mut String, hidden: char) {
    let mut units = [0; 2];
    for unit in hidden.encode_utf16(&mut units) {
        // Writing into a string cannot fail.
        let _: fmt::Result = write!(out, "\\u{unit:04x}");
    }
}

/// Whether a character is not seen, or changes how others are shown.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && !value
            .chars()
            .any(|c| c.is_whitespace() || c == '"' || c == '\\' || c == '=' || is_hidden(c))
}

/// Whether `value` is one quoted string from its first to its last character.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return false,
            // The escaped character; a backslash at the very end would escape the closing quote.
            '\\' => match characters.next() {
                Some(next) if !is_hidden(next) => {}
                _ => return false,
            },
            hidden if is_hidden(hidden) => return false,
            _ => {}
        }
    }
    true
}
