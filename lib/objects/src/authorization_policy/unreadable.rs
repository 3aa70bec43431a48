//! What of a stored rule cannot be read.

use super::{Rule, Test};

impl Rule {
    /// What of the rule cannot be read, wherever it stands; nothing unless it was stored so.
    pub fn unreadable_parts(&self) -> impl Iterator<Item = &str> {
        let whole = self.unreadable.iter().map(String::as_str);
        let of_source = self.from.iter().flat_map(|source| {
            let texts = source
                .principals
                .unreadable()
                .chain(source.namespaces.unreadable());
            texts
                .chain(source.service_accounts.unreadable())
                .chain(source.ip_blocks.unreadable())
                .chain(source.trust_domains.unreadable())
        });
        let of_operation = self.to.iter().flat_map(|operation| operation.ports.unreadable());
        let of_condition = self.when.iter().flat_map(|condition| {
            let values: Vec<&str> = match &condition.test {
                Test::SourceIp(values) | Test::DestinationIp(values) => values.unreadable().collect(),
                Test::SourceNamespace(values) | Test::SourcePrincipal(values) => {
                    values.unreadable().collect()
                }
                Test::SourceServiceAccount(values) => values.unreadable().collect(),
                Test::DestinationPort(values) => values.unreadable().collect(),
                Test::Http => Vec::new(),
            };
            values
        });
        whole.chain(of_source).chain(of_operation).chain(of_condition)
    }
}
