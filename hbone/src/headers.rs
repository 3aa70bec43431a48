use http::{HeaderMap, HeaderName, HeaderValue};

/// A header to send: a lower-case name and its value.
pub type Header = (&'static str, String);

/// The headers of the peer's answer.
#[derive(Clone, Debug)]
pub struct ResponseHeaders(pub(crate) HeaderMap);

impl ResponseHeaders {
    /// All values of this header in order, as sent.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        values(&self.0, name)
    }

    /// The first value of this header, if it is visible ASCII.
    pub fn first(&self, name: &str) -> Option<&str> {
        first(&self.0, name)
    }
}

pub(crate) fn values<'a>(map: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    map.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

pub(crate) fn first<'a>(map: &'a HeaderMap, name: &str) -> Option<&'a str> {
    map.get(name)?.to_str().ok()
}

/// Turns headers into the library's form; the error names the one that cannot be sent.
pub(crate) fn encode(headers: impl IntoIterator<Item = Header>) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map_err(|_| name)?;
        map.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| name)?, value);
    }
    Ok(map)
}
