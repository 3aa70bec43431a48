//! The line of a field, for messages about objects that were read without error.

use objects::ObjectKey;
use saphyr_parser::{Event, Parser};

/// The line, counted from 1, of the field at a path such as `spec.containers[0].command[0]`, or of the innermost
/// parent that is written. Fields behind a YAML alias are not followed.
pub(super) fn line(text: &str, key: &ObjectKey, path: &str) -> Option<usize> {
    let documents = read(text)?;
    let mut at = documents.iter().find_map(|document| find(document, key))?;
    for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
        let next = match (&at.content, step.parse::<usize>()) {
            (Content::List(items), Ok(index)) => items.get(index),
            _ => at.field(step),
        };
        match next {
            Some(node) => at = node,
            None => break,
        }
    }
    Some(at.line)
}

struct Node {
    line: usize,
    content: Content,
}

enum Content {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn field(&self, name: &str) -> Option<&Node> {
        let Content::Map(entries) = &self.content else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content {
            Some(text)
        } else {
            None
        }
    }

    fn take(&mut self, child: Node, key: Option<String>) {
        match &mut self.content {
            Content::List(items) => items.push(child),
            Content::Map(entries) => entries.push((key.unwrap_or_default(), child)),
            Content::Text(_) => {}
        }
    }
}

/// The object of this key: the document itself, or an item of a List.
fn find<'a>(document: &'a Node, key: &ObjectKey) -> Option<&'a Node> {
    if let Some(Node {
        content: Content::List(items),
        ..
    }) = document.field("items")
    {
        return items.iter().find_map(|item| find(item, key));
    }
    let metadata = document.field("metadata")?;
    let namespace = match metadata.field("namespace").and_then(Node::text) {
        _ if !key.kind.is_namespaced() => "",
        Some(namespace) => namespace,
        None => objects::DEFAULT_NAMESPACE,
    };
    let same = document.field("kind").and_then(Node::text) == Some(key.kind.to_string().as_str())
        && metadata.field("name").and_then(Node::text) == Some(&key.name)
        && namespace == key.namespace;
    same.then_some(document)
}

/// The documents of a text that was read strictly before, so that its size and depth are bounded.
fn read(text: &str) -> Option<Vec<Node>> {
    let mut documents = Vec::new();
    // Each open list or map, and the key that waits for its value.
    let mut open: Vec<(Node, Option<String>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let line = span.start.line();
        let done = match event {
            Event::SequenceStart(..) => {
                open.push((
                    Node {
                        line,
                        content: Content::List(Vec::new()),
                    },
                    None,
                ));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((
                    Node {
                        line,
                        content: Content::Map(Vec::new()),
                    },
                    None,
                ));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop()?.0,
            Event::Scalar(text, ..) => Node {
                line,
                content: Content::Text(text.into_owned()),
            },
            Event::Alias(_) => Node {
                line,
                content: Content::Text(String::new()),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(done),
            Some((
                Node {
                    content: Content::Map(_),
                    ..
                },
                key @ None,
            )) => {
                *key = Some(done.text().unwrap_or_default().to_owned());
            }
            Some((parent, key)) => parent.take(done, key.take()),
        }
    }
    Some(documents)
}
