//! Fixed digests, and bits made of bits: the same in every process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// A digest of a uid. It is a keyed hash with a known key: finding a second uid for a digest takes 2^64 attempts,
/// and two uids with one digest would only share what was seen of them.
pub(crate) fn digest(uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

/// A digest of an address.
pub(crate) fn digest_of_address(address: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}

/// A stream of evenly spread bits made of 64 (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Mixer(u64);

impl Mixer {
    pub(crate) fn new(entropy: u64) -> Self {
        Self(entropy)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// One of `0..total`; 0 where there is none.
    pub(crate) fn below(&mut self, total: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(total)) >> 64) as u64
    }
}
