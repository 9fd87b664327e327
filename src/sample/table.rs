//! A collection of objects that keeps its order, finds by id, and remembers when each was last touched.

use std::collections::HashMap;

use serde_json::Value;

use super::record::{Object, Record, Shapes};

/// One place of a table: an object, or the gap that a deleted one left.
#[derive(Debug)]
pub struct Entry {
    /// The object; nothing once it is deleted.
    pub record: Option<Record>,
    /// Its id, kept past deletion.
    pub id: Box<str>,
    /// The number of the last change; nought for what was there from the start.
    pub touched: u64,
    /// The number of the change that made it; nought for what was there from the start.
    pub made: u64,
}

/// Objects in the order in which they came. Places are never reused, so a position in it stays good.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    places: HashMap<Box<str>, u32>,
    shapes: Shapes,
    live: usize,
}

impl Table {
    /// Adds an object; one with the same id is replaced.
    pub fn put(&mut self, id: &str, object: Object<'_>, change: u64) {
        let record = object.finish(&mut self.shapes);
        self.place(id, record, change);
    }

    /// Adds or replaces an object given as a value.
    pub fn put_value(&mut self, id: &str, value: &Value, change: u64) {
        let record = Record::from_value(value, &mut self.shapes);
        self.place(id, record, change);
    }

    fn place(&mut self, id: &str, record: Record, change: u64) {
        if let Some(at) = self.places.get(id) {
            let entry = &mut self.entries[*at as usize];
            self.live += usize::from(entry.record.is_none());
            entry.record = Some(record);
            entry.touched = change;
        } else {
            self.places.insert(id.into(), self.entries.len() as u32);
            self.entries.push(Entry { record: Some(record), id: id.into(), touched: change, made: change });
            self.live += 1;
        }
    }

    /// Changes properties of an object in place; false if there is none.
    pub fn edit(&mut self, id: &str, change: u64, with: impl FnOnce(&mut Value)) -> bool {
        let Some(mut value) = self.get(id).map(Record::to_value) else { return false };
        with(&mut value);
        let order: Vec<Box<str>> = self.get(id).map(|r| r.shape().names().to_vec()).unwrap_or_default();
        let mut object = Object::with_capacity(1024);
        // Known properties keep their places, new ones follow.
        if let Value::Object(map) = &value {
            for name in order.iter().filter(|n| map.contains_key(&***n)) {
                object.value(name, &map[&**name]);
            }
            for (name, value) in map.iter().filter(|(n, _)| !order.iter().any(|o| **o == ***n)) {
                object.value(name, value);
            }
        }
        self.put(id, object, change);
        true
    }

    /// Deletes an object; false if there is none.
    pub fn delete(&mut self, id: &str, change: u64) -> bool {
        let Some(at) = self.places.get(id) else { return false };
        let entry = &mut self.entries[*at as usize];
        let was = entry.record.take().is_some();
        if was {
            entry.touched = change;
            self.live -= 1;
        }
        was
    }

    /// Marks an object as changed.
    pub fn touch(&mut self, id: &str, change: u64) {
        if let Some(at) = self.places.get(id) {
            self.entries[*at as usize].touched = change;
        }
    }

    /// The object of an id.
    pub fn get(&self, id: &str) -> Option<&Record> {
        self.entries.get(*self.places.get(id)? as usize)?.record.as_ref()
    }

    /// The place of an id, also after deletion.
    pub fn place_of(&self, id: &str) -> Option<usize> {
        self.places.get(id).map(|at| *at as usize)
    }

    /// All places, gaps too.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The objects, in order.
    pub fn records(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.entries.iter().filter_map(|e| e.record.as_ref().map(|r| (&*e.id, r)))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether any object has a property of this name.
    pub fn knows(&self, property: &str) -> bool {
        self.shapes.know(property)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_stay_good() {
        let mut table = Table::default();
        for n in 0..5 {
            table.put_value(&n.to_string(), &json!({"id": n.to_string(), "n": n}), 0);
        }
        assert!(table.delete("2", 1));
        assert!(!table.delete("2", 2));
        assert!(table.edit("3", 3, |v| v["n"] = json!(30)));
        assert_eq!(table.len(), 4);
        assert_eq!(table.place_of("3"), Some(3));
        assert_eq!(table.get("3").unwrap().raw("n"), Some(b"30".as_slice()));
        assert_eq!(table.entries()[2].touched, 1);
        assert_eq!(table.records().map(|(id, _)| id).collect::<Vec<_>>(), ["0", "1", "3", "4"]);
    }
}
