//! `traceparent` (W3C Trace Context, level 1): the id under which both proxies log a connection.

use std::fmt;

/// One hop's trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    parent: u64,
    flags: u8,
}

impl TraceContext {
    /// A new trace, not sampled.
    pub fn new(entropy: [u64; 3]) -> Self {
        let [high, low, parent] = entropy;
        // An id of zeros means "none" (section 3.2.2.3).
        Self {
            trace: (u128::from(high) << 64 | u128::from(low)).max(1),
            parent: parent.max(1),
            flags: 0,
        }
    }

    /// Reads the header. None when it is malformed: then a new trace begins (section 4.3).
    ///
    /// A version later than 00 is read as far as 00 goes (section 3.2.4).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let version = hex(text.get(..2)?)?;
        let rest = match text.get(2..55)? {
            rest if text.len() == 55 => rest,
            rest if version > 0 && text.as_bytes()[55] == b'-' => rest,
            _ => return None,
        };
        let mut fields = rest.strip_prefix('-')?.split('-');
        let (trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let sized = trace.len() == 32 && parent.len() == 16 && flags.len() == 2 && fields.next().is_none();
        let found = Self {
            trace: hex(trace)?,
            parent: u64::try_from(hex(parent)?).ok()?,
            flags: u8::try_from(hex(flags)?).ok()?,
        };
        (sized && version != 0xff && found.trace != 0 && found.parent != 0).then_some(found)
    }

    /// The trace's id in 32 hexadecimal digits, as logs have it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// The header's value.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace, self.parent, self.flags
        )
    }
}

/// Lower-case digits only, as the specification wants them.
fn hex(text: &str) -> Option<u128> {
    let digits = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if digits {
        u128::from_str_radix(text, 16).ok()
    } else {
        None
    }
}
