//! What every object carries beside its content.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::kind::{Kind, ObjectKey};
use crate::read::{Field, Fields};
use crate::{DEFAULT_NAMESPACE, syntax};

/// How large the annotations of an object may be together, in bytes, as in Kubernetes.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// What every object carries beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The name, unique for its kind and namespace at any moment.
    pub name: String,
    /// The namespace; empty for kinds that have none.
    pub namespace: String,
    /// Unique for all time; empty until the store has given one.
    pub uid: String,
    /// The store's revision of the last change; 0 until it was stored.
    pub resource_version: u64,
    /// Counts the versions of what the object asks for; 0 where the store does not count them.
    pub generation: i64,
    /// When it was stored first (RFC 3339, UTC).
    pub creation_timestamp: Option<String>,
    /// What selectors look at.
    pub labels: BTreeMap<String, String>,
    /// What they don't.
    pub annotations: BTreeMap<String, String>,
    /// Since when it is being deleted (RFC 3339, UTC).
    pub deletion_timestamp: Option<String>,
    /// The controller that made it.
    pub owner: Option<Owner>,
    /// The prefix that its maker asked for; empty when the name was chosen by hand.
    pub generate_name: String,
}

/// The controlling owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind; any word, not only those of [`Kind`].
    pub kind: String,
    /// The owner's name, in the same namespace.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
}

impl Metadata {
    /// The key of an object of this kind with this metadata.
    pub fn key(&self, kind: Kind) -> ObjectKey {
        ObjectKey::new(kind, &self.namespace, &self.name)
    }

    /// Orders the older object first; objects of the same second by namespace and name, so that the order never
    /// depends on chance. An object without a creation time counts as the youngest.
    pub fn by_age(&self, other: &Metadata) -> Ordering {
        fn rank(metadata: &Metadata) -> (bool, &str, &str, &str, &str) {
            let time = metadata
                .creation_timestamp
                .as_deref()
                .map(|time| time.trim_end_matches('Z'));
            let (second, fraction) = time
                .unwrap_or_default()
                .split_once('.')
                .unwrap_or((time.unwrap_or_default(), ""));
            (
                time.is_none(),
                second,
                fraction.trim_end_matches('0'),
                &metadata.namespace,
                &metadata.name,
            )
        }
        rank(self).cmp(&rank(other))
    }

    pub(crate) fn read(kind: Kind, field: &Field<'_>) -> Option<Metadata> {
        let mut fields = field.fields()?;
        let mut metadata = template(&mut fields);
        metadata.name = fields
            .require(
                "name",
                "every object needs a name (generateName alone is not enough)",
            )?
            .checked(|text| name_rule(kind, text, field.is_stored()))?
            .to_owned();
        let namespace = fields.get("namespace");
        if kind.is_namespaced() {
            metadata.namespace = match namespace {
                Some(field) => field.checked(syntax::dns_label)?.to_owned(),
                None => DEFAULT_NAMESPACE.to_owned(),
            };
        } else if let Some(field) = namespace {
            field.error(format!("a {kind} lives in no namespace: drop this field"));
        }
        metadata.uid = own(fields.get("uid"));
        if let Some(field) = fields.get("resourceVersion") {
            let number = |text: &str| {
                text.parse()
                    .map_err(|_| "is no revision: it must be a number".to_owned())
            };
            metadata.resource_version = field.parsed(number).unwrap_or_default();
        }
        if let Some(field) = fields.get("generation") {
            metadata.generation = field.integer(0, u32::MAX).map_or(0, i64::from);
        }
        metadata.creation_timestamp = time(fields.get("creationTimestamp"));
        metadata.deletion_timestamp = time(fields.get("deletionTimestamp"));
        if let Some(field) = fields.get("ownerReferences") {
            metadata.owner = field
                .items()
                .iter()
                .filter_map(owner)
                .fold(None, |first, owner| first.or(Some(owner)));
        }
        // What the store's keeper adds to the metadata in later versions changes no meaning.
        if !field.is_stored() {
            fields.finish();
        }
        Some(metadata)
    }

    /// The labels and annotations of a pod template.
    pub(crate) fn read_template(field: &Field<'_>) -> Option<Metadata> {
        let mut fields = field.fields()?;
        let metadata = template(&mut fields);
        fields.keep(&["name", "namespace", "creationTimestamp", "generation"]);
        fields.finish();
        Some(metadata)
    }
}

fn template(fields: &mut Fields<'_>) -> Metadata {
    let mut metadata = Metadata {
        generate_name: own(fields.get("generateName")),
        ..Metadata::default()
    };
    if let Some(field) = fields.get("labels") {
        metadata.labels = field.text_map(syntax::label);
    }
    if let Some(field) = fields.get("annotations") {
        metadata.annotations = field.text_map(syntax::annotation);
        let bytes: usize = metadata
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes > MAX_ANNOTATION_BYTES {
            field.error(format!(
                "the annotations have {bytes} bytes; at most {MAX_ANNOTATION_BYTES} are accepted"
            ));
        }
    }
    fields.keep(&[
        "finalizers",
        "managedFields",
        "selfLink",
        "deletionGracePeriodSeconds",
    ]);
    metadata
}

fn name_rule(kind: Kind, text: &str, is_stored: bool) -> Result<(), String> {
    match kind {
        Kind::Namespace => syntax::dns_label(text),
        // Newer API servers let names of Services begin with a digit.
        Kind::Service if is_stored => syntax::dns_label(text),
        Kind::Service => syntax::dns_1035_label(text),
        _ => syntax::dns_subdomain(text),
    }
}

/// The reference, when it is the controlling one.
fn owner(field: &Field<'_>) -> Option<Owner> {
    let mut fields = field.fields()?;
    let api_version = own(fields.require("apiVersion", "the owner's API version"));
    let kind = own(fields.require("kind", "the owner's kind"));
    let name = own(fields.require("name", "the owner's name"));
    let uid = own(fields.get("uid"));
    let controller = fields
        .get("controller")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    fields.keep(&["blockOwnerDeletion"]);
    fields.finish();
    controller.then_some(Owner {
        api_version,
        kind,
        name,
        uid,
    })
}

pub(crate) fn own(field: Option<Field<'_>>) -> String {
    field
        .and_then(|field| field.text().map(str::to_owned))
        .unwrap_or_default()
}

/// A time of RFC 3339 in UTC, as Kubernetes writes it.
pub(crate) fn time(field: Option<Field<'_>>) -> Option<String> {
    let rule = |text: &str| {
        let shape = "dddd-dd-ddTdd:dd:dd";
        let fits = |(byte, wanted): (u8, u8)| {
            if wanted == b'd' {
                byte.is_ascii_digit()
            } else {
                byte == wanted
            }
        };
        let good = text.len() > shape.len()
            && text.bytes().zip(shape.bytes()).all(fits)
            && text
                .bytes()
                .skip(shape.len())
                .collect::<Vec<_>>()
                .split_last()
                .is_some_and(|(last, fraction)| {
                    let digits = fraction.strip_prefix(b".").unwrap_or(b"");
                    *last == b'Z'
                        && digits.len() + usize::from(!fraction.is_empty()) == fraction.len()
                        && digits.iter().all(u8::is_ascii_digit)
                });
        if good {
            Ok(())
        } else {
            Err("is no time in UTC, such as 2026-08-01T12:00:00Z".to_owned())
        }
    };
    field?.checked(rule).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Metadata;

    fn made(time: Option<&str>, name: &str) -> Metadata {
        Metadata {
            name: name.to_owned(),
            creation_timestamp: time.map(str::to_owned),
            ..Metadata::default()
        }
    }

    #[test]
    fn older_comes_first_and_names_break_ties() {
        let base = made(Some("2026-08-01T12:00:00Z"), "b");
        let cases = [
            (made(Some("2026-08-01T12:00:01Z"), "a"), Ordering::Less),
            (made(Some("2026-08-01T12:00:00.5Z"), "a"), Ordering::Less),
            (made(Some("2026-08-01T12:00:00.000Z"), "a"), Ordering::Greater),
            (made(Some("2026-08-01T12:00:00Z"), "c"), Ordering::Less),
            (made(Some("2026-08-01T11:59:59.9Z"), "z"), Ordering::Greater),
            (made(None, "a"), Ordering::Less),
        ];
        for (other, expected) in cases {
            assert_eq!(base.by_age(&other), expected, "{other:?}");
            assert_eq!(other.by_age(&base), expected.reverse(), "{other:?}");
        }
    }
}
