//! A difference on a terminal: at a glance, in its width, and without colours too.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::layout::{Group, Shown, counts, groups, in_words, place, value};
use crate::cli::output::{BAD, DOUBT, FAINT, GOOD, STRONG, shown};
use crate::restore::{AttributeChange, Change, RecordChange};

const PLAIN: Style = Style::new();

/// One line: pieces of text, each with a style.
#[derive(Default)]
struct Line(Vec<(Style, String)>);

impl Line {
    fn of(indent: usize) -> Self {
        Self(vec![(PLAIN, " ".repeat(indent))])
    }

    fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    fn text(&self) -> String {
        let piece = |(style, text): &(Style, String)| if *style == PLAIN { text.clone() } else { format!("{style}{text}{style:#}") };
        self.0.iter().map(piece).collect()
    }
}

/// The difference for people, line by line; `width` is that of the terminal.
pub fn lines(changes: &[RecordChange], width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    let groups = groups(changes);
    let mut out = Vec::new();
    attention(&groups, width, &mut out);
    // Of records that the catalog does not know, a heading would say nothing.
    let flat = groups.iter().all(|group| group.title.is_none());
    for group in &groups {
        if !flat {
            if !out.is_empty() {
                out.push(String::new());
            }
            let counted = in_words(counts(group.records.iter().map(|(_, record)| *record)));
            let title = Line::default().with(STRONG, group.title.unwrap_or("Other records")).with(FAINT, format!("  {counted}"));
            let folder = if group.folder.is_empty() { String::new() } else { format!("  {}", group.folder) };
            let full = Line(title.0.clone()).with(FAINT, folder);
            out.push(if full.width() <= width { full.text() } else { title.text() });
        }
        for (_, record) in &group.records {
            record_lines(group, record, if flat { 0 } else { 2 }, width, &mut out);
        }
    }
    out
}

/// Only the paths.
pub fn names(changes: &[RecordChange]) -> Vec<String> {
    let line = |change: &RecordChange| {
        let (style, sign) = sign(change.change);
        format!("{style}{sign} {}{style:#}", shown(&change.path))
    };
    changes.iter().map(line).collect()
}

fn sign(change: Change) -> (Style, char) {
    match change {
        Change::Added => (GOOD, '+'),
        Change::Removed => (BAD, '-'),
        Change::Changed => (DOUBT, '~'),
    }
}

fn attention(groups: &[Group<'_>], width: usize, out: &mut Vec<String>) {
    for group in groups {
        for (_, record) in group.records.iter().filter(|(_, record)| !record.attention.is_empty()) {
            if out.is_empty() {
                out.push(Line::default().with(STRONG, "Look at these first").text());
            }
            let name = shown(record.name.as_deref().unwrap_or_else(|| group.rest(&record.path)));
            let title = group.title.unwrap_or_default();
            let full = Line::of(2).with(BAD, "! ").with(STRONG, &name).with(FAINT, format!("  {title}"));
            // Who it is matters more than where.
            let short = || Line::of(2).with(BAD, "! ").with(STRONG, cut(&name, width.saturating_sub(4)));
            out.push(if full.width() <= width { full.text() } else { short().text() });
            for say in &record.attention {
                out.push(Line::of(4).with(PLAIN, say).text());
            }
        }
    }
}

fn record_lines(group: &Group<'_>, record: &RecordChange, indent: usize, width: usize, out: &mut Vec<String>) {
    let (style, sign) = sign(record.change);
    let rest = shown(group.rest(&record.path));
    let line = Line::of(indent);
    match &record.name {
        Some(name) => {
            let line = line.with(style, format!("{sign} {}", cut(&shown(name), width.saturating_sub(indent + 2))));
            let full = Line(line.0.clone()).with(FAINT, format!("  {rest}"));
            if full.width() <= width {
                out.push(full.text());
            } else {
                out.push(line.text());
                // A path is whole, or it leads nowhere.
                out.push(Line::of(indent + 4).with(FAINT, rest).text());
            }
        }
        None => out.push(line.with(style, format!("{sign} {rest}")).text()),
    }
    for attribute in &record.attributes {
        attribute_lines(attribute, record.collection.is_some(), indent, width, out);
    }
}

fn attribute_lines(attribute: &AttributeChange, known: bool, indent: usize, width: usize, out: &mut Vec<String>) {
    if let (true, Some((sign, style, side))) = (attribute.set.is_some(), one_side(attribute)) {
        let (head, room) = heading(&place(attribute), indent + 6, width, side.text.width());
        let line = Line::of(indent + 4).with(style, format!("{sign} ")).with(PLAIN, format!("{head}: "));
        return out.push(fitting(line, style, &side, room).text());
    }
    // What the catalog does not know is shown as it is written.
    let place = if known { place(attribute) } else { shown(&attribute.pointer) };
    let side = |v: &Option<serde_json::Value>, name: Option<&String>| match v {
        None => None,
        Some(v) if known => Some(value(attribute, v, name)),
        Some(v) => Some(Shown { text: shown(&v.to_string()), detail: None }),
    };
    let (from, to) = (side(&attribute.from, attribute.from_name.as_ref()), side(&attribute.to, attribute.to_name.as_ref()));
    let begin = |indent: usize| Line::of(indent + 4).with(PLAIN, format!("{place}: "));
    let whole = both(begin(indent), &from, &to);
    if whole.width() <= width {
        return out.push(whole.text());
    }
    if let (Some(a), Some(b)) = (&from, &to)
        && a.text != b.text
    {
        let bare = |side: &Shown| Some(Shown { text: side.text.clone(), detail: None });
        let line = both(begin(indent), &bare(a), &bare(b));
        if line.width() <= width && (a.detail.is_some() || b.detail.is_some()) {
            return out.push(line.text());
        }
    }
    let (head, _) = heading(&place, indent + 4, width, 0);
    out.push(Line::of(indent + 4).with(PLAIN, format!("{head}:")).text());
    let room = width.saturating_sub(indent + 8);
    let (from, to) = apart(from, to, room);
    for (sign, style, side) in [("  ", BAD, from), ("→ ", GOOD, to)] {
        let line = Line::of(indent + 6).with(FAINT, sign);
        out.push(match side {
            Some(side) => fitting(line, style, &side, room).text(),
            None => line.with(FAINT, "(none)").text(),
        });
    }
}

/// An attribute that came or went.
fn one_side(attribute: &AttributeChange) -> Option<(char, Style, Shown)> {
    match (&attribute.from, &attribute.to) {
        (None, Some(to)) => Some(('+', GOOD, value(attribute, to, attribute.to_name.as_ref()))),
        (Some(from), None) => Some(('-', BAD, value(attribute, from, attribute.from_name.as_ref()))),
        _ => None,
    }
}

fn both(line: Line, from: &Option<Shown>, to: &Option<Shown>) -> Line {
    let side = |line: Line, side: &Option<Shown>, style: Style| match side {
        None => line.with(FAINT, "(none)"),
        Some(Shown { text, detail: None }) => line.with(style, text),
        Some(Shown { text, detail: Some(detail) }) => line.with(style, text).with(FAINT, format!(" {detail}")),
    };
    side(side(line, from, BAD).with(PLAIN, " → "), to, GOOD)
}

/// A value on a line: whole if it fits, without its detail if that makes it fit, else cut.
fn fitting(line: Line, style: Style, side: &Shown, room: usize) -> Line {
    let detail = side.detail.as_ref().map(|detail| format!("  {detail}")).unwrap_or_default();
    if side.text.width() + detail.width() <= room {
        return line.with(style, &side.text).with(FAINT, detail);
    }
    line.with(style, cut(&side.text, room))
}

/// A place that leaves a value as much room as it needs, in reason; and that room. Its end tells most.
fn heading(place: &str, indent: usize, width: usize, need: usize) -> (String, usize) {
    let most = width.saturating_sub(indent + 2 + need.min(24.max(width / 3)));
    let mut head = place.to_owned();
    let mut rest = place;
    while head.width() > most {
        head = match rest.split_once(" › ") {
            Some((_, after)) => {
                rest = after;
                format!("…{after}")
            }
            None => break,
        };
    }
    if head.width() > most {
        head = format!("…{}", last(rest, most.saturating_sub(1)));
    }
    let room = width.saturating_sub(indent + head.width() + 2);
    (head, room)
}

/// The beginning of a text.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    let mut out: String = text.chars().take_while(fits).collect();
    out.push('…');
    out
}

/// The end of a text.
fn last(text: &str, width: usize) -> String {
    let mut left = width;
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    let end: Vec<char> = text.chars().rev().take_while(fits).collect();
    end.into_iter().rev().collect()
}

/// Two long texts, so that what tells them apart is seen in both.
fn apart(from: Option<Shown>, to: Option<Shown>, room: usize) -> (Option<Shown>, Option<Shown>) {
    let (Some(mut a), Some(mut b)) = (from.clone(), to.clone()) else { return (from, to) };
    let same = a.text.chars().zip(b.text.chars()).take_while(|(x, y)| x == y).count();
    if a.text.width().max(b.text.width()) <= room || same < room / 2 {
        return (from, to);
    }
    for side in [&mut a, &mut b] {
        let rest: String = side.text.chars().skip(same - room / 4).collect();
        side.text = format!("…{rest}");
    }
    (Some(a), Some(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn record(path: &str, collection: Option<&str>, attributes: Vec<AttributeChange>) -> RecordChange {
        let name = collection.map(|_| "Name".to_owned());
        RecordChange {
            path: path.into(),
            change: Change::Changed,
            attributes,
            collection: collection.map(str::to_owned),
            name,
            attention: vec![],
        }
    }

    fn of(attribute: AttributeChange, width: usize) -> Vec<String> {
        let all = plain(lines(&[record("users/1.json", Some("entra.users"), vec![attribute])], Some(width)));
        assert!(all.iter().all(|line| line.width() <= width), "{all:#?}");
        all[2..].to_vec()
    }

    #[test]
    fn what_the_catalog_does_not_know_is_shown_as_it_is() {
        let change = AttributeChange::new("/a~1b/0", Some(json!("x")), None);
        assert_eq!(plain(lines(&[record("x/a.json", None, vec![change])], None)), ["~ x/a.json", "    /a~1b/0: \"x\" → (none)"]);
    }

    #[test]
    fn long_values_are_cut_where_they_differ() {
        let rule = |end: &str| Value::from(format!("{} {end}", "user.department -eq \"x\" and ".repeat(6)));
        let shown = of(AttributeChange::new("/membershipRule", Some(rule("EAST")), Some(rule("WEST"))), 60);
        assert_eq!(shown[0], "      membershipRule:");
        assert!(shown[1].contains('…') && shown[1].ends_with("EAST"), "{shown:#?}");
        assert!(
            shown[2].starts_with("        → …") || shown[2].trim_start().starts_with("→ …") && shown[2].ends_with("WEST"),
            "{shown:#?}"
        );
        let wide = of(AttributeChange::new("/x", None, Some(json!("界".repeat(100)))), 40);
        assert!(wide[2].ends_with('…'), "{wide:#?}");
    }

    #[test]
    fn a_name_goes_before_its_id() {
        let mut change = AttributeChange::new("/managerId", Some(json!("id-of-a")), Some(json!("id-of-b")));
        (change.from_name, change.to_name) = (Some("Alice".into()), Some("Bob".into()));
        assert_eq!(of(change.clone(), 80), ["      managerId: Alice id-of-a → Bob id-of-b"]);
        assert_eq!(of(change.clone(), 42), ["      managerId: Alice → Bob"]);
        // Where names do not tell them apart, ids must.
        change.to_name = Some("Alice".into());
        assert_eq!(of(change, 42), ["      managerId:", "          Alice  id-of-a", "        → Alice  id-of-b"]);
    }

    #[test]
    fn elements_of_sets_have_a_sign() {
        let mut change = AttributeChange::new("/members/7", None, Some(json!({"id": "7"})));
        (change.set, change.to_name) = (Some("/members".into()), Some("Alice".into()));
        assert_eq!(of(change.clone(), 80), ["      + members: Alice  7"]);
        (change.from, change.to, change.from_name, change.to_name) = (change.to, None, None, None);
        assert_eq!(of(change, 80), ["      - members: {\"id\":\"7\"}"]);
    }

    #[test]
    fn names_only_is_one_path_a_line() {
        let change = record("users/1\u{1b}.json", Some("entra.users"), vec![AttributeChange::new("/a", None, None)]);
        assert_eq!(plain(names(&[change])), ["~ users/1\u{fffd}.json"]);
    }
}
