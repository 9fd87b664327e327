//! An object as bytes that are ready to be sent, with marks at its properties: to select some of them is to copy.

use std::sync::Arc;

use serde_json::Value;

/// The names of an object's properties, in order; many objects share one.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    names: Vec<Box<str>>,
}

impl Shape {
    /// The names, in order.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Where a name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| **n == *name)
    }
}

/// Shapes that are known already, so that each is kept once.
#[derive(Debug, Default)]
pub struct Shapes(Vec<Arc<Shape>>);

impl Shapes {
    fn intern(&mut self, names: &[&str]) -> Arc<Shape> {
        let same = |shape: &&Arc<Shape>| shape.names.len() == names.len() && shape.names.iter().zip(names).all(|(a, b)| **a == **b);
        if let Some(found) = self.0.iter().find(same) {
            return Arc::clone(found);
        }
        let shape = Arc::new(Shape { names: names.iter().map(|n| Box::from(*n)).collect() });
        self.0.push(Arc::clone(&shape));
        shape
    }

    /// Whether any object has a property of this name.
    pub fn know(&self, name: &str) -> bool {
        self.0.iter().any(|shape| shape.position(name).is_some())
    }
}

/// One object: its JSON text and where each property starts in it.
#[derive(Debug, Clone)]
pub struct Record {
    shape: Arc<Shape>,
    json: Box<[u8]>,
    marks: Box<[u32]>,
}

impl Record {
    /// From a JSON object; properties come in the order of their names.
    pub fn from_value(value: &Value, shapes: &mut Shapes) -> Self {
        let mut object = Object::with_capacity(512);
        if let Value::Object(map) = value {
            for (name, value) in map {
                object.value(name, value);
            }
        }
        object.finish(shapes)
    }

    /// The whole object.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The names of its properties.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The whole object, parsed.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The text of one property's value.
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        let at = self.shape.position(name)?;
        Some(&self.json[self.marks[at] as usize + name.len() + 3..self.end(at)])
    }

    /// The text of one property's value, if it is a plain string.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.raw(name)?).ok()?.strip_prefix('"')?.strip_suffix('"')
    }

    fn end(&self, at: usize) -> usize {
        // A comma or the closing brace stands between a property and the next mark.
        self.marks[at + 1] as usize - 1
    }
}

/// Which properties to copy, worked out once for each shape that turns up.
#[derive(Debug)]
pub struct Projection {
    want: Want,
    runs: Vec<(*const Shape, Vec<(usize, usize)>)>,
}

#[derive(Debug)]
enum Want {
    These(Vec<String>),
    AllBut(Vec<String>),
}

impl Projection {
    /// These properties, and those that describe the object (`@odata.type`).
    pub fn these<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { want: Want::These(names.into_iter().map(Into::into).collect()), runs: Vec::new() }
    }

    /// All properties but these.
    pub fn all_but<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { want: Want::AllBut(names.into_iter().map(Into::into).collect()), runs: Vec::new() }
    }

    fn wants(&self, name: &str) -> bool {
        match &self.want {
            Want::These(names) => name.starts_with('@') || names.iter().any(|n| n == name),
            Want::AllBut(names) => !names.iter().any(|n| n == name),
        }
    }

    /// Runs of neighbouring properties that are wanted, so that each run is one copy.
    fn runs_of(&mut self, shape: &Arc<Shape>) -> usize {
        let key = Arc::as_ptr(shape);
        if let Some(at) = self.runs.iter().position(|(known, _)| *known == key) {
            return at;
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in (0..shape.names.len()).filter(|at| self.wants(&shape.names[*at])) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => runs.push((at, at)),
            }
        }
        self.runs.push((key, runs));
        self.runs.len() - 1
    }

    /// Writes the wanted properties without the braces; true if there were any.
    pub fn write(&mut self, record: &Record, out: &mut Vec<u8>) -> bool {
        let at = self.runs_of(&record.shape);
        let runs = &self.runs[at].1;
        for (n, (first, last)) in runs.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&record.json[record.marks[*first] as usize..record.end(*last)]);
        }
        !runs.is_empty()
    }
}

/// Builds an object property by property.
#[derive(Debug)]
pub struct Object<'a> {
    json: Vec<u8>,
    marks: Vec<u32>,
    names: Vec<&'a str>,
}

impl<'a> Object<'a> {
    /// An empty object with room for some bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes);
        json.push(b'{');
        Self { json, marks: Vec::with_capacity(32), names: Vec::with_capacity(32) }
    }

    /// Starts a property; its value is to be written into what comes back.
    pub fn raw(&mut self, name: &'a str) -> &mut Vec<u8> {
        if !self.names.is_empty() {
            self.json.push(b',');
        }
        self.marks.push(self.json.len() as u32);
        self.names.push(name);
        self.json.push(b'"');
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        &mut self.json
    }

    /// A string that needs no escapes.
    pub fn plain(&mut self, name: &'a str, text: &str) {
        let json = self.raw(name);
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    }

    /// A word of JSON: null, true, a number, an empty array.
    pub fn word(&mut self, name: &'a str, word: &str) {
        self.raw(name).extend_from_slice(word.as_bytes());
    }

    /// Any value.
    pub fn value(&mut self, name: &'a str, value: &Value) {
        // Writing a value into memory cannot fail.
        let _ = serde_json::to_writer(self.raw(name), value);
    }

    /// The finished object.
    pub fn finish(mut self, shapes: &mut Shapes) -> Record {
        self.json.push(b'}');
        self.marks.push(self.json.len() as u32);
        Record { shape: shapes.intern(&self.names), json: self.json.into_boxed_slice(), marks: self.marks.into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_projection_copies_what_is_asked() {
        let mut shapes = Shapes::default();
        let value = json!({"id": "1", "a": [1, 2], "b": null, "c": ["x,"]});
        let record = Record::from_value(&value, &mut shapes);
        assert_eq!(record.to_value(), value);
        assert_eq!(record.raw("c"), Some(b"[\"x,\"]".as_slice()));
        assert_eq!(record.text("id"), Some("1"));
        let project = |mut projection: Projection| {
            let mut out = Vec::new();
            assert!(projection.write(&record, &mut out));
            String::from_utf8(out).unwrap().replace('"', "")
        };
        assert_eq!(project(Projection::these(["a", "id", "c"])), "a:[1,2],c:[x,],id:1");
        assert_eq!(project(Projection::all_but(["a"])), "b:null,c:[x,],id:1");
    }
}
