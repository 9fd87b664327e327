//! Paths of records: what a source may show, what a manifest may say, and what a reader accepts.
//!
//! A path is relative, `/`-separated, without empty, `.` or `..` components. Bytes that are not UTF-8,
//! C0 controls, DEL and `%` are percent-encoded with upper-case hex; nothing else is normalised.

use std::fmt::Write as _;

/// The prefix that is reserved for parts of large files.
pub const RESERVED: &str = ".backstop/";

/// Why a path from a manifest is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// Has an empty, `.` or `..` component, also after decoding.
    #[error("it has an empty, `.` or `..` component")]
    Component,
    /// A raw control character, or an escape that is not the one right spelling.
    #[error("it is not encoded as paths are")]
    Encoding,
    /// Decodes to `/` or NUL.
    #[error("it decodes to a slash or NUL")]
    Separator,
    /// Longer than any file system takes.
    #[error("it is longer than 4,096 bytes or has a component of more than 255")]
    Long,
    /// Lies under the reserved prefix.
    #[error("it lies under the reserved prefix .backstop/")]
    Reserved,
}

/// Encodes one component of a path from a file system's bytes, appended to `out`.
pub fn encode_component(raw: &[u8], out: &mut String) {
    let plain = |b: u8| b >= 0x20 && b != 0x7f && b != b'%';
    if raw.iter().all(|b| plain(*b) && b.is_ascii()) {
        // The line above proves it to be ASCII.
        out.push_str(&String::from_utf8_lossy(raw));
        return;
    }
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0'..='\x1f' | '\x7f' | '%' => {
                    let _ = write!(out, "%{:02X}", c as u32);
                }
                _ => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Decodes one component to a file system's bytes; refuses what no writer makes.
pub fn decode_component(text: &str) -> Result<Vec<u8>, PathProblem> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let hex = bytes.get(at + 1..at + 3).ok_or(PathProblem::Encoding)?;
                let digit = |b: u8| match b {
                    b'0'..=b'9' => Ok(b - b'0'),
                    b'A'..=b'F' => Ok(b - b'A' + 10),
                    _ => Err(PathProblem::Encoding),
                };
                out.push(digit(hex[0])? << 4 | digit(hex[1])?);
                at += 3;
            }
            0..=0x1f | 0x7f => return Err(PathProblem::Encoding),
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    if out.contains(&0) || out.contains(&b'/') {
        return Err(PathProblem::Separator);
    }
    if out.is_empty() || out == b"." || out == b".." {
        return Err(PathProblem::Component);
    }
    if out.len() > 255 {
        return Err(PathProblem::Long);
    }
    if bytes.contains(&b'%') {
        // Two spellings of one name would be two records at one place.
        let mut again = String::with_capacity(text.len());
        encode_component(&out, &mut again);
        if again != text {
            return Err(PathProblem::Encoding);
        }
    }
    Ok(out)
}

/// Accepts a path from a manifest or refuses it with the reason.
pub fn check(path: &str) -> Result<(), PathProblem> {
    if path.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    if path.len() > 4096 {
        return Err(PathProblem::Long);
    }
    if path.starts_with(RESERVED) || path == ".backstop" {
        return Err(PathProblem::Reserved);
    }
    let simple = |part: &str| {
        !part.is_empty() && part.len() <= 255 && !part.starts_with('.') && part.bytes().all(|b| b >= 0x20 && b != 0x7f && b != b'%')
    };
    for part in path.split('/') {
        if !simple(part) {
            decode_component(part)?;
        }
    }
    Ok(())
}

/// Decodes a checked path to a file system's bytes.
pub fn decode(path: &str) -> Result<Vec<u8>, PathProblem> {
    check(path)?;
    let mut out = Vec::with_capacity(path.len());
    for part in path.split('/') {
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend(decode_component(part)?);
    }
    Ok(out)
}

/// Whether a symbolic link at `path` with this target leads out of the tree.
pub fn leads_out(path: &str, target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_file_name_comes_back(raw in proptest::collection::vec(1u8..=255, 1..40)) {
            prop_assume!(!raw.contains(&b'/') && raw != b"." && raw != b"..");
            let mut text = String::new();
            encode_component(&raw, &mut text);
            prop_assert_eq!(decode_component(&text).unwrap(), raw);
        }

        #[test]
        fn nothing_decodes_to_a_way_out(text in ".{0,60}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert!(!bytes.starts_with(b"/"));
                prop_assert!(bytes.split(|b| *b == b'/').all(|p| !p.is_empty() && p != b"." && p != b".."));
                prop_assert!(!bytes.contains(&0));
            }
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = "x".repeat(100_000);
        for (path, why) in [
            ("../x", PathProblem::Component),
            ("/etc/passwd", PathProblem::Absolute),
            ("a//b", PathProblem::Component),
            ("a/./b", PathProblem::Component),
            ("a/%2E%2E/b", PathProblem::Component),
            ("a%2Fb", PathProblem::Separator),
            ("a%00b", PathProblem::Separator),
            ("a%2f", PathProblem::Encoding),
            ("a\nb", PathProblem::Encoding),
            ("100%", PathProblem::Encoding),
            ("%41", PathProblem::Encoding),
            ("gr%C3%B6%C3%9Fe", PathProblem::Encoding),
            (".backstop/parts/x", PathProblem::Reserved),
            (long.as_str(), PathProblem::Long),
            ("", PathProblem::Component),
        ] {
            assert_eq!(check(path), Err(why), "{}", &path[..path.len().min(40)]);
        }
        for fine in ["a", "a/b c/ü.json", ".hidden", "a/...", "100%25", "%FF"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn links_that_lead_out() {
        for (path, target, out) in [
            ("a/link", "../b", false),
            ("a/link", "../../b", true),
            ("link", "b/../c", false),
            ("link", "..", true),
            ("a/link", "/etc", true),
            ("a/b/link", "./../../c", false),
        ] {
            assert_eq!(leads_out(path, target.as_bytes()), out, "{path} -> {target}");
        }
    }
}
