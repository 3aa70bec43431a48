//! Manifests as users write them, and what the lab itself can see to be wrong with them before anything is applied.

mod check;
mod locate;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use objects::{Kind, Object, ObjectKey};

pub(crate) use check::{Place, check};

use crate::error::LabError;

/// The largest manifest that is read.
const MANIFEST_MAX: u64 = 16 * 1024 * 1024;

/// The objects of some manifests, syntactically right and each defined once.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects, in the order of the files.
    pub(crate) objects: Vec<Object>,
    /// Where each is defined: an index into `sources`.
    origin: BTreeMap<ObjectKey, usize>,
    sources: Vec<(String, String)>,
}

impl Manifests {
    /// Reads files, directories (their `.yaml`, `.yml` and `.json` files by name) and `-`, standard input. An error
    /// lists everything that is wrong in all of them.
    pub fn read(paths: &[PathBuf]) -> Result<Manifests, LabError> {
        Manifests::parse(Manifests::texts(paths)?)
    }

    /// The texts of files, directories and `-` as for [`Manifests::read`], each with its name for messages.
    pub fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, LabError> {
        let mut texts = Vec::new();
        for path in paths {
            for file in expand(path)? {
                let text = read_text(&file)?;
                texts.push((file.display().to_string(), text));
            }
        }
        Ok(texts)
    }

    /// Parses texts, each with the name for messages.
    pub fn parse(texts: Vec<(String, String)>) -> Result<Manifests, LabError> {
        let mut manifests = Manifests {
            sources: texts,
            ..Manifests::default()
        };
        let mut problems = Vec::new();
        for (index, (file, text)) in manifests.sources.iter().enumerate() {
            match objects::parse(file, text) {
                Ok(objects) => {
                    for object in objects {
                        let key = object.key();
                        if let Some(first) = manifests.origin.insert(key.clone(), index) {
                            let place = |index: usize| {
                                let (file, text) = &manifests.sources[index];
                                let line = locate::line(text, &key, "metadata.name");
                                format!(
                                    "{file}:{}",
                                    line.map_or_else(String::new, |line| line.to_string())
                                )
                            };
                            problems.push(format!(
                                "{}: {key}: metadata.name: the same object is defined at {}",
                                place(index),
                                place(first)
                            ));
                        }
                        manifests.objects.push(object);
                    }
                }
                Err(errors) => problems.push(errors.to_string()),
            }
        }
        if problems.is_empty() {
            Ok(manifests)
        } else {
            Err(LabError::Usage(problems.join("\n")))
        }
    }

    /// One object that no file defines.
    pub(crate) fn of(object: Object) -> Manifests {
        Manifests {
            origin: BTreeMap::from([(object.key(), 0)]),
            objects: vec![object],
            sources: Vec::new(),
        }
    }

    /// What is accepted but probably not what its author means.
    pub fn warnings(&self) -> Vec<String> {
        self.objects.iter().flat_map(warnings).collect()
    }

    /// Which objects they define.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects.iter().map(Object::key).collect()
    }

    /// The objects as documents.
    pub fn documents(&self) -> Vec<serde_json::Value> {
        self.objects.iter().map(|object| object.raw().clone()).collect()
    }

    /// `file:line: object: field: problem`.
    pub(crate) fn problem(&self, key: &ObjectKey, field: &str, problem: &str) -> String {
        let Some((file, text)) = self.origin.get(key).and_then(|index| self.sources.get(*index)) else {
            return format!("{key}: {field}: {problem}");
        };
        match locate::line(text, key, field) {
            Some(line) => format!("{file}:{line}: {key}: {field}: {problem}"),
            None => format!("{file}: {key}: {field}: {problem}"),
        }
    }
}

fn expand(path: &Path) -> Result<Vec<PathBuf>, LabError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = || format!("reading {}", path.display());
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .map_err(LabError::system(wrong()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(LabError::Usage(format!(
            "{} holds no .yaml, .yml or .json file",
            path.display()
        )));
    }
    Ok(files)
}

/// What a lab accepts of an object and does otherwise than its author means.
pub(crate) fn warnings(object: &Object) -> Vec<String> {
    let mut warnings: Vec<String> = objects::warnings(object)
        .iter()
        .map(ToString::to_string)
        .collect();
    if object.kind() == Kind::NetworkPolicy {
        warnings.push(format!(
            "{}: nothing in a lab enforces it; it is kept for `ztctl policy lint`",
            object.key()
        ));
    }
    warnings
}

fn read_text(path: &Path) -> Result<String, LabError> {
    let unreadable = |error: std::io::Error| LabError::Usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(path).map_err(unreadable)?)
    };
    source
        .take(MANIFEST_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MANIFEST_MAX {
        return Err(LabError::Usage(format!(
            "{}: larger than {MANIFEST_MAX} bytes",
            path.display()
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
