//! A difference as one page that needs nothing else: no script, no other file, no network.
//!
//! Names and values were written by whoever could change a record: they become text and nothing else. Only
//! [`Page::raw`] writes markup, and it takes nothing that is not part of this program.

use serde_json::Value;

use super::layout::{Group, Shown, counts, groups, place, value};
use crate::cli::output::shown;
use crate::restore::{AttributeChange, Change, DiffReport, RecordChange};

/// Values longer than this open on demand, in characters.
const LONG: usize = 300;

/// One of the two snapshots.
pub struct Snapshot {
    /// Its run.
    pub run: String,
    /// When it was taken.
    pub at: String,
    /// Of what.
    pub source: String,
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Markup of this program's own.
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text from anywhere.
    fn text(&mut self, text: &str) -> &mut Self {
        for c in shown(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    fn number(&mut self, number: usize) -> &mut Self {
        self.0.push_str(&number.to_string());
        self
    }
}

/// The page of a difference.
pub fn page(report: &DiffReport, from: &Snapshot, to: &Snapshot) -> String {
    let groups = groups(&report.changes);
    let mut page = Page::default();
    page.raw(HEAD).raw("<title>").text(&from.source).raw(": what changed until ").text(&to.at).raw("</title></head><body><main>");
    page.raw("<h1>What changed</h1><dl class=\"runs\">");
    for (label, snapshot) in [("from", from), ("to", to)] {
        page.raw("<dt>").text(label).raw("</dt><dd><b>").text(&snapshot.at).raw("</b> <span class=\"faint\">").text(&snapshot.source);
        page.raw(", run ").text(&snapshot.run).raw("</span></dd>");
    }
    page.raw("</dl>");
    summary(&mut page, report, &groups);
    attention(&mut page, &groups);
    for (n, group) in groups.iter().enumerate() {
        page.raw("<section><h2 id=\"g").number(n).raw("\">").text(title(group)).raw("</h2>");
        for (number, record) in &group.records {
            article(&mut page, group, *number, record);
        }
        page.raw("</section>");
    }
    page.raw("</main></body></html>\n");
    page.0
}

fn title<'g>(group: &Group<'g>) -> &'g str {
    group.title.unwrap_or("Other records")
}

fn summary(page: &mut Page, report: &DiffReport, groups: &[Group<'_>]) {
    if groups.is_empty() {
        page.raw("<p>Nothing that counts.</p>");
    } else {
        page.raw("<table><thead><tr><th></th><th>added</th><th>removed</th><th>changed</th></tr></thead><tbody>");
        for (n, group) in groups.iter().enumerate() {
            page.raw("<tr><th><a href=\"#g").number(n).raw("\">").text(title(group)).raw("</a></th>");
            cells(page, counts(group.records.iter().map(|(_, record)| *record)));
        }
        page.raw("</tbody><tfoot><tr><th>all</th>");
        cells(page, counts(&report.changes));
        page.raw("</tfoot></table>");
    }
    if report.left_out > 0 {
        page.raw("<p class=\"faint\">").text(&super::left_out(report.left_out)).raw("</p>");
    }
    if !report.lacking.is_empty() {
        page.raw("<section class=\"first\"><h2>Not everything was captured</h2><ul>");
        for line in super::lacking(report) {
            page.raw("<li>").text(&line).raw("</li>");
        }
        page.raw("</ul></section>");
    }
    if !report.failed.is_empty() {
        page.raw("<section class=\"first\"><h2>Not everything could be read</h2><ul>");
        for failed in &report.failed {
            let what = failed.path.as_deref().or(failed.object.as_deref()).unwrap_or_default();
            page.raw("<li><code>").text(what).raw("</code> ").text(&failed.message).raw("</li>");
        }
        page.raw("</ul></section>");
    }
}

fn cells(page: &mut Page, counts: [usize; 3]) {
    for (n, class) in counts.into_iter().zip(["<td class=\"added\">", "<td class=\"removed\">", "<td class=\"changed\">"]) {
        if n == 0 { page.raw("<td>") } else { page.raw(class).number(n) }.raw("</td>");
    }
    page.raw("</tr>");
}

fn attention(page: &mut Page, groups: &[Group<'_>]) {
    let records = || groups.iter().flat_map(|group| group.records.iter().map(move |(n, record)| (group, *n, *record)));
    if records().all(|(_, _, record)| record.attention.is_empty()) {
        return;
    }
    page.raw("<section class=\"first\"><h2>Look at these first</h2><ul>");
    for (group, n, record) in records().filter(|(_, _, record)| !record.attention.is_empty()) {
        page.raw("<li><a href=\"#r").number(n).raw("\"><bdi>").text(record.name.as_deref().unwrap_or_else(|| group.rest(&record.path)));
        page.raw("</bdi></a> <span class=\"faint\">").text(title(group)).raw("</span>");
        for say in &record.attention {
            page.raw("<br>").text(say);
        }
        page.raw("</li>");
    }
    page.raw("</ul></section>");
}

fn article(page: &mut Page, group: &Group<'_>, number: usize, record: &RecordChange) {
    page.raw("<article id=\"r").number(number).raw("\"><h3>").raw(match record.change {
        Change::Added => "<span class=\"sign added\">added</span> ",
        Change::Removed => "<span class=\"sign removed\">removed</span> ",
        Change::Changed => "<span class=\"sign changed\">changed</span> ",
    });
    page.raw("<bdi>").text(record.name.as_deref().unwrap_or_else(|| group.rest(&record.path))).raw("</bdi> <a class=\"faint\" href=\"#r");
    page.number(number).raw("\">#</a></h3><p class=\"faint path\">").text(&record.path).raw("</p>");
    for say in &record.attention {
        page.raw("<p class=\"say\">").text(say).raw("</p>");
    }
    if !record.attributes.is_empty() {
        page.raw("<dl>");
        for attribute in &record.attributes {
            row(page, attribute);
        }
        page.raw("</dl>");
    }
    page.raw("</article>");
}

fn row(page: &mut Page, attribute: &AttributeChange) {
    page.raw("<dt>").text(&place(attribute)).raw("</dt>");
    let sides = [(&attribute.from, &attribute.from_name), (&attribute.to, &attribute.to_name)];
    for ((side, name), markup) in sides.into_iter().zip([["<dd class=\"removed\">", "− "], ["<dd class=\"added\">", "+ "]]) {
        match side {
            Some(side) => {
                page.raw(markup[0]).raw(markup[1]);
                cell(page, side, value(attribute, side, name.as_ref()));
            }
            // That an element was not in a set goes without saying.
            None if attribute.set.is_some() => continue,
            None => {
                page.raw("<dd class=\"faint\">").raw(markup[1]).raw("(none)");
            }
        }
        page.raw("</dd>");
    }
}

fn cell(page: &mut Page, side: &Value, Shown { text, detail }: Shown) {
    if text.chars().count() > LONG {
        let begin: String = text.chars().take(LONG / 3).collect();
        let whole = match side {
            Value::String(whole) => whole.clone(),
            side => serde_json::to_string_pretty(side).unwrap_or(text),
        };
        page.raw("<details><summary>").text(&begin).raw("…</summary><pre>");
        // Lines are the writer's own, and stay apart.
        for line in whole.lines() {
            page.text(line).raw("\n");
        }
        page.raw("</pre></details>");
    } else {
        page.raw("<bdi>").text(&text).raw("</bdi>");
    }
    if let Some(detail) = detail {
        page.raw(" <span class=\"faint\">").text(&detail).raw("</span>");
    }
}

// Forbids whatever a page could fetch or run, should an escape ever be missed.
const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark"><meta name="generator" content="backstop diff">
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --faint: #59636e; --line: #d1d9e0; --box: #f6f8fa;
  --added: #116329; --removed: #a40e26; --changed: #7d4e00; --first: #fff1e5; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --faint: #9198a1; --line: #3d444d; --box: #151b23;
  --added: #56d364; --removed: #ff8182; --changed: #e3b341; --first: #2b1d0e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
a { color: inherit; } .faint { color: var(--faint); font-weight: normal; }
.added { color: var(--added); } .removed { color: var(--removed); } .changed { color: var(--changed); }
h3, p, dd, dt, li, th { overflow-wrap: anywhere; } bdi { white-space: pre-wrap; }
table { border-collapse: collapse; } th { text-align: left; font-weight: normal; } td { text-align: right; }
thead th { color: var(--faint); overflow-wrap: normal; } tfoot { font-weight: bold; } th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
dl { margin: .5rem 0 0; } dt { color: var(--faint); margin-top: .4rem; }
dd { margin: 0 0 0 1rem; font: .9rem/1.5 ui-monospace, monospace; } .runs dd { font: inherit; }
article { border: 1px solid var(--line); border-radius: 6px; background: var(--box); padding: .7rem 1rem; margin: .6rem 0; }
article:target { outline: 2px solid var(--changed); }
.path { margin: 0; font: .8rem/1.5 ui-monospace, monospace; } .sign { font-size: .8rem; font-weight: bold; }
.first { background: var(--first); border-left: 4px solid var(--removed); padding: .5rem 1rem; margin: 1rem 0; } .first h2 { margin: 0; }
.first ul { padding-left: 1.2rem; margin: .5rem 0; } .say { color: var(--removed); font-weight: bold; margin: .3rem 0 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; } details { display: inline-block; vertical-align: top; max-width: 100%; }
</style>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(change: RecordChange) -> String {
        let snapshot = |at: &str| Snapshot { run: "run<1>".into(), at: at.into(), source: "\"tree\"".into() };
        page(&DiffReport { changes: vec![change], ..DiffReport::default() }, &snapshot("then"), &snapshot("now"))
    }

    #[test]
    fn what_records_say_is_text() {
        let hostile = "</bdi></style><script>alert('1')</script>\"&\u{202e}";
        let mut attribute = AttributeChange::new("/a<b>\"", Some(json!(hostile)), Some(json!([hostile.repeat(20)])));
        (attribute.from_name, attribute.to_name) = (Some(hostile.into()), Some(hostile.into()));
        let page = of(RecordChange {
            path: format!("users/{hostile}.json"),
            change: Change::Changed,
            attributes: vec![attribute],
            collection: Some("entra.users".into()),
            name: Some(hostile.into()),
            attention: vec![hostile.into()],
        });
        assert!(!page.contains("<script") && !page.contains("alert('1')") && !page.contains("a<b>") && !page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}"), "it is still there to be read");
        assert_eq!(page.matches("<style>").count(), 1);
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let page = of(RecordChange {
            path: "a.json".into(),
            change: Change::Added,
            attributes: vec![],
            collection: None,
            name: None,
            attention: vec![],
        });
        for word in ["src=", "http://", "https://", "url(", "@import", "<link", "<script", "<img"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
        assert!(page.contains("id=\"r0\"") && page.contains("href=\"#g0\"") && page.contains("Other records"));
    }
}
