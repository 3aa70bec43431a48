//! The objects of manifests. Documents of kinds that bear on no decision here are passed over, and so are files of
//! policy tests in directories. What makes pods stands for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use explain::suite::Suite;
use lab::Manifests;
use objects::{
    Kind, Object, ObjectKey, ParseErrors, UnreadObject, foreign_policy, parse_leniently, pod_maker,
};

use super::Failure;

/// Reads files, directories and `-`. Says on standard error what was passed over although it is meant as policy.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Arc<Object>>, Failure> {
    let mut problems = Vec::new();
    let mut found: BTreeMap<ObjectKey, String> = BTreeMap::new();
    let (mut objects, mut makers) = (Vec::new(), Vec::new());
    for (file, text) in texts(paths)? {
        let reading = parse_leniently(&file, &text);
        if !reading.errors.is_empty() {
            problems.push(ParseErrors(reading.errors).to_string());
        }
        for unread in reading.unread {
            if pod_maker(&unread).is_some() {
                makers.push(unread);
            } else if foreign_policy(&unread.api_version, &unread.kind).is_some() {
                let (kind, namespace, name) = (&unread.kind, &unread.namespace, &unread.name);
                eprintln!(
                    "{file}:{}: {kind} {namespace}/{name}: not taken into account",
                    unread.line
                );
            } else if has_containers(&unread) {
                let (kind, namespace, name) = (&unread.kind, &unread.namespace, &unread.name);
                eprintln!(
                    "{file}:{}: {kind} {namespace}/{name}: its pods are not taken into account, as the kind is not known here",
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
    stand_in(&makers, &mut found, &mut objects, &mut problems);
    if problems.is_empty() {
        Ok(objects)
    } else {
        Err(Failure::Usage(problems.join("\n")))
    }
}

/// Puts a Deployment in for everything else that makes pods, unless what made it is there too and speaks for it. It has
/// the name of the maker, with the kind behind it where a Deployment or another maker has that name.
fn stand_in(
    makers: &[UnreadObject],
    found: &mut BTreeMap<ObjectKey, String>,
    objects: &mut Vec<Arc<Object>>,
    problems: &mut Vec<String>,
) {
    let named: BTreeSet<(&str, &str, &str)> = makers
        .iter()
        .map(|maker| (maker.kind.as_str(), maker.namespace.as_str(), maker.name.as_str()))
        .collect();
    for document in makers {
        let Some(maker) = pod_maker(document) else {
            continue;
        };
        let namespace = &document.namespace;
        let deployment = |name: &str| ObjectKey::new(Kind::Deployment, namespace, name);
        let is_spoken_for = maker.owner().is_some_and(|(kind, name)| match kind {
            "Deployment" => found.contains_key(&deployment(name)),
            kind => named.contains(&(kind, namespace, name)),
        });
        if is_spoken_for {
            continue;
        }
        let place = format!("{}:{}", document.file, document.line);
        let ending = format!("-{}", document.kind.to_ascii_lowercase());
        let mut name = maker.name().to_owned();
        while found.contains_key(&deployment(&name)) {
            name += &ending;
        }
        match maker.as_deployment(&name) {
            Ok(object) => {
                found.insert(object.key(), place);
                objects.push(Arc::new(object));
            }
            Err(errors) => problems.push(format!(
                "{place}: {} {namespace}/{}: {errors}",
                document.kind, document.name
            )),
        }
    }
}

/// Whether a document of another kind looks as if it made pods.
fn has_containers(document: &UnreadObject) -> bool {
    let containers = document.value.pointer("/spec/template/spec/containers");
    containers.is_some_and(serde_json::Value::is_array)
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
