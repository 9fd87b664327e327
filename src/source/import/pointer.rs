//! Finds an event's id and time by JSON pointer (RFC 6901) while checking it.
//!
//! Promises: one pass checks the whole event and finds all pointers; a key that
//! an object has twice counts with its last value, as in `serde_json`; keys are
//! compared after their escapes are undone.
//!
//! Must never: reject or change an event for what a pointer does or does not
//! find.
//!
//! Leaves to others: making sense of the texts found.

use std::borrow::Cow;

use super::error::ImportError;
use super::scan::{Fault, Kind, Scanner, Sink};

/// Where events carry their id and their time: JSON pointers such as `/id` or
/// `/properties/createdDateTime`, best first. The first pointer that leads to
/// a string (not an empty one), a number or a boolean wins; null, an empty
/// string, an array or an object counts as absent. Either list may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pointers {
    /// Pointers to the id.
    pub id: Vec<String>,
    /// Pointers to the time.
    pub time: Vec<String>,
}

impl Pointers {
    /// Checks the spelling of all pointers: empty or starting with `/`, and
    /// `~` only as `~0` (a tilde) or `~1` (a slash).
    ///
    /// # Errors
    /// Names the first pointer that is misspelt; the error has no line.
    pub fn new(id: Vec<String>, time: Vec<String>) -> Result<Self, ImportError> {
        let pointers = Self { id, time };
        Paths::new(&pointers)?;
        Ok(pointers)
    }
}

/// A scalar that a pointer led to, as a range of the scanned data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    start: usize,
    end: usize,
    /// A string; the range leaves out its quotes. Otherwise a number or boolean.
    pub(super) string: bool,
}

impl Found {
    /// The text: a string's content with its escapes undone (or left as they
    /// are if they name half a surrogate pair), or the JSON spelling.
    pub(super) fn text<'a>(&self, data: &'a [u8]) -> Cow<'a, str> {
        let raw = &data[self.start..self.end];
        if self.string && memchr::memchr(b'\\', raw).is_some() {
            let quoted = &data[self.start - 1..=self.end];
            if let Ok(text) = serde_json::from_slice::<String>(quoted) {
                return text.into();
            }
        }
        String::from_utf8_lossy(raw)
    }
}

/// All pointers as one tree, ready for [`Scanner::walk`].
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    ids: usize,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Token as a key, token as an array index, node below.
    below: Vec<(Vec<u8>, Option<usize>, usize)>,
    /// Bit `n % 64` is set if a key below has `n` bytes.
    lengths: u64,
    /// Pointers that end here, as indices into the list of what was found.
    slots: Vec<usize>,
}

impl Paths {
    /// Builds the tree; errors as [`Pointers::new`].
    pub(super) fn new(pointers: &Pointers) -> Result<Self, ImportError> {
        let mut paths = Self { nodes: vec![Node::default()], ids: pointers.id.len(), slots: 0 };
        for pointer in pointers.id.iter().chain(&pointers.time) {
            let mut node = 0;
            let mut tokens = pointer.split('/');
            if tokens.next() != Some("") {
                return Err(misspelt(pointer));
            }
            for token in tokens {
                let token = unescape(token).ok_or_else(|| misspelt(pointer))?;
                node = paths.below_or_new(node, token);
            }
            paths.nodes[node].slots.push(paths.slots);
            paths.slots += 1;
        }
        Ok(paths)
    }

    /// Room for what [`Scanner::walk`] finds.
    pub(super) fn room(&self) -> Vec<Option<Found>> {
        vec![None; self.slots]
    }

    /// The id and the time among what was found.
    pub(super) fn pick(&self, found: &[Option<Found>]) -> (Option<Found>, Option<Found>) {
        let (ids, times) = found.split_at(self.ids);
        let first = |list: &[Option<Found>]| list.iter().flatten().next().copied();
        (first(ids), first(times))
    }

    fn below_or_new(&mut self, node: usize, token: String) -> usize {
        let token = token.into_bytes();
        if let Some((.., below)) = self.nodes[node].below.iter().find(|(key, ..)| *key == token) {
            return *below;
        }
        let new = self.nodes.len();
        let index = array_index(&token);
        self.nodes[node].lengths |= length_bit(&token);
        self.nodes[node].below.push((token, index, new));
        self.nodes.push(Node::default());
        new
    }

    /// The node for a key as it is spelt in the event.
    #[inline]
    fn below_key(&self, node: usize, raw: &[u8], escaped: bool) -> Option<usize> {
        let node = &self.nodes[node];
        let find = |key: &[u8]| node.below.iter().find(|(k, ..)| k == key).map(|b| b.2);
        if escaped {
            let quoted = [b"\"", raw, b"\""].concat();
            return find(serde_json::from_slice::<String>(&quoted).ok()?.as_bytes());
        }
        if node.lengths & length_bit(raw) == 0 {
            return None;
        }
        find(raw)
    }

    fn below_index(&self, node: usize, index: usize) -> Option<usize> {
        self.nodes[node].below.iter().find(|(_, i, _)| *i == Some(index)).map(|b| b.2)
    }

    /// Forgets what was found at and below a node.
    fn clear(&self, node: usize, found: &mut [Option<Found>]) {
        for &slot in &self.nodes[node].slots {
            found[slot] = None;
        }
        for &(.., below) in &self.nodes[node].below {
            self.clear(below, found);
        }
    }
}

fn length_bit(key: &[u8]) -> u64 {
    1 << (key.len() % 64)
}

fn misspelt(pointer: &str) -> ImportError {
    ImportError::without_place(
        format!("{pointer:?} is not a JSON pointer"),
        "start it with `/`, as in /properties/id, and write `~` as ~0 and `/` in a name as ~1",
    )
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        text.push(if part.starts_with('0') {
            '~'
        } else if part.starts_with('1') {
            '/'
        } else {
            return None;
        });
        text.push_str(&part[1..]);
    }
    Some(text)
}

/// A token as an array index: digits without leading zeros.
fn array_index(token: &[u8]) -> Option<usize> {
    if token.iter().all(u8::is_ascii_digit) && (token.len() == 1 || !token.starts_with(b"0")) {
        return std::str::from_utf8(token).ok()?.parse().ok();
    }
    None
}

impl<S: Sink> Scanner<'_, S> {
    /// Passes one object, which must be next, and notes in `found` what the
    /// pointers lead to. `found` comes from [`Paths::room`].
    #[inline]
    pub(super) fn event(&mut self, paths: &Paths, found: &mut [Option<Found>]) -> Result<(), Fault> {
        if self.peek() != b'{' {
            return self.fault(self.pos, Kind::NotObject);
        }
        found.fill(None);
        self.depth = 0;
        self.walk(paths, 0, found)
    }

    /// As `skip`, noting what the pointers at and below `node` lead to. Goes
    /// no deeper than the pointers and the nesting limit do.
    fn walk(&mut self, paths: &Paths, node: usize, found: &mut [Option<Found>]) -> Result<(), Fault> {
        let first = self.peek();
        let here = &paths.nodes[node];
        match first {
            b'{' if !here.below.is_empty() => return self.walk_object(paths, node, found),
            b'[' if !here.below.is_empty() => return self.walk_array(paths, node, found),
            _ => {}
        }
        let start = self.pos;
        self.skip()?;
        let string = first == b'"';
        let quote = usize::from(string);
        let scalar = Found { start: start + quote, end: self.pos - quote, string };
        let absent = matches!(first, b'n' | b'{' | b'[') || scalar.start == scalar.end;
        for &slot in &here.slots {
            found[slot] = (!absent).then_some(scalar);
        }
        Ok(())
    }

    fn walk_object(&mut self, paths: &Paths, node: usize, found: &mut [Option<Found>]) -> Result<(), Fault> {
        self.enter()?;
        if self.peek() == b'}' {
            self.leave();
            return Ok(());
        }
        loop {
            let (key, escaped) = self.key()?;
            match paths.below_key(node, key, escaped) {
                Some(below) => {
                    paths.clear(below, found);
                    self.walk(paths, below, found)?;
                }
                None => self.skip()?,
            }
            match self.peek() {
                b',' => self.pos += 1,
                b'}' => {
                    self.leave();
                    return Ok(());
                }
                _ => return self.fault(self.pos, Kind::Expected("`,` or `}`")),
            }
        }
    }

    fn walk_array(&mut self, paths: &Paths, node: usize, found: &mut [Option<Found>]) -> Result<(), Fault> {
        self.enter()?;
        if self.peek() == b']' {
            self.leave();
            return Ok(());
        }
        for index in 0.. {
            match paths.below_index(node, index) {
                Some(below) => self.walk(paths, below, found)?,
                None => self.skip()?,
            }
            match self.peek() {
                b',' => self.pos += 1,
                b']' => break,
                _ => return self.fault(self.pos, Kind::Expected("`,` or `]`")),
            }
        }
        self.leave();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Ignore;
    use super::*;

    fn find(event: &str, id: &[&str]) -> Option<String> {
        let id = id.iter().map(|p| (*p).to_owned()).collect();
        let paths = Paths::new(&Pointers::new(id, vec![]).unwrap()).unwrap();
        let mut found = paths.room();
        Scanner::new(event.as_bytes(), Ignore).event(&paths, &mut found).unwrap();
        paths.pick(&found).0.map(|f| f.text(event.as_bytes()).into_owned())
    }

    #[test]
    fn follows_pointers() {
        let event = r#"{"a/b":1,"m~n":2,"":{"":3},"list":[{"x":4},[5,6]],"0":{"00":7},
            "~1":8,"t":true,"deep":{"id":"é\u0041\/"},"half":"\ud800x","01":9}"#;
        for (pointer, expected) in [
            ("/a~1b", Some("1")),
            ("/m~0n", Some("2")),
            ("//", Some("3")),
            ("/list/0/x", Some("4")),
            ("/list/1/1", Some("6")),
            ("/list/01/1", None),
            ("/list/-", None),
            ("/list/2", None),
            ("/list/x", None),
            ("/0/00", Some("7")),
            ("/01", Some("9")),
            ("/~01", Some("8")),
            ("/t", Some("true")),
            ("/t/x", None),
            ("/deep/id", Some("éA/")),
            ("/half", Some("\\ud800x")),
            ("/deep", None),
            ("/list", None),
            ("", None),
            ("/none", None),
        ] {
            assert_eq!(find(event, &[pointer]).as_deref(), expected, "{pointer}");
        }
    }

    #[test]
    fn first_present_pointer_wins() {
        let event = r#"{"b":"B","n":null,"e":"","a":"A","o":{"a":"OA"}}"#;
        assert_eq!(find(event, &["/a", "/b"]).as_deref(), Some("A"));
        assert_eq!(find(event, &["/b", "/a"]).as_deref(), Some("B"));
        assert_eq!(find(event, &["/n", "/e", "/o", "/x", "/b"]).as_deref(), Some("B"));
        assert_eq!(find(event, &["/o/a", "/o", "/a"]).as_deref(), Some("OA"));
        assert_eq!(find(event, &["/n", "/e"]), None);
        assert_eq!(find(event, &[]), None);
    }

    #[test]
    fn last_of_two_equal_keys_counts() {
        assert_eq!(find(r#"{"a":1,"a":2}"#, &["/a"]).as_deref(), Some("2"));
        assert_eq!(find(r#"{"a":1,"\u0061":2}"#, &["/a"]).as_deref(), Some("2"));
        assert_eq!(find(r#"{"a":{"b":1},"a":{}}"#, &["/a/b"]), None);
        assert_eq!(find(r#"{"a":1,"a":null}"#, &["/a"]), None);
    }

    #[test]
    fn rejects_misspelt_pointers() {
        for bad in ["id", "/a~", "/a~2", " /id", "~0"] {
            let error = Pointers::new(vec![], vec![bad.into()]).unwrap_err();
            assert!(error.cause.contains(bad) && error.line.is_none(), "{error}");
        }
        let long = format!("/{}", "x/".repeat(500));
        assert!(Pointers::new(vec!["".into(), "/".into(), long], vec![]).is_ok());
    }
}
