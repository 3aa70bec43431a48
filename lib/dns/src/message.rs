//! The few things about a message that are read and written without decoding all of it.

/// The length of a message's header in bytes.
pub(crate) const HEADER: usize = 12;

/// The longest message.
pub(crate) const MAX_MESSAGE: usize = 65_535;

/// Response codes of RFC 1035 §4.1.1 that this crate gives itself, and those that say that a name is unknown, or that
/// another server should be asked.
pub(crate) const FORMAT_ERROR: u8 = 1;
pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NO_SUCH_NAME: u8 = 3;
pub(crate) const NOT_IMPLEMENTED: u8 = 4;
pub(crate) const REFUSED: u8 = 5;

#[cfg(test)]
mod tests;

/// Whether `answer` is an answer to `query`, which was sent with this id: the same operation and question, and a
/// response. Never panics, whatever the bytes.
pub fn is_answer(answer: &[u8], query: &[u8], id: [u8; 2]) -> bool {
    match (Raw::new(answer), Raw::new(query)) {
        (Some(answer), Some(query)) => answer.answers(query, id),
        _ => false,
    }
}

const RESPONSE_BIT: u8 = 0x80;
const RECURSION_AVAILABLE_BIT: u8 = 0x80;

/// A message that is at least a header long.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'m>(&'m [u8]);

impl<'m> Raw<'m> {
    pub(crate) fn new(message: &'m [u8]) -> Option<Self> {
        (HEADER..=MAX_MESSAGE)
            .contains(&message.len())
            .then_some(Self(message))
    }

    pub(crate) fn id(self) -> [u8; 2] {
        [self.0[0], self.0[1]]
    }

    pub(crate) fn is_response(self) -> bool {
        self.0[2] & RESPONSE_BIT != 0
    }

    pub(crate) fn operation(self) -> u8 {
        (self.0[2] >> 3) & 0x0f
    }

    pub(crate) fn response_code(self) -> u8 {
        self.0[3] & 0x0f
    }

    pub(crate) fn questions(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The bytes of the only question: name, type, class. Nothing if there is not exactly one, or it is malformed.
    pub(crate) fn question(self) -> Option<&'m [u8]> {
        if self.questions() != 1 {
            return None;
        }
        let mut at = HEADER;
        loop {
            let length = usize::from(*self.0.get(at)?);
            // There is nothing before the first name that it could point back to (RFC 1035 §4.1.4).
            if length > 63 || at - HEADER > 255 {
                return None;
            }
            at += 1 + length;
            if length == 0 {
                return self.0.get(HEADER..at + 4);
            }
        }
    }

    /// An answer that carries nothing but a response code and the question.
    pub(crate) fn failure(self, code: u8) -> Vec<u8> {
        let question = self.question();
        let mut answer = Vec::with_capacity(HEADER + question.map_or(0, <[u8]>::len));
        answer.extend(self.id());
        // The operation and RD are copied; AA and TC are not set.
        answer.push(RESPONSE_BIT | (self.0[2] & 0x79));
        answer.push(RECURSION_AVAILABLE_BIT | code);
        answer.extend([0, u8::from(question.is_some()), 0, 0, 0, 0, 0, 0]);
        answer.extend(question.unwrap_or_default());
        answer
    }

    /// The record type of the only question.
    pub(crate) fn question_type(self) -> Option<u16> {
        let question = self.question()?;
        let [.., high, low, _, _] = question else {
            return None;
        };
        Some(u16::from_be_bytes([*high, *low]))
    }

    /// Whether this is the answer to `query`, which was sent with the id `id`.
    pub(crate) fn answers(self, query: Self, id: [u8; 2]) -> bool {
        if self.id() != id || !self.is_response() || self.operation() != query.operation() {
            return false;
        }
        match (self.question(), query.question()) {
            (Some(answered), Some(asked)) => answered.eq_ignore_ascii_case(asked),
            // Servers leave the question out where they did not understand it.
            (None, Some(_)) => self.questions() == 0 && self.response_code() != 0,
            (_, None) => true,
        }
    }
}
