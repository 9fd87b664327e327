//! Chance that repeats: everything drawn is a function of the seed and of what it is drawn for.

/// The finaliser of SplitMix64: every bit of the input reaches every bit of the output.
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number from several.
pub fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x51ed_270b_a5a5_0f2d, |sum, part| mix(sum ^ mix(*part)))
}

/// One number from text.
pub fn hash_text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A sequence of draws.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The sequence that belongs to these numbers.
    pub fn new(parts: &[u64]) -> Self {
        Self(hash(parts))
    }

    /// The next draw.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From nought up to, not including, `end`; nought when there is no room.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { ((u128::from(self.next()) * end as u128) >> 64) as usize }
    }

    /// True in `per_mille` of a thousand draws.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }

    /// One of several; there must be some.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a GUID of version 4 that belongs to two numbers.
pub fn push_guid(out: &mut Vec<u8>, high: u64, low: u64) {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let bytes = (u128::from(high) << 64) | u128::from(low);
    for at in 0..32 {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(HEX[((bytes >> (124 - 4 * at)) & 15) as usize]);
    }
}

/// The GUID of the `n`th thing of a kind.
pub fn guid(seed: u64, kind: &str, n: u64) -> String {
    let first = hash(&[seed, hash_text(kind), n]);
    let mut out = Vec::with_capacity(36);
    push_guid(&mut out, first, mix(first ^ 0x6a09_e667_f3bc_c908));
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_well_formed_and_differ() {
        let one = guid(1, "user", 0);
        assert_eq!(one.len(), 36);
        assert_eq!(uuid::Uuid::parse_str(&one).unwrap().get_version_num(), 4);
        assert_eq!(one, guid(1, "user", 0));
        assert_ne!(one, guid(1, "user", 1));
        assert_ne!(one, guid(2, "user", 0));
        assert_ne!(one, guid(1, "group", 0));
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = Rng::new(&[7]);
        assert!((0..1000).all(|_| rng.below(10) < 10));
        assert_eq!(rng.below(0), 0);
    }
}
