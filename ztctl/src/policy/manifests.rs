//! The objects of manifests. Documents of kinds that bear on no decision here are passed over, and so are files of
//! policy tests in directories.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use explain::suite::Suite;
use lab::Manifests;
use objects::{Object, ObjectKey, ParseErrors, foreign_policy, parse_leniently};

use super::Failure;

/// Reads files, directories and `-`. Says on standard error what was passed over although it is meant as policy.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Arc<Object>>, Failure> {
    let mut problems = Vec::new();
    let mut found: BTreeMap<ObjectKey, String> = BTreeMap::new();
    let mut objects = Vec::new();
    for (file, text) in texts(paths)? {
        let reading = parse_leniently(&file, &text);
        if !reading.errors.is_empty() {
            problems.push(ParseErrors(reading.errors).to_string());
        }
        for unread in reading.unread {
            if foreign_policy(&unread.api_version, &unread.kind).is_some() {
                let (kind, namespace, name) = (&unread.kind, &unread.namespace, &unread.name);
                eprintln!(
                    "{file}:{}: {kind} {namespace}/{name}: not taken into account",
                    unread.line
                );
            }
        }
        for read in reading.objects {
            let (key, line) = (read.object.key(), read.line("metadata.name"));
            let place = format!("{file}:{line}");
            if let Some(first) = found.insert(key.clone(), place.clone()) {
                problems.push(format!(
                    "{place}: {key}: metadata.name: the same object is defined at {first}"
                ));
            }
            objects.push(Arc::new(read.object));
        }
    }
    if problems.is_empty() {
        Ok(objects)
    } else {
        Err(Failure::Usage(problems.join("\n")))
    }
}

/// The texts of manifests, each with its name for messages.
pub(crate) fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let mut texts = Manifests::texts(paths)?;
    let is_suite = |(_, text): &(String, String)| Suite::is_meant(text);
    let is_named = |file: &str| paths.iter().any(|path| path.display().to_string() == file);
    if let Some((file, _)) = texts.iter().find(|one| is_suite(one) && is_named(&one.0)) {
        return Err(Failure::Usage(format!(
            "{file}: these are policy tests, not manifests: run them by `ztctl policy test {file}`"
        )));
    }
    texts.retain(|one| !is_suite(one));
    Ok(texts)
}
