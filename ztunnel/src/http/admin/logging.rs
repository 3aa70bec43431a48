//! `/logging`: what is logged, and changing it.

use super::super::{Body, text};
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use telemetry::FilterHandle;

/// Longest filter, in bytes.
const MAX_FILTER: usize = 4096;

const USAGE: &str = "\
GET  /logging                            the filter in force
POST /logging?level=debug                change the level of everything
POST /logging?level=access:off,dns:debug change the level of parts
POST /logging?reset                      back to the filter of the start
POST /logging?reset&level=...            back, and then change
levels: error, warn, info, debug, trace, off
";

pub(super) fn answer(log: &FilterHandle, method: &Method, query: &str) -> Response<Body> {
    let change = match Change::from_query(query) {
        Ok(change) => change,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, format!("{wrong}\n{USAGE}")),
    };
    if change == Change::default() {
        return text(
            StatusCode::OK,
            format!("current log filter: {}\n{USAGE}", log.current()),
        );
    }
    if method != Method::POST {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("only POST changes the filter\n{USAGE}"),
        );
    }
    if let Some(wrong) = change.not_understood() {
        return text(
            StatusCode::BAD_REQUEST,
            format!("{wrong:?} is no level, nor a part and a level\n{USAGE}"),
        );
    }
    let base = if change.reset {
        log.initial().to_owned()
    } else {
        log.current()
    };
    let filter = change.applied_to(&base);
    if filter.len() > MAX_FILTER {
        return text(
            StatusCode::BAD_REQUEST,
            format!("the filter would be longer than {MAX_FILTER} bytes; begin anew with reset\n"),
        );
    }
    match log.set(&filter) {
        Ok(()) => text(StatusCode::OK, format!("new log filter: {filter}\n")),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    reset: bool,
    level: Option<String>,
}

impl Change {
    /// Reads `level=...&reset`.
    pub(crate) fn from_query(query: &str) -> Result<Self, String> {
        let mut change = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| format!("the value of {name} is not UTF-8"))?;
            match name {
                "reset" => change.reset = true,
                "level" if !value.is_empty() => change.level = Some(value.into_owned()),
                "level" => {}
                other => return Err(format!("unknown parameter {other:?}")),
            }
        }
        Ok(change)
    }

    /// The first directive that is neither a level nor ends with one: filters take such a word for the name of a part.
    fn not_understood(&self) -> Option<String> {
        let level = self.level.as_deref()?;
        level.split(',').map(|one| normal(one.trim())).find(|directive| {
            let level = directive.rsplit('=').next().unwrap_or_default();
            level.parse::<tracing::level_filters::LevelFilter>().is_err()
        })
    }

    /// `filter` with this change: what it names takes the place of what was said of the same part. A level alone is
    /// for everything, so nothing that was said of parts before outlives it.
    pub(crate) fn applied_to(&self, filter: &str) -> String {
        let Some(level) = &self.level else {
            return filter.to_owned();
        };
        // `:` between part and level is how Istio's node proxy has it; the path of a part has two of them.
        let given: Vec<String> = level.split(',').map(|one| normal(one.trim())).collect();
        if given.iter().any(|directive| !directive.contains('=')) {
            return given.join(",");
        }
        let scope = |directive: &str| directive.split_once('=').map(|(scope, _)| scope.to_owned());
        let mut kept: Vec<String> = filter
            .split(',')
            .map(|one| one.trim().to_owned())
            .filter(|one| {
                scope(one).is_none_or(|old| !given.iter().any(|new| scope(new) == Some(old.clone())))
            })
            .collect();
        kept.extend(given);
        kept.join(",")
    }
}

/// `part:level` as `part=level`.
fn normal(directive: &str) -> String {
    match directive.rsplit_once(':') {
        Some((part, level)) if !directive.contains('=') && !part.ends_with(':') => format!("{part}={level}"),
        _ => directive.to_owned(),
    }
}
