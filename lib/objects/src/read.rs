//! Reading a tree field by field: every value knows its path and line, every problem is recorded and reading goes
//! on, and what nobody asked for is an unknown field.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::document::{Data, Entry, Tree, quoted};
use crate::error::ParseError;

/// Where the problems of one object are recorded.
pub(crate) struct Reader<'a> {
    file: &'a str,
    object: Option<String>,
    /// The object is stored already: what cannot be read is kept as such where that can be done.
    stored: bool,
    errors: RefCell<Vec<ParseError>>,
}

/// A place in the list of problems.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl<'a> Reader<'a> {
    /// `object` names the object in messages, for documents that hold several or come from no file.
    pub(crate) fn new(file: &'a str, object: Option<String>) -> Reader<'a> {
        Reader {
            file,
            object,
            stored: false,
            errors: RefCell::default(),
        }
    }

    /// For an object that is stored already.
    pub(crate) fn stored(file: &'a str, object: Option<String>) -> Reader<'a> {
        Reader {
            stored: true,
            ..Reader::new(file, object)
        }
    }

    pub(crate) fn record(&self, line: usize, field: &str, problem: String) {
        self.errors.borrow_mut().push(ParseError {
            file: self.file.to_owned(),
            line: (line > 0).then_some(line),
            object: self.object.clone(),
            field: field.to_owned(),
            problem,
        });
    }

    pub(crate) fn into_errors(self) -> Vec<ParseError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| error.line);
        errors
    }
}

/// Problems as sentences, the first few.
pub(crate) fn in_words(errors: Vec<ParseError>) -> Vec<String> {
    const MOST: usize = 5;
    let left = errors.len().saturating_sub(MOST);
    let mut words: Vec<String> = errors
        .into_iter()
        .take(MOST)
        .map(|error| match error.field.as_str() {
            "" => error.problem,
            field => format!("{field}: {}", error.problem),
        })
        .collect();
    if left > 0 {
        words.push(format!("and {left} further problems"));
    }
    words
}

/// A value at its path. What is wrong with it is recorded, and then reading gives `None`.
#[derive(Clone)]
pub struct Field<'a> {
    reader: &'a Reader<'a>,
    tree: &'a Tree,
    path: String,
}

impl<'a> Field<'a> {
    pub(crate) fn root(reader: &'a Reader<'a>, tree: &'a Tree) -> Field<'a> {
        Field {
            reader,
            tree,
            path: String::new(),
        }
    }

    /// Records that something is wrong with this value.
    pub fn error(&self, problem: impl Into<String>) {
        self.reader.record(self.tree.line, &self.path, problem.into());
    }

    /// The line on which the value begins, counted from 1; 0 when it did not come from text.
    pub fn line(&self) -> usize {
        self.tree.line
    }

    pub(crate) fn file(&self) -> &str {
        self.reader.file
    }

    /// Records errors whose paths begin at this value.
    pub(crate) fn record_inside(&self, errors: Vec<ParseError>) {
        let inside = errors.into_iter().map(|error| ParseError {
            field: match (self.path.as_str(), error.field.as_str()) {
                (path, "") => path.to_owned(),
                (path, field) => format!("{path}.{field}"),
            },
            ..error
        });
        self.reader.errors.borrow_mut().extend(inside);
    }

    fn wrong_type(&self, wanted: &str, hint: &str) {
        self.error(format!("is {}, but must be {wanted}{hint}", self.tree.describe()));
    }

    /// Whether the object is stored already.
    pub(crate) fn is_stored(&self) -> bool {
        self.reader.stored
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.reader.errors.borrow().len())
    }

    /// What was recorded since the mark, taken back, when the object is stored already; nothing otherwise.
    pub(crate) fn take_back(&self, mark: Mark) -> Vec<String> {
        if !self.reader.stored {
            return Vec::new();
        }
        let mut errors = self.reader.errors.borrow_mut();
        let from = mark.0.min(errors.len());
        in_words(errors.split_off(from))
    }

    /// The value in words.
    pub(crate) fn in_words(&self) -> String {
        self.tree
            .text()
            .map_or_else(|| self.tree.describe().to_string(), quoted)
    }

    pub(crate) fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// A string.
    pub fn text(&self) -> Option<&'a str> {
        match &self.tree.data {
            Data::Text(text) => Some(text),
            Data::Boolean(_) | Data::Integer(_) | Data::Float(_) => {
                self.wrong_type("a string", ": put it in quotes");
                None
            }
            _ => {
                self.wrong_type("a string", "");
                None
            }
        }
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        match &self.tree.data {
            Data::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type("true or false", "");
                None
            }
        }
    }

    /// An integer in a range.
    pub fn integer(&self, lowest: u32, highest: u32) -> Option<u32> {
        match &self.tree.data {
            Data::Integer(value) => {
                let value = u32::try_from(*value)
                    .ok()
                    .filter(|value| (lowest..=highest).contains(value));
                if value.is_none() {
                    self.wrong_type(&format!("a number between {lowest} and {highest}"), "");
                }
                value
            }
            _ => {
                self.wrong_type(&format!("a number between {lowest} and {highest}"), "");
                None
            }
        }
    }

    /// A port between 1 and 65535.
    pub fn port(&self) -> Option<u16> {
        self.integer(1, 65535).and_then(|port| u16::try_from(port).ok())
    }

    /// One of some words; the error lists them.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let meant =
                closest(text, &words).map_or_else(String::new, |word| format!("; did you mean {word}?"));
            self.error(format!(
                "{} is not accepted: use one of {}{meant}",
                quoted(text),
                words.join(", ")
            ));
        }
        found
    }

    /// Text that a rule of syntax accepts.
    pub(crate) fn checked(&self, rule: impl FnOnce(&str) -> Result<(), String>) -> Option<&'a str> {
        let text = self.text()?;
        match rule(text) {
            Ok(()) => Some(text),
            Err(problem) => {
                self.error(format!("{} {problem}", quoted(text)));
                None
            }
        }
    }

    /// Text that becomes a value, or an error that says why not.
    pub fn parsed<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        match read(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error(format!("{} {problem}", quoted(text)));
                None
            }
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Vec<Field<'a>> {
        let Data::Sequence(items) = &self.tree.data else {
            self.wrong_type("a list", "");
            return Vec::new();
        };
        let field = |(index, tree)| Field {
            reader: self.reader,
            tree,
            path: format!("{}[{index}]", self.path),
        };
        items.iter().enumerate().map(field).collect()
    }

    /// The items of a list with a limit on their number.
    pub(crate) fn items_up_to(&self, limit: usize) -> Vec<Field<'a>> {
        let items = self.items();
        if items.len() > limit {
            self.error(format!("has {} items; at most {limit} are accepted", items.len()));
        }
        items
    }

    /// A list of strings.
    pub fn texts(&self) -> Vec<String> {
        self.items()
            .iter()
            .filter_map(|item| item.text().map(str::to_owned))
            .collect()
    }

    /// The fields of a mapping.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let Data::Mapping(entries) = &self.tree.data else {
            self.wrong_type("a mapping", "");
            return None;
        };
        Some(Fields {
            field: self.clone(),
            entries,
            known: Vec::new(),
            found: 0,
        })
    }

    /// Every entry of a mapping with free keys.
    pub fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        let Data::Mapping(entries) = &self.tree.data else {
            self.wrong_type("a mapping", "");
            return Vec::new();
        };
        let entry = |entry: &'a Entry| (entry.key.as_str(), self.child(entry));
        entries.iter().map(entry).collect()
    }

    /// A mapping from string to string; `rule` checks each pair.
    pub fn text_map(&self, rule: impl Fn(&str, &str) -> Result<(), String>) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for (key, field) in self.entries() {
            // Kubernetes reads a missing value as the empty string.
            let value = if matches!(field.tree.data, Data::Null) {
                Some("")
            } else {
                field.text()
            };
            let Some(value) = value else { continue };
            match rule(key, value) {
                Ok(()) => drop(map.insert(key.to_owned(), value.to_owned())),
                Err(problem) => field.error(problem),
            }
        }
        map
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        let key = &entry.key;
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = match (self.path.is_empty(), plain) {
            (true, _) => key.clone(),
            (false, true) => format!("{}.{key}", self.path),
            (false, false) => format!("{}[{key:?}]", self.path),
        };
        Field {
            reader: self.reader,
            tree: &entry.value,
            path,
        }
    }
}

/// The fields of a mapping; [`Fields::finish`] tells the ones that nobody asked for.
pub struct Fields<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    found: usize,
}

impl<'a> Fields<'a> {
    /// The field of this name. A null counts as absent, as in Kubernetes.
    pub fn get(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        if matches!(entry.value.data, Data::Null) {
            return None;
        }
        self.found += 1;
        Some(self.field.child(entry))
    }

    /// Whether no field that was asked for is there.
    pub(crate) fn nothing_found(&self) -> bool {
        self.found == 0
    }

    /// Like [`Fields::get`]; its absence is an error that says what is missing.
    pub fn require(&mut self, name: &'static str, what: &str) -> Option<Field<'a>> {
        let found = self.get(name);
        if found.is_none() {
            self.field.error(format!("{name} is missing: {what}"));
        }
        found
    }

    /// Fields that are accepted and kept as written.
    pub(crate) fn keep(&mut self, names: &[&'static str]) {
        self.known.extend_from_slice(names);
    }

    /// The mapping itself.
    pub(crate) fn field(&self) -> &Field<'a> {
        &self.field
    }

    /// Records the fields that are not known.
    pub fn finish(self) {
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.known.contains(&entry.key.as_str()))
        {
            let meant = match closest(&entry.key, &self.known) {
                Some(name) => format!("did you mean {name}?"),
                None => {
                    let mut names = self.known.clone();
                    names.sort_unstable();
                    names.dedup();
                    format!("known here are {}", names.join(", "))
                }
            };
            let field = self.field.child(entry);
            self.field.reader.record(
                entry.line,
                &field.path,
                format!("there is no such field; {meant}"),
            );
        }
    }
}

/// The word that is at most a third of its length away, if there is one.
fn closest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    // Longer input is not a slip of the fingers, and the comparison is quadratic.
    const LONGEST: usize = 64;
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_lowercase();
    let distance = |word: &'w str| (edits(&lower, &word.to_lowercase()), word);
    let (edits, word) = words.iter().map(|word| distance(word)).min()?;
    (edits <= (word.len() / 3).max(1) && edits < text.chars().count()).then_some(word)
}

/// How many characters have to be inserted, removed, replaced or swapped with their neighbour (optimal string
/// alignment).
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut table = vec![vec![0usize; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
                if swapped {
                    least.min(table[i - 2][j - 2] + 1)
                } else {
                    least
                }
            };
        }
    }
    table[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::{closest, edits};

    #[test]
    fn slips_are_recognised() {
        let words = ["selector", "serviceAccountName", "ports", "mtls"];
        assert_eq!(closest("Selector", &words), Some("selector"));
        assert_eq!(closest("slector", &words), Some("selector"));
        assert_eq!(closest("serviceAcountName", &words), Some("serviceAccountName"));
        assert_eq!(closest("mtsl", &words), Some("mtls"));
        assert_eq!(closest("volumes", &words), None);
        assert_eq!(closest("x", &["y"]), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("abc", "abc"), 0);
        assert_eq!(edits("abc", "acb"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
