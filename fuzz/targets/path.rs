//! Paths: every name of a file system comes back from its encoding, and nothing that is accepted leads out
//! of the target or has a second spelling.
#![no_main]

use backstop::path::{check, decode, decode_component, encode_component, leads_out};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let name = !data.is_empty() && data.len() <= 255 && !data.contains(&0) && !data.contains(&b'/') && data != b"." && data != b"..";
    if name {
        let mut text = String::new();
        encode_component(data, &mut text);
        assert_eq!(decode_component(&text).as_deref(), Ok(data));
    }
    let text = String::from_utf8_lossy(data);
    assert_eq!(check(&text).is_ok(), decode(&text).is_ok());
    if let Ok(raw) = decode(&text) {
        let mut again = String::new();
        for (n, part) in raw.split(|b| *b == b'/').enumerate() {
            again.push_str(if n > 0 { "/" } else { "" });
            encode_component(part, &mut again);
        }
        assert_eq!(again, text, "a name has one spelling");
        assert!(!raw.starts_with(b"/") && !raw.contains(&0));
        assert!(raw.split(|b| *b == b'/').all(|part| !part.is_empty() && part != b"." && part != b".." && part.len() <= 255));
    }
    let _ = leads_out(&text, data);
});
