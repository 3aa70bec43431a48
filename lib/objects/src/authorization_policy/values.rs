//! Single values, and the names of the attributes that only HTTP has.

use super::matches::list;
use crate::read::Fields;
use crate::syntax::{self, IpBlock};

/// The names of those HTTP attributes that are given.
pub(super) fn http(fields: &mut Fields<'_>, names: &[&'static str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        let (good, unreadable) = list(fields, name, |item| item.checked(some_text).map(drop));
        if !good.is_empty() || !unreadable.is_empty() {
            found.push(*name);
        }
    }
    found
}

pub(super) fn some_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty and would match nothing".to_owned())
    } else {
        Ok(())
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = text
        .parse::<u16>()
        .ok()
        .filter(|port| *port > 0 && port.to_string() == text);
    number.ok_or_else(|| "is no port: it must be a number between 1 and 65535, in quotes".to_owned())
}

pub(super) fn block(text: &str) -> Result<IpBlock, String> {
    syntax::ip_block(text)
}

/// A value that may have one `*` at its beginning or end.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    some_text(text)?;
    let inner = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(rest), _) => rest,
        (None, Some(rest)) => rest,
        (None, None) => text,
    };
    if inner.contains('*') {
        return Err(
            "has a '*' that would be taken literally: one may stand at the beginning or at the end"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}
