//! The plaintext of a sealed object: its outer form is judged without a panic, and what passes is of a
//! Padmé size and not without padding. Also age's own header, as far as it is read before a key fits.
#![no_main]

use backstop::vault::keys::Identities;
use backstop::vault::seal::{check_frames, decrypt, padme};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if check_frames(data).is_ok() {
        assert_eq!(padme(data.len() as u64), data.len() as u64);
        assert!(data.len() >= 8);
    }
    assert!(decrypt(data, &Identities::default()).is_err(), "no key opens this");
});
