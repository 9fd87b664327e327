//! A bundle of envelopes: lines come back as they were put in, and nothing else makes it panic.
#![no_main]

use backstop::vault::read_bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = read_bundle(data);
    // No envelope is shorter than its signature.
    let lines: Vec<Vec<u8>> = data.split(|b| *b == b'\n').map(|line| [&[b'e'; 300], line].concat()).collect();
    let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\n"]).flatten().copied().collect();
    let packed = zstd::bulk::compress(&text, 1).expect("zstd compresses");
    // Envelopes hardly compress; a bundle that unpacks to much more than its size is refused.
    if text.len() < 1 << 20 {
        assert_eq!(read_bundle(&packed).expect("its own bundle"), lines);
    }
    if let Some(cut) = text.strip_suffix(b"\n") {
        let packed = zstd::bulk::compress(cut, 1).expect("zstd compresses");
        assert!(read_bundle(&packed).is_err(), "its last line has no end");
        let packed = zstd::bulk::compress(&[&text, b"\n".as_slice()].concat(), 1).expect("zstd compresses");
        assert!(read_bundle(&packed).is_err(), "a line is empty");
    }
});
