//! Bodies in Kubernetes' protobuf, in which kubectl sends what it makes itself (`kubectl create namespace`). Read
//! only, and only the kinds of [`messages`]; answers are always JSON.

mod messages;

#[cfg(test)]
mod tests;

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::messages::{Field, Form, Message};
use crate::status::StatusError;

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may be nested.
const MAX_DEPTH: usize = 16;

/// The object in a body: an envelope (`runtime.Unknown`) with its type, and the message.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, StatusError> {
    let broken = || StatusError::bad_request("the body is no Kubernetes protobuf");
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut kind, mut api_version, mut raw) = (String::new(), String::new(), &b""[..]);
    for field in fields(envelope) {
        match field.ok_or_else(broken)? {
            (1, Wire::Bytes(inner)) => {
                for field in fields(inner) {
                    match field.ok_or_else(broken)? {
                        (1, Wire::Bytes(text)) => api_version = text_of(text).ok_or_else(broken)?,
                        (2, Wire::Bytes(text)) => kind = text_of(text).ok_or_else(broken)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(inner)) => raw = inner,
            _ => {}
        }
    }
    let message = messages::of_kind(&kind).ok_or_else(|| {
        StatusError::unsupported_media_type(&format!(
            "application/json (a {kind} in protobuf is not read here)"
        ))
    })?;
    let mut object = object(raw, message, 0).ok_or_else(broken)?;
    object.insert("kind".to_owned(), json!(kind));
    object.insert("apiVersion".to_owned(), json!(api_version));
    Ok(Value::Object(object))
}

enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message; `None` for what cannot be read, after which nothing follows.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Wire<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = next_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field)
    })
}

fn next_field<'b>(bytes: &mut &'b [u8]) -> Option<(u64, Wire<'b>)> {
    let tag = varint(bytes)?;
    let mut take = |length: usize| {
        let (head, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(head)
    };
    let value = match tag & 7 {
        1 => Wire::Number(u64::from_le_bytes(take(8)?.try_into().ok()?)),
        5 => Wire::Number(u64::from(u32::from_le_bytes(take(4)?.try_into().ok()?))),
        0 => Wire::Number(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (head, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Wire::Bytes(head)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn object(bytes: &[u8], message: Message, depth: usize) -> Option<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut object = Map::new();
    for field in fields(bytes) {
        let (number, wire) = field?;
        let Some(Field { name, form, .. }) = message.iter().find(|field| field.number == number) else {
            continue;
        };
        match (form, wire) {
            (Form::Text, Wire::Bytes(text)) => {
                let text = text_of(text)?;
                // What is empty was not said: Kubernetes writes every plain field.
                if !text.is_empty() {
                    object.insert((*name).to_owned(), json!(text));
                }
            }
            (Form::Texts, Wire::Bytes(text)) => push(&mut object, name, json!(text_of(text)?)),
            (Form::Number, Wire::Number(0)) | (Form::Flag, Wire::Number(0)) => {}
            (Form::Number | Form::NumberOrNothing, Wire::Number(number)) => {
                object.insert((*name).to_owned(), json!(number.cast_signed()));
            }
            (Form::Flag | Form::FlagOrNothing, Wire::Number(number)) => {
                object.insert((*name).to_owned(), json!(number != 0));
            }
            (Form::TextMap | Form::BytesMap, Wire::Bytes(entry)) => {
                let (mut key, mut value) = (String::new(), Value::from(""));
                for field in fields(entry) {
                    match field? {
                        (1, Wire::Bytes(text)) => key = text_of(text)?,
                        (2, Wire::Bytes(bytes)) if *form == Form::BytesMap => {
                            value = json!(BASE64.encode(bytes))
                        }
                        (2, Wire::Bytes(text)) => value = json!(text_of(text)?),
                        _ => {}
                    }
                }
                let map = object.entry(*name).or_insert_with(|| json!({}));
                map[key] = value;
            }
            (Form::One(inner), Wire::Bytes(bytes)) => {
                let value = self::object(bytes, inner, depth + 1)?;
                if !value.is_empty() {
                    object.insert((*name).to_owned(), Value::Object(value));
                }
            }
            (Form::Many(inner), Wire::Bytes(bytes)) => {
                push(
                    &mut object,
                    name,
                    Value::Object(self::object(bytes, inner, depth + 1)?),
                );
            }
            (Form::Time, Wire::Bytes(bytes)) => {
                if let Some(text) = time_of(bytes)? {
                    object.insert((*name).to_owned(), json!(text));
                }
            }
            (Form::NumberOrText, Wire::Bytes(bytes)) => {
                object.insert((*name).to_owned(), number_or_text(bytes)?);
            }
            _ => return None,
        }
    }
    Some(object)
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A time; nothing for the zero time, which is an empty message.
fn time_of(bytes: &[u8]) -> Option<Option<String>> {
    let mut seconds = 0;
    for field in fields(bytes) {
        if let (1, Wire::Number(number)) = field? {
            seconds = number.cast_signed();
        }
    }
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some((seconds > 0).then(|| time.format(&Rfc3339).unwrap_or_default()))
}

/// `IntOrString`: type, number, text.
fn number_or_text(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Wire::Number(form)) => is_text = form == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = text_of(value)?,
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number) })
}
