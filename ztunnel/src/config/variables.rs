//! Reading variables by kind, and remembering which were asked for.

use super::duration::parse_duration;
use super::error::{ConfigError, invalid};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

/// The process environment, with the proxy metadata of the mesh configuration behind it.
pub(super) struct Variables {
    values: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

impl Variables {
    /// What `environment` does not set is taken from `fallback`.
    pub(super) fn new(environment: BTreeMap<String, String>, fallback: BTreeMap<String, String>) -> Self {
        let mut values = fallback;
        values.extend(environment);
        Self {
            values,
            asked: RefCell::default(),
        }
    }

    /// The value as it is, which may be empty.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.values.get(name).map(String::as_str)
    }

    /// The value, unless it is empty.
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        self.raw(name)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn required(&self, name: &'static str, purpose: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or(ConfigError::Missing {
            variable: name,
            purpose,
        })
    }

    pub(super) fn optional_parsed<T: FromStr>(
        &self,
        name: &str,
        accepted: &str,
    ) -> Result<Option<T>, ConfigError> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) => value
                .parse()
                .map(Some)
                .map_err(|_| invalid(name, &value, accepted)),
        }
    }

    /// A number within bounds.
    pub(super) fn number(
        &self,
        name: &str,
        default: u32,
        bounds: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let Some(value) = self.optional(name) else {
            return Ok(default);
        };
        let number = value.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| {
            let accepted = format!("a number between {} and {}", bounds.start(), bounds.end());
            invalid(name, &value, &accepted)
        })
    }

    pub(super) fn switch(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.optional(name) else {
            return Ok(default);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(invalid(name, &value, "`true` or `false`")),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let Some(value) = self.optional(name) else {
            return Ok(default);
        };
        let found = choices.iter().find(|(word, _)| *word == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            invalid(name, &value, &words.join(" or "))
        })
    }

    pub(super) fn duration(&self, name: &str, default: Duration) -> Result<Duration, ConfigError> {
        match self.optional(name) {
            None => Ok(default),
            Some(value) => parse_duration(&value).map_err(|error| invalid(name, &value, &error.to_string())),
        }
    }

    /// Every variable that begins with `prefix`, by the rest of its name.
    pub(super) fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        self.asked.borrow_mut().insert(format!("{prefix}*"));
        let found = self.values.iter().filter_map(|(name, value)| {
            let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
            Some((rest.to_owned(), value.clone()))
        });
        found.collect()
    }

    /// The names asked for so far; prefixes end in `*`.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }
}
