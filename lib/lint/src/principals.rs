//! Identities that policies name: whether they can exist, and whether the manifests know them.

use std::collections::BTreeSet;

use objects::{AuthorizationPolicy, ReadObject, ServiceAccountRef, Test};

use crate::code::Code;
use crate::finding::Finding;
use crate::terms::{Pattern, identity};
use crate::world::World;

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for (read, policy) in world.authorization_policies() {
        let mut check = Check {
            world,
            read,
            unknown: BTreeSet::new(),
            found,
        };
        check.policy(policy);
    }
}

struct Check<'w, 'a> {
    world: &'w World<'a>,
    read: &'a ReadObject,
    /// What was already said to be unknown; once for an object is enough.
    unknown: BTreeSet<String>,
    found: &'w mut Vec<Finding>,
}

impl Check<'_, '_> {
    fn policy(&mut self, policy: &AuthorizationPolicy) {
        for (index, rule) in policy.rules.iter().enumerate() {
            for (place, source) in rule.from.iter().enumerate() {
                let field = |name: &str| format!("spec.rules[{index}].from[{place}].source.{name}");
                let principals = &source.principals;
                self.principals(&principals.any, &field("principals"), true);
                self.principals(&principals.none, &field("notPrincipals"), false);
                self.namespaces(&source.namespaces.any, &field("namespaces"));
                self.accounts(&source.service_accounts.any, &field("serviceAccounts"));
            }
            for (place, condition) in rule.when.iter().enumerate() {
                let field = |name: &str| format!("spec.rules[{index}].when[{place}].{name}");
                match &condition.test {
                    Test::SourcePrincipal(texts) => {
                        self.principals(&texts.any, &field("values"), true);
                        self.principals(&texts.none, &field("notValues"), false);
                    }
                    Test::SourceNamespace(texts) => self.namespaces(&texts.any, &field("values")),
                    Test::SourceServiceAccount(accounts) => self.accounts(&accounts.any, &field("values")),
                    _ => {}
                }
            }
        }
    }

    fn principals(&mut self, texts: &[String], list: &str, positive: bool) {
        for (index, text) in texts.iter().enumerate() {
            let field = format!("{list}[{index}]");
            let domain = match Pattern::new(text) {
                Pattern::Exact(exact) => match identity(&exact) {
                    None => {
                        self.malformed(&field, text);
                        continue;
                    }
                    Some((domain, namespace, account)) => {
                        if positive && self.is_own(domain) {
                            self.known(&field, namespace, Some(account));
                        }
                        domain.to_owned()
                    }
                },
                Pattern::Prefix(prefix) => match prefix.split_once('/') {
                    Some((domain, rest)) => {
                        if !could_begin(rest) {
                            self.malformed(&field, text);
                            continue;
                        }
                        domain.to_owned()
                    }
                    None => continue,
                },
                _ => continue,
            };
            if !self.is_own(&domain) {
                let own = self.world.settings.trust_domains.join(", ");
                self.found.push(Finding::about(
                    self.read,
                    Code::WrongTrustDomain,
                    field,
                    format!("identities of this mesh begin with {own}/, so {text} matches none of them"),
                    format!(
                        "write {own} in place of {domain}; or name the trust domain to the linter (--trust-domain) if \
                         the mesh accepts it"
                    ),
                ));
            }
        }
    }

    fn is_own(&self, domain: &str) -> bool {
        self.world.settings.trust_domains.iter().any(|own| own == domain)
    }

    fn malformed(&mut self, field: &str, text: &str) {
        self.found.push(Finding::about(
            self.read,
            Code::MalformedPrincipal,
            field,
            format!(
                "{text} is no identity's name, so it matches nobody: identities are TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
            ),
            "write it so, such as cluster.local/ns/shop/sa/web, or use serviceAccounts: [shop/web]",
        ));
    }

    fn namespaces(&mut self, texts: &[String], list: &str) {
        for (index, text) in texts.iter().enumerate() {
            if let Pattern::Exact(name) = Pattern::new(text) {
                self.known(&format!("{list}[{index}]"), &name, None);
            }
        }
    }

    fn accounts(&mut self, accounts: &[ServiceAccountRef], list: &str) {
        let own = self.read.object.metadata.namespace.clone();
        for (index, account) in accounts.iter().enumerate() {
            let namespace = account.namespace.as_deref().unwrap_or(&own);
            self.known(&format!("{list}[{index}]"), namespace, Some(&account.name));
        }
    }

    /// Tells when the manifests do not know a namespace, or an account in it.
    fn known(&mut self, field: &str, namespace: &str, account: Option<&str>) {
        let missing = if !self.world.knows_namespace(namespace) {
            format!("namespace {namespace}")
        } else {
            match account.filter(|account| !self.world.knows_account(namespace, account)) {
                Some(account) => format!("service account {namespace}/{account}"),
                None => return,
            }
        };
        if !self.unknown.insert(missing.clone()) {
            return;
        }
        self.found.push(Finding::about(
            self.read,
            Code::UnknownIdentity,
            field,
            format!("the manifests hold no {missing}: if there is none, this matches nobody"),
            "correct the name, or give the manifest that defines it too (-f)",
        ));
    }
}

/// Whether an identity can go on so behind the slash that ends its trust domain.
fn could_begin(rest: &str) -> bool {
    let parts: Vec<&str> = rest.split('/').collect();
    let fits = |part: &str, whole: &str, last: bool| part == whole || (last && whole.starts_with(part));
    parts.len() <= 4
        && parts.iter().enumerate().all(|(index, part)| {
            let last = index + 1 == parts.len();
            match index {
                0 => fits(part, "ns", last),
                2 => fits(part, "sa", last),
                _ => last || !part.is_empty(),
            }
        })
}
