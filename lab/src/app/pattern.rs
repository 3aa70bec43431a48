/// An endless stream of pseudo-random bytes (splitmix64): the same for the same seed, different for others. Good
/// enough to see every lost, doubled or swapped byte.
pub(super) struct Pattern {
    state: u64,
    left: [u8; 8],
    used: usize,
}

impl Pattern {
    /// The stream of this seed and connection.
    pub(super) fn new(seed: u64, connection: u64) -> Pattern {
        Pattern {
            state: seed ^ connection.wrapping_mul(0xd134_2543_de82_ef95),
            left: [0; 8],
            used: 8,
        }
    }

    /// The next `out.len()` bytes.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while self.used < 8 && !rest.is_empty() {
            rest[0] = self.left[self.used];
            self.used += 1;
            rest = &mut rest[1..];
        }
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next());
        }
        let tail = words.into_remainder();
        if !tail.is_empty() {
            self.left = self.next();
            self.used = tail.len();
            tail.copy_from_slice(&self.left[..self.used]);
        }
    }

    fn next(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // No byte is an ASCII letter at the start of a word, so the stream is never taken for HTTP.
        ((word ^ (word >> 31)) | 0x80).to_le_bytes()
    }
}
