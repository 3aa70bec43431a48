//! Text to objects.

use std::collections::HashMap;

use serde_json::Value;

use crate::authorization_policy::AuthorizationPolicy;
use crate::config_map::ConfigMap;
use crate::deployment::Deployment;
use crate::document::{self, Data, Tree, quoted};
use crate::endpoint_slice::EndpointSlice;
use crate::error::{ParseError, ParseErrors};
use crate::foreign::foreign_policy;
use crate::gateway::Gateway;
use crate::gateway_class::GatewayClass;
use crate::kind::{Kind, ObjectKey};
use crate::metadata::Metadata;
use crate::network_policy::NetworkPolicy;
use crate::node::Node;
use crate::object::{Object, Spec};
use crate::peer_authentication::PeerAuthentication;
use crate::pod::Pod;
use crate::read::{Field, Fields, Reader, in_words};
use crate::service::Service;
use crate::service_entry::ServiceEntry;
use crate::workload_entry::WorkloadEntry;
use crate::workload_group::WorkloadGroup;

/// How many errors are reported for one text; a text with more is hardly a manifest.
pub const MAX_ERRORS: usize = 100;

/// Reads every object of a manifest: several documents, and `List`s of objects. `file` is the name for messages.
///
/// # Errors
/// All that is wrong, in the order of the text, up to [`MAX_ERRORS`]. Nothing is returned of a text with an error.
pub fn parse(file: &str, text: &str) -> Result<Vec<Object>, ParseErrors> {
    let (documents, text_errors) = document::read(text);
    let mut errors: Vec<ParseError> = text_errors
        .into_iter()
        .map(|error| at(file, error.line, None, error.problem))
        .collect();
    let mut objects: Vec<Object> = Vec::new();
    let mut lines: HashMap<ObjectKey, usize> = HashMap::new();
    for tree in flatten(file, &documents, &mut errors) {
        match object(file, tree) {
            Ok(object) => {
                match lines.get(&object.key()) {
                    Some(first) => {
                        let problem = format!("is defined twice: on line {first} and on line {}", tree.line);
                        errors.push(at(file, tree.line, Some(object.key().to_string()), problem));
                    }
                    None => drop(lines.insert(object.key(), tree.line)),
                }
                objects.push(object);
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        return Ok(objects);
    }
    errors.sort_by_key(|error| error.line);
    if errors.len() > MAX_ERRORS {
        let left = errors.len() - MAX_ERRORS;
        errors.truncate(MAX_ERRORS);
        errors.push(ParseError {
            file: file.to_owned(),
            line: None,
            object: None,
            field: String::new(),
            problem: format!("and {left} further errors"),
        });
    }
    Err(ParseErrors(errors))
}

/// Reads one object that is stored already, where `key` belongs. What [`parse`] would refuse in a policy is kept as
/// what cannot be read, and can only close: a policy never vanishes because a part of it is not understood.
///
/// # Errors
/// When the text is not a document, not the object of that key, or no policy and wrong in any way; a Service is wrong by the
/// rules of API servers, which let more pass.
pub fn parse_stored(file: &str, text: &str, key: &ObjectKey) -> Result<Object, ParseErrors> {
    let (documents, errors) = document::read(text);
    if !errors.is_empty() {
        let errors = errors.into_iter();
        let errors = errors.map(|error| at(file, error.line, None, error.problem));
        return Err(ParseErrors(errors.collect()));
    }
    match documents.as_slice() {
        [tree] => stored(file, tree, key),
        _ => {
            let problem = format!("holds {} objects instead of one", documents.len());
            Err(ParseErrors(vec![at(file, 0, None, problem)]))
        }
    }
}

/// The objects of the documents, those inside of Lists included.
pub(crate) fn flatten<'a>(file: &str, documents: &'a [Tree], errors: &mut Vec<ParseError>) -> Vec<&'a Tree> {
    let mut trees = Vec::new();
    for tree in documents {
        if tree.get("kind").and_then(Tree::text) != Some("List") {
            trees.push(tree);
            continue;
        }
        let reader = Reader::new(file, Some("List".to_owned()));
        if let Some(mut fields) = Field::root(&reader, tree).fields() {
            fields.keep(&["kind", "metadata"]);
            if let Some(version) = fields.require("apiVersion", "use v1") {
                version.choice(&[("v1", ())]);
            }
            if let Some(items) = fields.get("items")
                && !items.tree().is_sequence()
            {
                items.error("must be a list of objects");
            }
            fields.finish();
        }
        errors.extend(reader.into_errors());
        if let Some(Data::Sequence(items)) = tree.get("items").map(|items| &items.data) {
            trees.extend(items);
        }
    }
    trees
}

/// Reads one object; all errors, never an empty list of them.
pub(crate) fn object(file: &str, tree: &Tree) -> Result<Object, Vec<ParseError>> {
    if !matches!(tree.data, Data::Mapping(_)) {
        let problem = format!(
            "a document must be a mapping with apiVersion, kind and metadata, not {}",
            tree.describe()
        );
        return Err(vec![at(file, tree.line, None, problem)]);
    }
    let reader = Reader::new(file, describe(tree));
    let read = Field::root(&reader, tree).fields().and_then(whole);
    let mut errors = reader.into_errors();
    let Some((metadata, spec)) = read else {
        if errors.is_empty() {
            errors.push(at(file, tree.line, describe(tree), "cannot be read".to_owned()));
        }
        return Err(errors);
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut raw = tree.to_value();
    if let (false, Some(Value::Object(written))) = (metadata.namespace.is_empty(), raw.get_mut("metadata")) {
        written.insert("namespace".to_owned(), Value::String(metadata.namespace.clone()));
    }
    Ok(Object::new(metadata, spec, raw))
}

/// Reads one object that is stored already; see [`parse_stored`].
pub(crate) fn stored(file: &str, tree: &Tree, key: &ObjectKey) -> Result<Object, ParseErrors> {
    let errors = match object(file, tree) {
        Ok(object) if object.key() == *key => return Ok(object),
        Ok(object) => {
            let problem = format!("is {} where {key} belongs", object.key());
            return Err(ParseErrors(vec![at(file, tree.line, None, problem)]));
        }
        Err(errors) => errors,
    };
    let text = |name: &str| {
        tree.get("metadata")
            .and_then(|metadata| metadata.get(name))
            .and_then(Tree::text)
    };
    let is_meant = tree.get("kind").and_then(Tree::text) == Some(key.kind.as_str())
        && text("name") == Some(&key.name)
        && text("namespace").unwrap_or(crate::DEFAULT_NAMESPACE) == key.namespace;
    if !is_meant {
        return Err(ParseErrors(errors));
    }
    let reader = Reader::stored(file, describe(tree));
    let Some(mut fields) = Field::root(&reader, tree).fields() else {
        return Err(ParseErrors(errors));
    };
    let before = fields.field().mark();
    let metadata = fields
        .get("metadata")
        .and_then(|field| Metadata::read(key.kind, &field));
    let of_metadata = fields.field().take_back(before);
    if fields
        .get("apiVersion")
        .and_then(|field| field.text())
        .is_none_or(|version| !key.kind.api_versions().contains(&version))
    {
        fields.field().error("the apiVersion is not known");
    }
    fields.keep(&["kind"]);
    let spec = match key.kind {
        Kind::AuthorizationPolicy => {
            let policy = AuthorizationPolicy::read(&mut fields, &key.namespace);
            fields.finish();
            let problems = [of_metadata, in_words(reader.into_errors())].concat();
            let mut policy = policy.unwrap_or_else(|| AuthorizationPolicy::closed(Vec::new()));
            policy.close(problems);
            Spec::AuthorizationPolicy(policy)
        }
        Kind::PeerAuthentication => {
            let policy = PeerAuthentication::read(&mut fields);
            fields.finish();
            let problems = in_words(reader.into_errors());
            let mut policy = policy.unwrap_or_else(|| PeerAuthentication::closed(Vec::new()));
            // Of two policies the older one decides: without an age nobody can tell.
            policy.selects_unknown |= !of_metadata.is_empty();
            policy.close([of_metadata, problems].concat());
            Spec::PeerAuthentication(policy)
        }
        // With the rules of API servers, where those of manifests are narrower.
        Kind::Service => {
            let service = Service::read(&mut fields);
            fields.finish();
            let problems = reader.into_errors();
            match service {
                Some(service) if of_metadata.is_empty() && problems.is_empty() => Spec::Service(service),
                _ if problems.is_empty() => return Err(ParseErrors(errors)),
                _ => return Err(ParseErrors(problems)),
            }
        }
        _ => return Err(ParseErrors(errors)),
    };
    let metadata = metadata.unwrap_or_else(|| Metadata {
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        ..Metadata::default()
    });
    Ok(Object::new(metadata, spec, tree.to_value()))
}

fn whole(mut fields: Fields<'_>) -> Option<(Metadata, Spec)> {
    let version = fields.require("apiVersion", "such as v1");
    let kind = fields.require("kind", "such as Pod")?;
    let word = kind.text()?;
    let Some(found) = Kind::from_manifest(word) else {
        let known = Kind::ALL
            .map(|kind| format!("{kind} ({})", kind.api_versions().join(", ")))
            .join(", ");
        let version = version.as_ref().and_then(|version| version.tree().text());
        let effect = foreign_policy(version.unwrap_or_default(), word).map_or_else(String::new, |policy| {
            format!(
                ", so that nothing of it would be enforced: {}. In the mesh, {}",
                policy.enforced_by, policy.instead
            )
        });
        kind.error(format!(
            "the kind {} is not supported{effect}; supported are {known}, and List (v1)",
            quoted(word)
        ));
        return None;
    };
    if let Some(version) = version {
        version.checked(|text| {
            let accepted = found.api_versions();
            if accepted.contains(&text) {
                return Ok(());
            }
            Err(format!(
                "is not supported for {found}: use {}",
                accepted.join(" or ")
            ))
        });
    }
    let metadata = fields
        .require("metadata", "every object needs a name")
        .and_then(|field| Metadata::read(found, &field));
    let namespace = metadata
        .as_ref()
        .map(|metadata| metadata.namespace.as_str())
        .unwrap_or_default();
    let spec = spec(found, &mut fields, namespace);
    fields.finish();
    Some((metadata?, spec?))
}

fn spec(kind: Kind, fields: &mut Fields<'_>, namespace: &str) -> Option<Spec> {
    Some(match kind {
        Kind::Namespace => {
            for section in ["spec", "status"] {
                if let Some(mut fields) = fields.get(section).and_then(|field| field.fields()) {
                    fields.keep(&["finalizers", "conditions", "phase"]);
                    fields.finish();
                }
            }
            Spec::Namespace
        }
        Kind::ServiceAccount => {
            fields.keep(&["secrets", "imagePullSecrets", "automountServiceAccountToken"]);
            Spec::ServiceAccount
        }
        Kind::Pod => Spec::Pod(Pod::read(fields)),
        Kind::Deployment => Spec::Deployment(Deployment::read(fields)?),
        Kind::Service => Spec::Service(Service::read(fields)?),
        Kind::Node => Spec::Node(Node::read(fields)),
        Kind::EndpointSlice => Spec::EndpointSlice(EndpointSlice::read(fields)?),
        Kind::PeerAuthentication => Spec::PeerAuthentication(PeerAuthentication::read(fields)?),
        Kind::AuthorizationPolicy => Spec::AuthorizationPolicy(AuthorizationPolicy::read(fields, namespace)?),
        Kind::NetworkPolicy => Spec::NetworkPolicy(NetworkPolicy::read(fields)?),
        Kind::Gateway => Spec::Gateway(Gateway::read(fields)?),
        Kind::GatewayClass => Spec::GatewayClass(GatewayClass::read(fields)?),
        Kind::ServiceEntry => Spec::ServiceEntry(ServiceEntry::read(fields)?),
        Kind::WorkloadEntry => Spec::WorkloadEntry(WorkloadEntry::read(fields)?),
        Kind::WorkloadGroup => Spec::WorkloadGroup(WorkloadGroup::read(fields)?),
        Kind::ConfigMap => Spec::ConfigMap(ConfigMap::read(fields)),
    })
}

/// The object's name for messages, as far as it can be told.
fn describe(tree: &Tree) -> Option<String> {
    let kind = tree.get("kind").and_then(Tree::text)?;
    let metadata = tree.get("metadata")?;
    let name = metadata.get("name").and_then(Tree::text)?;
    let plain = |text: &str| text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain(kind) || !plain(name) {
        return None;
    }
    match metadata
        .get("namespace")
        .and_then(Tree::text)
        .filter(|namespace| plain(namespace))
    {
        Some(namespace) => Some(format!("{kind} {namespace}/{name}")),
        None => Some(format!("{kind} {name}")),
    }
}

pub(crate) fn at(file: &str, line: usize, object: Option<String>, problem: String) -> ParseError {
    ParseError {
        file: file.to_owned(),
        line: (line > 0).then_some(line),
        object,
        field: String::new(),
        problem,
    }
}

#[cfg(test)]
mod tests;
