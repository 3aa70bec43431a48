/// A pseudo-random sequence (xorshift64*), quick enough to make and to check gigabytes. The same seed gives the same
/// bytes.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Random {
        // Spread, so that neighbouring seeds differ from the first byte on; never zero, where xorshift stays.
        Random((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// A seed from the clock, printed for `what` so that a failure can be repeated.
    pub fn seed(what: &str) -> u64 {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let seed = match std::env::var("TEST_SEED") {
            Ok(text) => text.parse().expect("TEST_SEED is a number"),
            Err(_) => now.as_nanos() as u64,
        };
        println!("{what}: seed {seed} (TEST_SEED={seed} repeats it)");
        seed
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next bytes; a length that is no multiple of 8 throws away the rest of the last number.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut lanes = buffer.chunks_exact_mut(8);
        for lane in &mut lanes {
            lane.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        let rest = lanes.into_remainder();
        if !rest.is_empty() {
            let bytes = self.next_u64().to_le_bytes();
            rest.copy_from_slice(&bytes[..rest.len()]);
        }
    }
}
