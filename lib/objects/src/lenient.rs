//! Reading for those who judge manifests: what cannot be read does not hide what can.

use std::collections::HashMap;

use serde_json::Value;

use crate::DEFAULT_NAMESPACE;
use crate::document::{self, Data, Tree};
use crate::error::ParseError;
use crate::kind::{Kind, ObjectKey};
use crate::object::Object;
use crate::parse::{self, MAX_ERRORS};

/// Everything that a text holds.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The objects that are good, in the order of the text.
    pub objects: Vec<ReadObject>,
    /// The documents of kinds that are not read here.
    pub unread: Vec<UnreadObject>,
    /// All that is wrong, in the order of the text, up to [`MAX_ERRORS`].
    pub errors: Vec<ParseError>,
}

/// An object, and where it is written.
#[derive(Clone, Debug)]
pub struct ReadObject {
    /// The object.
    pub object: Object,
    /// The name of its text.
    pub file: String,
    tree: Tree,
}

/// A document of a kind that is not read here.
#[derive(Clone, Debug)]
pub struct UnreadObject {
    /// Its `apiVersion`; empty when it has none.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; `default` when it names none.
    pub namespace: String,
    /// Its name; empty when it has none.
    pub name: String,
    /// The name of its text.
    pub file: String,
    /// The line on which it begins, counted from 1.
    pub line: usize,
    /// All of it.
    pub value: Value,
}

/// An object that does not come from text: it has no file, and every line is 0.
impl From<Object> for ReadObject {
    fn from(object: Object) -> ReadObject {
        // Every object was a tree of bounded depth before.
        let tree = Tree::from_value(object.raw()).unwrap_or(Tree {
            line: 0,
            data: Data::Null,
        });
        ReadObject {
            object,
            file: String::new(),
            tree,
        }
    }
}

impl ReadObject {
    /// The line, counted from 1, of the field at a path such as `spec.rules[0].from`, or of the innermost parent that
    /// is written; 0 for an object that does not come from text.
    pub fn line(&self, path: &str) -> usize {
        let mut at = &self.tree;
        for step in steps(path) {
            let next = match (&at.data, step) {
                (Data::Sequence(items), Step::Index(index)) => items.get(index),
                (_, Step::Key(key)) => at.get(key),
                _ => None,
            };
            match next {
                Some(tree) => at = tree,
                None => break,
            }
        }
        at.line
    }
}

/// Reads every document of a manifest on its own: one that is wrong, or of a kind that nobody reads, leaves the others
/// as they are. `file` is the name for messages. What is applied goes through [`crate::parse`] instead, which gives all
/// or nothing.
pub fn parse_leniently(file: &str, text: &str) -> Reading {
    let mut reading = Reading::default();
    let (documents, text_errors) = document::read(text);
    for error in text_errors {
        reading
            .errors
            .push(parse::at(file, error.line, None, error.problem));
    }
    let mut lines: HashMap<ObjectKey, usize> = HashMap::new();
    for tree in parse::flatten(file, &documents, &mut reading.errors) {
        if let Some(unread) = unread(file, tree) {
            reading.unread.push(unread);
            continue;
        }
        match parse::object(file, tree) {
            Ok(object) => {
                if let Some(first) = lines.insert(object.key(), tree.line) {
                    let problem = format!("is defined twice: on line {first} and on line {}", tree.line);
                    let name = Some(object.key().to_string());
                    reading.errors.push(parse::at(file, tree.line, name, problem));
                    continue;
                }
                reading.objects.push(ReadObject {
                    object,
                    file: file.to_owned(),
                    tree: tree.clone(),
                });
            }
            Err(errors) => reading.errors.extend(errors),
        }
    }
    reading.errors.sort_by_key(|error| error.line);
    reading.errors.truncate(MAX_ERRORS);
    reading
}

/// The document, when its kind is well-formed and none of ours.
fn unread(file: &str, tree: &Tree) -> Option<UnreadObject> {
    let kind = tree.get("kind").and_then(Tree::text)?;
    let api_version = tree.get("apiVersion").and_then(Tree::text).unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let ours = Kind::from_manifest(kind).is_some_and(|known| known.group() == group);
    // Without a version nobody can say whose kind it is; the strict reader says what is missing.
    if ours || api_version.is_empty() || kind.is_empty() {
        return None;
    }
    let metadata = tree.get("metadata");
    let text = |name| {
        metadata
            .and_then(|metadata| metadata.get(name))
            .and_then(Tree::text)
    };
    Some(UnreadObject {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: text("namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        name: text("name").unwrap_or_default().to_owned(),
        file: file.to_owned(),
        line: tree.line,
        value: tree.to_value(),
    })
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a path as messages write it: `a.b[0]["c/d"]`.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some(end) = quoted.find("\"]") else { break };
            steps.push(Step::Key(&quoted[..end]));
            rest = &quoted[end + 2..];
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some(end) = index.find(']') else { break };
            let Ok(number) = index[..end].parse() else { break };
            steps.push(Step::Index(number));
            rest = &index[end + 1..];
        } else {
            let rest_of_key = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest_of_key.find(['.', '[']).unwrap_or(rest_of_key.len());
            if end == 0 {
                break;
            }
            steps.push(Step::Key(&rest_of_key[..end]));
            rest = &rest_of_key[end..];
        }
    }
    steps
}

#[cfg(test)]
mod tests;
