//! One change of a connection, in words.

use std::fmt;

use crate::identity::Identity;
use crate::policy::Attribute;

/// One change of a connection. `Display` completes "would be allowed if": `the port were 9090`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The caller would have to use mTLS.
    Mtls {
        /// As whom. None: no policy here tells one identity from another, so anybody.
        identity: Option<Identity>,
    },
    /// An attribute would have to have one of these values.
    Is {
        /// Which.
        attribute: Attribute,
        /// Values or patterns of the rule, at most [`super::MAX_VALUES`]; with each of them the connection passes.
        values: Vec<String>,
        /// How many more the rule lists, tried or not.
        more: usize,
        /// A value that fits the first pattern, where it is one: it is what was tried.
        example: Option<String>,
    },
    /// An attribute would have to have another value.
    IsNot {
        /// Which.
        attribute: Attribute,
        /// What it is, or the block that it is in.
        value: String,
        /// Another value, with which the connection passes.
        example: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtls { identity: None } => f.write_str("the caller used mTLS"),
            Self::Mtls {
                identity: Some(identity),
            } => write!(f, "the caller used mTLS, as {}", identity.principal()),
            Self::Is {
                attribute,
                values,
                more,
                example,
            } => {
                write!(f, "{} ", subject(*attribute, false))?;
                for (position, value) in values.iter().enumerate() {
                    let joint = match position {
                        0 => "",
                        _ if position + 1 == values.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{joint}{value}")?;
                }
                if let Some(example) = example {
                    write!(f, ", such as {example}")?;
                }
                match more {
                    0 => Ok(()),
                    more => write!(f, " (the rule lists {more} more)"),
                }
            }
            Self::IsNot {
                attribute,
                value,
                example,
            } => write!(f, "{} {value} but {example}", subject(*attribute, true)),
        }
    }
}

fn subject(attribute: Attribute, negated: bool) -> &'static str {
    match (attribute, negated) {
        (Attribute::Principal, false) => "the source were",
        (Attribute::Principal, true) => "the source were not",
        (Attribute::Namespace, false) => "the source were in namespace",
        (Attribute::Namespace, true) => "the source were not in namespace",
        (Attribute::ServiceAccount, false) => "the source were service account",
        (Attribute::ServiceAccount, true) => "the source were not service account",
        (Attribute::SourceIp, false) => "the source address were in",
        (Attribute::SourceIp, true) => "the source address were not in",
        (Attribute::DestinationIp, false) => "the destination address were in",
        (Attribute::DestinationIp, true) => "the destination address were not in",
        (Attribute::DestinationPort, false) => "the port were",
        (Attribute::DestinationPort, true) => "the port were not",
    }
}
