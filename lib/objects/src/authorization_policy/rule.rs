//! One rule: who, what, and further conditions.

use super::matches::{Matches, not_empty};
use super::values::{http, port};
use super::{Condition, Source, Test};
use crate::read::Field;

/// How many sources a rule may have.
const MAX_SOURCES: usize = 512;

/// A rule matches when one source, one operation and every condition do; a part that is left out always matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who; empty: anybody.
    pub from: Vec<Source>,
    /// What; empty: anything.
    pub to: Vec<Operation>,
    /// Further conditions.
    pub when: Vec<Condition>,
    /// Why the rule cannot be read; empty unless it was stored so. Then nothing else of it is kept: it matches
    /// everything in a DENY policy and nothing in an ALLOW policy.
    pub unreadable: Vec<String>,
}

/// What is done; every part must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The workload's port.
    pub ports: Matches<u16>,
    /// The HTTP attributes that are also named, which a layer 4 proxy cannot decide.
    pub http: Vec<&'static str>,
}

impl Rule {
    /// The HTTP attributes that the rule names.
    pub fn http_attributes(&self) -> impl Iterator<Item = &str> {
        let from = self.from.iter().flat_map(|source| source.http.iter().copied());
        let to = self
            .to
            .iter()
            .flat_map(|operation| operation.http.iter().copied());
        let when = self.when.iter().filter(|condition| condition.test == Test::Http);
        from.chain(to).chain(when.map(|condition| condition.key.as_str()))
    }

    pub(super) fn read(field: &Field<'_>) -> Option<Rule> {
        let before = field.mark();
        let rule = Rule::read_parts(field);
        let unreadable = field.take_back(before);
        if unreadable.is_empty() {
            return rule;
        }
        Some(Rule {
            unreadable,
            ..Rule::default()
        })
    }

    fn read_parts(field: &Field<'_>) -> Option<Rule> {
        let mut fields = field.fields()?;
        let mut rule = Rule::default();
        if let Some(from) = fields.get("from") {
            let items = not_empty(&from, from.items_up_to(MAX_SOURCES));
            rule.from = items
                .iter()
                .filter_map(|item| wrapped(item, "source", Source::read))
                .collect();
        }
        if let Some(to) = fields.get("to") {
            let items = not_empty(&to, to.items());
            rule.to = items
                .iter()
                .filter_map(|item| wrapped(item, "operation", Operation::read))
                .collect();
        }
        if let Some(when) = fields.get("when") {
            rule.when = not_empty(&when, when.items())
                .iter()
                .filter_map(Condition::read)
                .collect();
        }
        fields.finish();
        Some(rule)
    }
}

impl Operation {
    fn read(field: &Field<'_>) -> Option<Operation> {
        const HTTP: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
        let mut fields = field.fields()?;
        let operation = Operation {
            ports: Matches::read(&mut fields, "ports", "notPorts", |item| item.parsed(port)),
            http: http(&mut fields, &HTTP),
        };
        if fields.nothing_found() {
            field.error("an empty operation would match everything; drop the entry if that is meant");
        }
        fields.finish();
        Some(operation)
    }
}

/// An entry of `from` or `to`: one field that holds the content.
fn wrapped<T>(item: &Field<'_>, name: &'static str, read: fn(&Field<'_>) -> Option<T>) -> Option<T> {
    let mut fields = item.fields()?;
    let found = fields.require(
        name,
        "an empty entry would match everything; drop it if that is meant",
    );
    let value = found.and_then(|field| read(&field));
    fields.finish();
    value
}
