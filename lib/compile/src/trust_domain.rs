//! Trust domains that stand for each other (Istio's `trustDomainAliases`): a mesh that is given another trust domain, or
//! joined with another mesh, keeps its policies.
//!
//! A principal whose trust domain is that of the mesh or an alias means the same workload in each of them. One whose
//! trust domain is left open, or is another, means what it says.

use proto::security::string_match::MatchType;
use proto::security::{Authorization, StringMatch};

use crate::settings::Settings;

/// The policy, with the principals of every alias.
pub(crate) fn with_aliases(settings: &Settings, mut policy: Authorization) -> Authorization {
    if settings.trust_domain_aliases.is_empty() {
        return policy;
    }
    let matches = policy
        .rules
        .iter_mut()
        .flat_map(|rule| &mut rule.clauses)
        .flat_map(|clause| &mut clause.matches);
    for part in matches {
        for principals in [&mut part.principals, &mut part.not_principals] {
            *principals = expanded(settings, principals);
        }
    }
    policy
}

/// As they are written, each followed by its likes in the other trust domains.
fn expanded(settings: &Settings, principals: &[StringMatch]) -> Vec<StringMatch> {
    let mut all: Vec<StringMatch> = Vec::new();
    let mut add = |one: StringMatch| {
        if !all.contains(&one) {
            all.push(one);
        }
    };
    for principal in principals {
        add(principal.clone());
        let domains = || std::iter::once(&settings.trust_domain).chain(&settings.trust_domain_aliases);
        let Some((domain, rest, make)) = parts(principal) else {
            continue;
        };
        if domains().any(|known| known == domain) {
            for other in domains() {
                add(StringMatch {
                    match_type: Some(make(format!("{other}/{rest}"))),
                });
            }
        }
    }
    all
}

/// Makes a match of a text.
type Make = fn(String) -> MatchType;

/// The trust domain of a principal that names one, what follows it, and what makes such a match again.
fn parts(principal: &StringMatch) -> Option<(&str, &str, Make)> {
    let (text, make): (_, Make) = match principal.match_type.as_ref()? {
        MatchType::Exact(text) => (text, MatchType::Exact),
        MatchType::Prefix(text) => (text, MatchType::Prefix),
        MatchType::Suffix(_) | MatchType::Presence(_) => return None,
    };
    let (domain, rest) = text.split_once('/')?;
    Some((domain, rest, make))
}

#[cfg(test)]
mod tests {
    use objects::{Kind, ObjectKey};

    use super::*;
    use crate::Compiler;
    use crate::testing::puts;

    /// The principals of the policy in words: exact, `prefix*`, `*suffix`.
    fn principals(aliases: &[&str], field: &str, written: &str) -> Vec<String> {
        let settings = Settings {
            trust_domain: "new.org".to_owned(),
            trust_domain_aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..Settings::default()
        };
        let text = format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: demo, name: p}}\nspec: \
             {{action: DENY, rules: [{{from: [{{source: {{{field}: {written}}}}}]}}]}}\n"
        );
        let mut compiler = Compiler::new(settings);
        let output = compiler.apply(puts(&text));
        assert!(output.conditions[&ObjectKey::new(Kind::AuthorizationPolicy, "demo", "p")][0].is_clean());
        let part = &compiler.policies()["demo/p"].rules[0].clauses[0].matches[0];
        let found = if field == "principals" {
            &part.principals
        } else {
            &part.not_principals
        };
        let word = |one: &StringMatch| match one.match_type.clone().unwrap() {
            MatchType::Exact(text) => text,
            MatchType::Prefix(text) => format!("{text}*"),
            MatchType::Suffix(text) => format!("*{text}"),
            MatchType::Presence(_) => "*".to_owned(),
        };
        found.iter().map(word).collect()
    }

    #[test]
    fn a_principal_of_the_mesh_is_one_in_every_alias() {
        let own = "new.org/ns/a/sa/b";
        for field in ["principals", "notPrincipals"] {
            assert_eq!(principals(&[], field, &format!("[{own}]")), [own]);
            for written in [own, "old.org/ns/a/sa/b"] {
                let mut found = principals(&["old.org", "older.org"], field, &format!("[{written}]"));
                assert_eq!(found[0], written, "what is written comes first");
                found.sort();
                assert_eq!(found, [own, "old.org/ns/a/sa/b", "older.org/ns/a/sa/b"]);
            }
            let found = principals(&["old.org"], field, "[\"new.org/ns/a/*\", \"old.org/ns/a/*\"]");
            assert_eq!(found, ["new.org/ns/a/*", "old.org/ns/a/*"]);
            // Where the trust domain is left open or is another, nothing is added.
            for written in [
                "*/sa/b",
                "*",
                "new.*",
                "other.org/ns/a/sa/b",
                "new.org.evil/ns/a/sa/b",
            ] {
                assert_eq!(
                    principals(&["old.org"], field, &format!("[\"{written}\"]")),
                    [written]
                );
            }
        }
    }
}
