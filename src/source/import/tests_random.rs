//! Random files against serde_json and the csv crate.

use std::io::Read;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::tests::{import, pointers};
use super::*;

#[test]
fn csv_agrees_with_the_csv_crate() {
    let mut random = Random(7);
    for round in 0..300 {
        let columns = 2 + round % 4;
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
        writer.write_record(&names).unwrap();
        let mut expected = String::new();
        for _ in 0..20 {
            let row: Vec<String> = (0..columns).map(|_| random.text()).collect();
            writer.write_record(&row).unwrap();
            for (column, value) in row.iter().enumerate() {
                let mark = if column == 0 { '{' } else { ',' };
                expected += &format!("{mark}\"c{column}\":{}", Value::from(value.as_str()));
            }
            expected += "}\n";
        }
        let file = writer.into_inner().unwrap();
        assert_eq!(import(file, Format::Auto, 64).unwrap().lines, expected);
    }
}

/// A small source of repeatable randomness.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) as usize) % limit
    }

    fn text(&mut self) -> String {
        let parts = ["a", "\"", ",", "\n", "\r\n", " ", "ü", "\\", "{}", "12345678"];
        (0..self.below(6)).map(|_| parts[self.below(parts.len())]).collect()
    }

    fn blank(&mut self, out: &mut String) {
        (0..self.below(4)).for_each(|_| out.push_str([" ", "\t", "\n", "\r"][self.below(4)]));
    }

    fn value(&mut self, depth: usize, out: &mut String) {
        self.blank(out);
        let kinds = if depth == 0 { 6 } else { 8 };
        match self.below(kinds) {
            0 => out.push_str(["0", "-0.0", "12e5", "1E-2", "9007199254740993"][self.below(5)]),
            1 => out.push_str(["true", "false", "null"][self.below(3)]),
            2 => out.push_str("\"\\u00e4 \\\\ \\\" \\ud83d\\ude00 \""),
            3..6 => out.push_str(&Value::from(self.text()).to_string()),
            6 => self.object(depth - 1, out),
            _ => {
                out.push('[');
                for element in 0..self.below(4) {
                    out.push_str(if element == 0 { "" } else { "," });
                    self.value(depth - 1, out);
                }
                self.blank(out);
                out.push(']');
            }
        }
        self.blank(out);
    }

    fn object(&mut self, depth: usize, out: &mut String) {
        out.push('{');
        for member in 0..self.below(5) {
            out.push_str(if member == 0 { "" } else { "," });
            self.blank(out);
            out.push_str(&Value::from(self.text()).to_string());
            self.blank(out);
            out.push(':');
            self.value(depth, out);
        }
        self.blank(out);
        out.push('}');
    }
}

/// Removes white space outside strings, one byte at a time.
fn strip(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |c: &char| {
        let kept = inside || !" \t\r\n".contains(*c);
        inside ^= *c == '"' && !escaped;
        escaped = inside && *c == '\\' && !escaped;
        kept
    };
    text.chars().filter(keep).collect()
}

#[test]
fn only_white_space_is_lost() {
    let mut random = Random(1);
    for round in 0..400 {
        let objects: Vec<String> = (0..12)
            .map(|_| {
                let mut text = String::new();
                random.object(4, &mut text);
                text
            })
            .collect();
        let expected: String = objects.iter().map(|o| strip(o) + "\n").collect();
        for (object, line) in objects.iter().zip(expected.lines()) {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(object), parse(line));
        }
        let chunk_bytes = [1, 50, 500, 1 << 16][round % 4];
        let one_line: Vec<String> = objects.iter().map(|o| o.replace(['\n', '\r'], " ")).collect();
        for file in [
            format!("[{}]", objects.join(" ,")),
            format!("{{\"@odata.context\":1,\"value\":[{}]}}", objects.join(",")),
            objects.join("\n"),
            one_line.join("\n"),
            one_line.join(" "),
        ] {
            assert_eq!(import(&file, Format::Auto, chunk_bytes).unwrap().lines, expected, "{file}");
        }
    }
}

#[test]
fn accepts_what_serde_json_accepts() {
    let mut random = Random(3);
    let bytes = b"{}[]\",:\\u0d8tfn-+.eE19 \n\x01\0\xff\xc3";
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..30_000 {
        let mut text = String::new();
        random.object(3, &mut text);
        let mut line = text.replace(['\n', '\r'], " ").into_bytes();
        for _ in 0..random.below(3) {
            let at = random.below(line.len());
            match random.below(3) {
                0 => line[at] = bytes[random.below(bytes.len())],
                1 => line.insert(at, bytes[random.below(bytes.len())]),
                _ => drop(line.remove(at)),
            }
        }
        if line.contains(&b'\n') || line.trim_ascii().first() != Some(&b'{') {
            continue;
        }
        let valid = std::str::from_utf8(&line).is_ok() && serde_json::from_slice::<IgnoredAny>(&line).is_ok();
        assert_eq!(event_key(&line, &pointers()).is_ok(), valid, "{}", line.escape_ascii());
        // A slow reader must not change anything.
        let slow = ChunkReader::open(Drip(line.clone().into_iter()), Format::Ndjson, 9);
        let slow = slow.and_then(|mut r| r.next_chunk()).and_then(|chunk| normalise(&chunk.unwrap(), &pointers()));
        assert!(slow.is_ok() || !valid, "{}", line.escape_ascii());
        *(if valid { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 5_000 && refused > 5_000, "{accepted} {refused}");
}

/// Gives one byte at a time.
struct Drip(std::vec::IntoIter<u8>);

impl Read for Drip {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(place) = buf.first_mut() else {
            return Ok(0);
        };
        Ok(self.0.next().map(|byte| *place = byte).map_or(0, |()| 1))
    }
}
