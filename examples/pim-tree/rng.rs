//! Deterministic randomness: everything is drawn from a key (seed, purpose, index), never from a
//! stream that an earlier record has advanced. So record 70,000 can be made without the records
//! before it, and adding a record changes no other.

/// One step of splitmix64; also a good mixer of keys.
const fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// xoshiro256**, seeded by a key.
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator of its own for each key.
    pub fn keyed(key: &[u64]) -> Self {
        let mut state = key.iter().fold(0x006b_6565_7073_6166, |state, &part| splitmix(state ^ splitmix(part)));
        Self(std::array::from_fn(|_| {
            state = splitmix(state);
            state
        }))
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// A number below `limit` (0 when `limit` is 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(u64::MAX)
    }

    /// An index below `limit` (0 when `limit` is 0).
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(usize::MAX)
    }

    /// An index below `limit` that favours small ones, as a tenant favours some groups and roles.
    pub fn skewed(&mut self, limit: usize) -> usize {
        let (a, b, c) = (self.index(limit), self.index(limit), self.index(limit));
        a.min(b).min(c)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One element of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// A random GUID (version 4) in lower case.
    pub fn guid(&mut self) -> String {
        let high = (self.bits() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.bits() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff)
    }

    /// `length` characters of base64's alphabet, as key identifiers and immutable ids have.
    pub fn base64(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length).map(|_| char::from(self.pick(ALPHABET))).collect()
    }

    /// `length` decimal digits, the first one not 0.
    pub fn digits(&mut self, length: u32) -> u64 {
        let low = 10_u64.pow(length - 1);
        low + self.below(low * 9)
    }
}

/// Milliseconds since 1970 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    pub const SECOND: u64 = 1_000;
    pub const DAY: u64 = 86_400 * Self::SECOND;

    /// RFC 3339 with whole seconds.
    pub fn seconds(self) -> String {
        let (date, clock) = self.parts();
        format!("{date}T{clock}Z")
    }

    /// RFC 3339 with milliseconds.
    pub fn millis(self) -> String {
        let (date, clock) = self.parts();
        format!("{date}T{clock}.{:03}Z", self.0 % Self::SECOND)
    }

    /// The date alone.
    pub fn date(self) -> String {
        self.parts().0
    }

    fn parts(self) -> (String, String) {
        // Days to civil date in the proleptic Gregorian calendar, years that begin in March.
        let days = self.0 / Self::DAY + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let second = self.0 / Self::SECOND % 86_400;
        (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60))
    }
}
