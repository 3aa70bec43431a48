//! Finds what the generated decoder passes over: fields without a meaning for this version.
//!
//! Protobuf decoders skip fields they do not know. In a policy that would drop a condition, so the bytes are
//! walked once more against the tables below. The walk also refuses a message that is longer than it says.

use std::fmt;

/// A message's known fields.
struct Table {
    message: &'static str,
    fields: &'static [Field],
}

struct Field {
    number: u64,
    name: &'static str,
    content: Content,
}

enum Content {
    /// A number, string or bytes: nothing inside to look at.
    Plain,
    /// Data that receivers may ignore.
    Ignored,
    /// A message that is looked into.
    Message(&'static Table),
}

static AUTHORIZATION: Table = Table {
    message: "Authorization",
    fields: &[
        plain(1, "name"),
        plain(2, "namespace"),
        plain(3, "scope"),
        plain(4, "action"),
        Field {
            number: 5,
            name: "rules",
            content: Content::Message(&RULE),
        },
        plain(6, "dry_run"),
        Field {
            number: 7,
            name: "extensions",
            content: Content::Ignored,
        },
    ],
};

static RULE: Table = Table {
    message: "Rule",
    fields: &[Field {
        number: 1,
        name: "clauses",
        content: Content::Message(&CLAUSE),
    }],
};

static CLAUSE: Table = Table {
    message: "Clause",
    fields: &[Field {
        number: 2,
        name: "matches",
        content: Content::Message(&MATCH),
    }],
};

static MATCH: Table = Table {
    message: "Match",
    fields: &[
        Field {
            number: 1,
            name: "namespaces",
            content: Content::Message(&STRING_MATCH),
        },
        Field {
            number: 2,
            name: "not_namespaces",
            content: Content::Message(&STRING_MATCH),
        },
        Field {
            number: 3,
            name: "principals",
            content: Content::Message(&STRING_MATCH),
        },
        Field {
            number: 4,
            name: "not_principals",
            content: Content::Message(&STRING_MATCH),
        },
        Field {
            number: 5,
            name: "source_ips",
            content: Content::Message(&ADDRESS),
        },
        Field {
            number: 6,
            name: "not_source_ips",
            content: Content::Message(&ADDRESS),
        },
        Field {
            number: 7,
            name: "destination_ips",
            content: Content::Message(&ADDRESS),
        },
        Field {
            number: 8,
            name: "not_destination_ips",
            content: Content::Message(&ADDRESS),
        },
        plain(9, "destination_ports"),
        plain(10, "not_destination_ports"),
        Field {
            number: 11,
            name: "service_accounts",
            content: Content::Message(&SERVICE_ACCOUNT_MATCH),
        },
        Field {
            number: 12,
            name: "not_service_accounts",
            content: Content::Message(&SERVICE_ACCOUNT_MATCH),
        },
        // Not understood either, but refused by name after decoding.
        Field {
            number: 13,
            name: "extensions",
            content: Content::Ignored,
        },
    ],
};

static STRING_MATCH: Table = Table {
    message: "StringMatch",
    fields: &[
        plain(1, "exact"),
        plain(2, "prefix"),
        plain(3, "suffix"),
        Field {
            number: 4,
            name: "presence",
            content: Content::Message(&EMPTY),
        },
    ],
};

static ADDRESS: Table = Table {
    message: "Address",
    fields: &[plain(1, "address"), plain(2, "length")],
};

static SERVICE_ACCOUNT_MATCH: Table = Table {
    message: "ServiceAccountMatch",
    fields: &[plain(1, "namespace"), plain(2, "serviceAccount")],
};

static EMPTY: Table = Table {
    message: "Empty",
    fields: &[],
};

const fn plain(number: u64, name: &'static str) -> Field {
    Field {
        number,
        name,
        content: Content::Plain,
    }
}

/// What was found that has no meaning for this version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A field without a meaning.
    Field {
        /// Where: the names of the fields around it.
        path: String,
        message: &'static str,
        number: u64,
    },
    /// Bytes that are no protobuf message.
    Malformed { path: String },
}

impl Unknown {
    /// Whether it stands in the policy itself and not in one of its rules: then nothing else in the policy can
    /// be trusted to mean what it says.
    pub(super) fn is_outermost(&self) -> bool {
        let (Self::Field { path, .. } | Self::Malformed { path }) = self;
        path.is_empty()
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Field { path, .. } | Self::Malformed { path }) = self;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        match self {
            Self::Field { message, number, .. } => {
                write!(f, "field {number} of {message} is not known to this version")
            }
            Self::Malformed { .. } => f.write_str("is no valid protobuf message"),
        }
    }
}

/// Looks for unknown fields in an encoded `Authorization`, at any depth.
pub(super) fn check(bytes: &[u8]) -> Result<(), Unknown> {
    // An outermost finding counts more than one deeper down: look at the top level alone first.
    walk(bytes, &AUTHORIZATION, &mut Vec::new(), false)?;
    walk(bytes, &AUTHORIZATION, &mut Vec::new(), true)
}

/// Recursion ends at the depth of the tables, which is five.
fn walk(
    mut bytes: &[u8],
    table: &'static Table,
    path: &mut Vec<&'static str>,
    deep: bool,
) -> Result<(), Unknown> {
    while !bytes.is_empty() {
        let malformed = |path: &[&str]| Unknown::Malformed { path: path.join(".") };
        let (tag, value) = field(&mut bytes).ok_or_else(|| malformed(path))?;
        let Some(known) = table.fields.iter().find(|field| field.number == tag) else {
            return Err(Unknown::Field {
                path: path.join("."),
                message: table.message,
                number: tag,
            });
        };
        match (&known.content, value) {
            (Content::Message(inner), Some(content)) if deep => {
                path.push(known.name);
                walk(content, inner, path, deep)?;
                path.pop();
            }
            (Content::Message(_), None) => return Err(malformed(path)),
            (Content::Plain | Content::Ignored | Content::Message(_), _) => {}
        }
    }
    Ok(())
}

/// Takes one field off: its number and, if it is length-delimited, its content.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(bytes)?;
    let content = match tag & 7 {
        0 => varint(bytes).map(|_| None)?,
        1 => take(bytes, 8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Some(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| None)?,
        // Groups (3, 4) left the format long ago; 6 and 7 never had a meaning.
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
