//! Policy tests as people keep them beside their policies.
//!
//! ```yaml
//! manifests: [policies/, pods.yaml]
//! cases:
//! - name: prometheus may scrape
//!   objects: [ {apiVersion: …, kind: …, …} ]
//!   from: sa:monitoring/prometheus
//!   to: production/backend-0:9090
//!   expect: allow
//!   by: production/allow-monitoring
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mesh::Verdict;
use objects::strict::{self, Field, Limits};
use objects::{Object, ParseErrors};
use serde_json::{Value, json};

use crate::answer::{Answer, Unanswerable};
use crate::question::{Caller, Target};
use crate::world::World;

/// The longest file of policy tests, in bytes: 64 MiB.
pub const MAX_BYTES: usize = 64 << 20;
/// How many values a file of policy tests may hold, aliases expanded.
pub const MAX_VALUES: usize = 16_000_000;

/// The content of one file of policy tests.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Manifests and directories of manifests, relative to the file.
    pub manifests: Vec<String>,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One question with the answer that is expected.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, in words.
    pub name: String,
    /// Where it stands in the file.
    pub line: usize,
    /// Further objects, for this case alone.
    pub objects: Vec<Arc<Object>>,
    /// Who calls.
    pub from: Caller,
    /// Who is called.
    pub to: Target,
    /// Pass or not.
    pub expect: Verdict,
    /// `NAMESPACE/NAME` of the object that has to decide.
    pub by: Option<String>,
}

/// Why a case failed.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The answer is another one.
    Verdict {
        /// What was expected.
        expect: Verdict,
        /// The answer.
        answer: Box<Answer>,
    },
    /// Another object decided, or none.
    By {
        /// The object that was expected.
        expect: String,
        /// The answer.
        answer: Box<Answer>,
    },
    /// There is no answer.
    Unanswerable(Unanswerable),
}

impl Suite {
    /// Whether a text is meant as policy tests rather than as manifests, by the fields at its margin. They are kept
    /// beside the policies, so that a directory of manifests may hold one.
    pub fn is_meant(text: &str) -> bool {
        let has = |field: &str| text.lines().any(|line| line.starts_with(field));
        has("cases:") && !has("kind:") && !has("apiVersion:")
    }

    /// Reads a file of policy tests; `file` is its name for messages.
    ///
    /// # Errors
    /// All that is wrong, with line and field.
    pub fn read(file: &str, text: &str) -> Result<Suite, ParseErrors> {
        let limits = Limits {
            bytes: MAX_BYTES,
            values: MAX_VALUES,
        };
        strict::read_one_within(file, text, limits, |field| {
            let mut fields = field.fields()?;
            let manifests = fields
                .get("manifests")
                .map(|field| field.texts())
                .unwrap_or_default();
            let cases = fields.require("cases", "the questions")?.items();
            let cases = cases.iter().filter_map(Case::read).collect();
            fields.finish();
            Some(Suite { manifests, cases })
        })
    }
}

impl Case {
    fn read(field: &Field<'_>) -> Option<Case> {
        const VERDICTS: [(&str, Verdict); 2] = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
        let mut fields = field.fields()?;
        let name = fields
            .require("name", "what the case is about")
            .and_then(|field| field.text());
        let objects = fields
            .get("objects")
            .map(|field| objects(&field))
            .unwrap_or_default();
        let from = fields
            .require("from", "who calls")
            .and_then(|field| parsed(&field));
        let to = fields
            .require("to", "who is called")
            .and_then(|field| parsed(&field));
        let expect = fields
            .require("expect", "allow or deny")
            .and_then(|field| field.choice(&VERDICTS));
        let by = fields.get("by").map(|field| {
            field.parsed(|text| match text.split_once('/') {
                Some((namespace, name))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
                {
                    Ok(text.to_owned())
                }
                _ => Err("is no policy: write NAMESPACE/NAME".to_owned()),
            })
        });
        fields.finish();
        Some(Case {
            name: name?.to_owned(),
            line: field.line(),
            objects,
            from: from?,
            to: to?,
            expect: expect?,
            by: by.flatten(),
        })
    }

    /// Asks the question; the world is the same afterwards. Gives the answer, whose notes say what it rests on.
    ///
    /// # Errors
    /// When the answer is not the expected one.
    pub fn run(&self, world: &mut World) -> Result<Box<Answer>, Failed> {
        let answer = world.ask_with(self.objects.iter().cloned(), &self.from, &self.to);
        let answer = Box::new(answer.map_err(Failed::Unanswerable)?);
        if answer.verdict != self.expect {
            let expect = self.expect;
            return Err(Failed::Verdict { expect, answer });
        }
        match &self.by {
            Some(expect)
                if answer
                    .decisive()
                    .deciding()
                    .is_none_or(|deciding| deciding.name != *expect) =>
            {
                let expect = expect.clone();
                Err(Failed::By { expect, answer })
            }
            _ => Ok(answer),
        }
    }

    /// The case and what became of it: `line`, `name`, `from`, `to`, `expect`, `by` and `passed`; of a failed one also
    /// the `failure` in words and the `answer` (`null` where there is none), of one that passed the `notes`.
    pub fn to_json(&self, result: &Result<Box<Answer>, Failed>) -> Value {
        let failed = result.as_ref().err();
        let mut value = json!({
            "line": self.line,
            "name": self.name,
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "expect": verdict_word(self.expect),
            "by": self.by,
            "passed": failed.is_none(),
        });
        if let Some(failed) = failed {
            value["failure"] = failed.to_string().into();
            value["answer"] = failed.answer().map(Answer::to_json).into();
        }
        if let Ok(answer) = result {
            value["notes"] = answer.notes.clone().into();
        }
        value
    }
}

impl Failed {
    /// The answer that was not the expected one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Failed::Verdict { answer, .. } | Failed::By { answer, .. } => Some(answer),
            Failed::Unanswerable(_) => None,
        }
    }
}

/// As the end of a sentence that begins with the case's name.
impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Verdict { expect, answer } => {
                write!(out, "expected {}, is {}", verdict_word(*expect), answer.told())
            }
            Failed::By { expect, answer } => {
                write!(
                    out,
                    "expected {} by {expect}, is {}",
                    verdict_word(answer.verdict),
                    answer.told()
                )
            }
            Failed::Unanswerable(error) => write!(out, "could not be answered: {error}"),
        }
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// The objects of a case, each given once.
fn objects(field: &Field<'_>) -> Vec<Arc<Object>> {
    let mut keys = BTreeSet::new();
    let mut found = Vec::new();
    for item in field.items() {
        let Some(object) = item.object() else { continue };
        if !keys.insert(object.key()) {
            item.error(format!("{} is given twice", object.key()));
        }
        found.push(Arc::new(object));
    }
    found
}

fn parsed<T: FromStr<Err = crate::QuestionError>>(field: &Field<'_>) -> Option<T> {
    let text = field.text()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            field.error(error.to_string());
            None
        }
    }
}
