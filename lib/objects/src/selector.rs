//! Label selectors.

use std::collections::BTreeMap;
use std::fmt;

use crate::read::Field;
use crate::syntax;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// How many labels a selector of the mesh's own kinds may name.
pub(crate) const MAX_MATCH_LABELS: usize = 4096;

/// Whether every wanted label is there with that value. Nothing wanted matches everything; whether an empty selector
/// means "all" or "none" is the kind's affair.
pub fn matches(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A selector of Kubernetes' own kinds, with expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there with this value.
    pub match_labels: Labels,
    /// Further requirements; all must hold.
    pub expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is required.
    pub operator: Operator,
    /// The values of `In` and `NotIn`.
    pub values: Vec<String>,
}

/// What a [`Requirement`] requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is not there, or with another value.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether the labels fulfil everything. An empty selector matches everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        matches(labels, &self.match_labels)
            && self
                .expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.expressions.is_empty()
    }

    pub(crate) fn read(field: &Field<'_>) -> Option<Selector> {
        let mut fields = field.fields()?;
        let match_labels = fields
            .get("matchLabels")
            .map(|field| field.text_map(syntax::label))
            .unwrap_or_default();
        let expressions = fields
            .get("matchExpressions")
            .map(|field| field.items())
            .unwrap_or_default();
        let expressions = expressions.iter().filter_map(Requirement::read).collect();
        fields.finish();
        Some(Selector {
            match_labels,
            expressions,
        })
    }
}

/// As kubectl writes it: `app=web,tier in (back,front),!old`; nothing for an empty selector.
impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let expressions = self.expressions.iter().map(Requirement::to_string);
        out.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(out, "{key} in ({values})"),
            Operator::NotIn => write!(out, "{key} notin ({values})"),
            Operator::Exists => out.write_str(key),
            Operator::DoesNotExist => write!(out, "!{key}"),
        }
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn read(field: &Field<'_>) -> Option<Requirement> {
        const OPERATORS: [(&str, Operator); 4] = [
            ("In", Operator::In),
            ("NotIn", Operator::NotIn),
            ("Exists", Operator::Exists),
            ("DoesNotExist", Operator::DoesNotExist),
        ];
        let mut fields = field.fields()?;
        let key = fields.require("key", "the label's key")?.parsed(|text| {
            syntax::qualified_name(text).map_err(|_| "is no label key".to_owned())?;
            Ok(text.to_owned())
        });
        let operator = fields
            .require("operator", "In, NotIn, Exists or DoesNotExist")?
            .choice(&OPERATORS);
        let values = fields
            .get("values")
            .map(|field| field.texts())
            .unwrap_or_default();
        fields.finish();
        let (key, operator) = (key?, operator?);
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                field.error("In and NotIn need values");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                field.error("Exists and DoesNotExist take no values");
            }
            _ => {}
        }
        Some(Requirement {
            key,
            operator,
            values,
        })
    }
}

/// The selector of a PeerAuthentication or AuthorizationPolicy: labels only.
pub(crate) fn read_workload_selector(field: Option<Field<'_>>) -> Labels {
    let Some(mut fields) = field.as_ref().and_then(Field::fields) else {
        return Labels::new();
    };
    let labels = fields.get("matchLabels").map(|field| {
        let labels = field.text_map(syntax::label);
        if labels.len() > MAX_MATCH_LABELS {
            field.error(format!(
                "has {} labels; at most {MAX_MATCH_LABELS} are accepted",
                labels.len()
            ));
        }
        labels
    });
    fields.finish();
    labels.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Labels, Operator, Requirement, Selector, matches};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_wanted_label_counts() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        assert!(matches(&pod, &labels(&[("app", "web")])));
        assert!(matches(&pod, &labels(&[])));
        assert!(!matches(&pod, &labels(&[("app", "web"), ("tier", "back")])));
        assert!(!matches(&labels(&[]), &labels(&[("app", "web")])));
    }

    #[test]
    fn expressions() {
        let pod = labels(&[("app", "web")]);
        let cases = [
            ("app", Operator::In, &["web", "api"][..], true),
            ("app", Operator::In, &["api"], false),
            ("gone", Operator::In, &["web"], false),
            ("app", Operator::NotIn, &["api"], true),
            ("app", Operator::NotIn, &["web"], false),
            ("gone", Operator::NotIn, &["web"], true),
            ("app", Operator::Exists, &[], true),
            ("gone", Operator::Exists, &[], false),
            ("app", Operator::DoesNotExist, &[], false),
            ("gone", Operator::DoesNotExist, &[], true),
        ];
        for (key, operator, values, expected) in cases {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let requirement = Requirement {
                key: key.to_owned(),
                operator,
                values,
            };
            let selector = Selector {
                match_labels: labels(&[("app", "web")]),
                expressions: vec![requirement],
            };
            assert_eq!(selector.matches(&pod), expected, "{selector:?}");
        }
    }
}
