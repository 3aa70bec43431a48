//! YAML text to a tree of values that know their line.
//!
//! The parser is pulled event by event, without recursion, so that depth, size and alias expansion are bounded
//! before memory or stack is. JSON is YAML, so JSON text is read the same way.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use crate::scalar::{self, Scalar};

/// The longest text that [`crate::parse`] reads, in bytes: 4 MiB.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// How deep mappings and sequences may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many documents one text may hold.
pub const MAX_DOCUMENTS: usize = 10_000;
/// How many values one text may hold, aliases expanded, and those that have an anchor twice.
pub const MAX_NODES: usize = 1_000_000;

/// A value and the line on which it begins (0: it did not come from text).
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) line: usize,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Sequence(Vec<Tree>),
    Mapping(Vec<Entry>),
}

/// A key, its line, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Tree,
}

/// What is wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextError {
    pub(crate) line: usize,
    pub(crate) problem: String,
}

impl Tree {
    /// How the value is called in messages.
    pub(crate) fn describe(&self) -> String {
        match &self.data {
            Data::Null => "null".to_owned(),
            Data::Boolean(value) => format!("the boolean {value}"),
            Data::Integer(value) => format!("the number {value}"),
            Data::Float(value) => format!("the number {value}"),
            Data::Text(value) => format!("the string {}", quoted(value)),
            Data::Sequence(_) => "a list".to_owned(),
            Data::Mapping(_) => "a mapping".to_owned(),
        }
    }

    pub(crate) fn is_sequence(&self) -> bool {
        matches!(self.data, Data::Sequence(_))
    }

    /// The string, when it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Tree> {
        match &self.data {
            Data::Mapping(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Boolean(value) => Value::Bool(*value),
            Data::Integer(value) => Number::from_i128(*value).map_or(Value::Null, Value::Number),
            Data::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
            Data::Text(value) => Value::String(value.clone()),
            Data::Sequence(items) => Value::Array(items.iter().map(Tree::to_value).collect()),
            Data::Mapping(entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// A tree without lines. `None` when the value is nested deeper than [`MAX_DEPTH`].
    pub(crate) fn from_value(value: &Value) -> Option<Tree> {
        fn tree(value: &Value, depth: usize) -> Option<Tree> {
            if depth > MAX_DEPTH {
                return None;
            }
            let data = match value {
                Value::Null => Data::Null,
                Value::Bool(value) => Data::Boolean(*value),
                Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                    (Some(integer), _) => Data::Integer(integer),
                    (None, float) => Data::Float(float.unwrap_or(f64::NAN)),
                },
                Value::String(text) => Data::Text(text.clone()),
                Value::Array(items) => Data::Sequence(
                    items
                        .iter()
                        .map(|item| tree(item, depth + 1))
                        .collect::<Option<_>>()?,
                ),
                Value::Object(map) => {
                    let entry = |(key, value)| -> Option<Entry> {
                        Some(Entry {
                            key: String::clone(key),
                            line: 0,
                            value: tree(value, depth + 1)?,
                        })
                    };
                    Data::Mapping(map.iter().map(entry).collect::<Option<_>>()?)
                }
            };
            Some(Tree { line: 0, data })
        }
        tree(value, 1)
    }

    /// The number of values and the depth.
    fn size(&self) -> (usize, usize) {
        let children: Vec<&Tree> = match &self.data {
            Data::Sequence(items) => items.iter().collect(),
            Data::Mapping(entries) => entries.iter().map(|entry| &entry.value).collect(),
            _ => return (1, 0),
        };
        children
            .into_iter()
            .map(Tree::size)
            .fold((1, 1), |(count, depth), (child_count, child_depth)| {
                (count + child_count, depth.max(child_depth + 1))
            })
    }
}

/// A string in quotes, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Reads every document of a text. Empty documents are left out. Stops at the first error of syntax, since nothing
/// behind it can be trusted; keys that are given twice are collected.
pub(crate) fn read(text: &str) -> (Vec<Tree>, Vec<TextError>) {
    read_within(text, MAX_TEXT_BYTES, MAX_NODES)
}

/// [`read`] with other bounds: bytes of text, and values with aliases expanded.
pub(crate) fn read_within(text: &str, most_bytes: usize, most_nodes: usize) -> (Vec<Tree>, Vec<TextError>) {
    let mut builder = Builder {
        most_nodes,
        ..Builder::default()
    };
    if text.len() > most_bytes {
        let problem = format!("the text has {} bytes; at most {most_bytes} are read", text.len());
        return (Vec::new(), vec![TextError { line: 1, problem }]);
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let fatal = match event {
            Ok((event, span)) => builder.event(event, span.start.line()),
            Err(error) => Err(TextError {
                line: error.marker().line(),
                problem: format!("this is not YAML: {}", error.info()),
            }),
        };
        if let Err(error) = fatal {
            builder.errors.push(error);
            break;
        }
    }
    (builder.documents, builder.errors)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Tree>,
    errors: Vec<TextError>,
    open: Vec<Open>,
    anchors: HashMap<usize, Tree>,
    nodes: usize,
    most_nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Tree>),
    Mapping {
        entries: Vec<Entry>,
        seen: HashSet<String>,
        key: Option<(String, usize)>,
    },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), TextError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => Ok(()),
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let expects_key = matches!(
                    self.open.last(),
                    Some(Open {
                        content: Content::Mapping { key: None, .. },
                        ..
                    })
                );
                if expects_key && style == ScalarStyle::Plain && text == "<<" {
                    let problem = "merge keys (<<) are not read; write the fields out".to_owned();
                    return Err(TextError { line, problem });
                }
                // A key is text however it looks: `8080:` under portLevelMtls is the key "8080".
                let data = if expects_key {
                    Data::Text(text.into_owned())
                } else {
                    resolve(text.into_owned(), style, tag.as_deref(), line)?
                };
                self.add(Tree { line, data }, anchor)
            }
            Event::Alias(anchor) => {
                // An anchor is defined when its value is complete, so a value cannot contain itself.
                let Some(mut tree) = self.anchors.get(&anchor).cloned() else {
                    return Err(TextError {
                        line,
                        problem: "this alias names no complete value".to_owned(),
                    });
                };
                let (count, depth) = tree.size();
                self.count(count, line)?;
                self.check_depth(self.open.len() + depth, line)?;
                tree.line = line;
                self.add(tree, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, Content::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let content = Content::Mapping {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                };
                self.begin(line, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open {
                    line,
                    anchor,
                    content: Content::Sequence(items),
                }) => self.add(
                    Tree {
                        line,
                        data: Data::Sequence(items),
                    },
                    anchor,
                ),
                Some(Open {
                    line,
                    anchor,
                    content: Content::Mapping { entries, .. },
                }) => self.add(
                    Tree {
                        line,
                        data: Data::Mapping(entries),
                    },
                    anchor,
                ),
                None => Err(TextError {
                    line,
                    problem: "a collection ends that never began".to_owned(),
                }),
            },
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, content: Content) -> Result<(), TextError> {
        self.check_depth(self.open.len() + 1, line)?;
        if let Some(Open {
            content: Content::Mapping { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(TextError {
                line,
                problem: "a key must be a string, not a collection".to_owned(),
            });
        }
        self.open.push(Open {
            line,
            anchor,
            content,
        });
        Ok(())
    }

    fn add(&mut self, tree: Tree, anchor: usize) -> Result<(), TextError> {
        let line = tree.line;
        self.count(1, line)?;
        if anchor > 0 {
            // What is kept for aliases counts too, or anchors inside of anchors would keep everything many times.
            self.count(tree.size().0, line)?;
            self.anchors.insert(anchor, tree.clone());
        }
        let Some(open) = self.open.last_mut() else {
            if matches!(tree.data, Data::Null) {
                return Ok(());
            }
            if self.documents.len() == MAX_DOCUMENTS {
                let problem = format!("the text has more than {MAX_DOCUMENTS} documents; split it");
                return Err(TextError { line, problem });
            }
            self.documents.push(tree);
            return Ok(());
        };
        match &mut open.content {
            Content::Sequence(items) => items.push(tree),
            Content::Mapping { entries, seen, key } => match key.take() {
                Some((key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: tree,
                }),
                None => match tree.data {
                    Data::Text(text) => {
                        if !seen.insert(text.clone()) {
                            let first = entries
                                .iter()
                                .find(|entry| entry.key == text)
                                .map_or(0, |entry| entry.line);
                            let problem =
                                format!("the key {} is given twice, first on line {first}", quoted(&text));
                            self.errors.push(TextError { line, problem });
                        }
                        *key = Some((text, line));
                    }
                    _ => {
                        let problem = format!("a key must be a string, not {}", tree.describe());
                        return Err(TextError { line, problem });
                    }
                },
            },
        }
        Ok(())
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), TextError> {
        self.nodes += more;
        let most = self.most_nodes;
        if self.nodes > most {
            let problem = format!("the text holds more than {most} values, aliases expanded; split it");
            return Err(TextError { line, problem });
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize, line: usize) -> Result<(), TextError> {
        if depth > MAX_DEPTH {
            let problem = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(TextError { line, problem });
        }
        Ok(())
    }
}

fn resolve(text: String, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Data, TextError> {
    let bad_tag = |tag: &Tag| TextError {
        line,
        problem: format!("the tag {tag} is not understood"),
    };
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return Ok(Data::Text(text)),
        Some(tag) if !tag.is_yaml_core_schema() => return Err(bad_tag(tag)),
        Some(tag) if !matches!(tag.suffix.as_str(), "int" | "bool" | "float" | "null") => {
            return Err(bad_tag(tag));
        }
        _ => {}
    }
    if style != ScalarStyle::Plain {
        return Ok(Data::Text(text));
    }
    Ok(match scalar::resolve(&text) {
        Scalar::Null => Data::Null,
        Scalar::Boolean(value) => Data::Boolean(value),
        Scalar::Integer(value) => Data::Integer(value),
        Scalar::Float(value) if value.is_finite() => Data::Float(value),
        Scalar::Float(_) => {
            let problem =
                format!("{text} is no number that an object can hold; put it in quotes if it is a string");
            return Err(TextError { line, problem });
        }
        Scalar::Text => Data::Text(text),
    })
}

#[cfg(test)]
mod tests;
