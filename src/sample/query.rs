//! The options of a query, and the tokens that carry them from page to page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::filter::Filter;

/// A property to be expanded, with what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expand {
    /// Its name.
    pub name: String,
    /// What is to be expanded inside it.
    pub expand: Option<String>,
    /// Which properties of it are wanted.
    pub select: Option<Vec<String>>,
}

/// What a request asks for.
#[derive(Debug, Default, Clone)]
pub struct Query {
    /// `$select`
    pub select: Option<Vec<String>>,
    /// `$filter`
    pub filter: Option<Filter>,
    /// `$expand`
    pub expand: Vec<Expand>,
    /// `$top`
    pub top: Option<usize>,
    /// `$orderby`: the property, and whether downward.
    pub orderby: Option<(String, bool)>,
    /// `$count=true`
    pub count: bool,
    /// `$skiptoken`, `$skipToken`
    pub skip: Option<String>,
    /// `$deltatoken`
    pub delta: Option<String>,
    /// `api-version`
    pub api_version: Option<String>,
}

impl Query {
    /// Reads the text behind a question mark; what is wrong is said in the service's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let lower = name.to_ascii_lowercase();
            match lower.as_str() {
                "$select" => {
                    let names: Vec<String> = value.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
                    if names.is_empty() || query.select.replace(names).is_some() {
                        return Err("Parsing OData Select and Expand failed: Invalid $select.".into());
                    }
                }
                "$filter" => {
                    let filter = Filter::parse(&value).map_err(|e| e.to_string())?;
                    if query.filter.replace(filter).is_some() {
                        return Err("Query option '$filter' was specified more than once, but it must be specified at most once.".into());
                    }
                }
                "$expand" => query.expand.extend(expands(&value)?),
                "$top" => {
                    let top = value.parse().ok().filter(|n| *n > 0);
                    query.top = Some(top.ok_or_else(|| format!("Invalid value '{value}' for $top query option found."))?);
                }
                "$orderby" => {
                    let mut words = value.split_whitespace();
                    let (property, way, more) = (words.next(), words.next(), words.next());
                    match (property, way, more) {
                        (Some(name), None | Some("asc"), None) => query.orderby = Some((name.to_owned(), false)),
                        (Some(name), Some("desc"), None) => query.orderby = Some((name.to_owned(), true)),
                        _ => return Err(format!("Invalid value '{value}' for $orderby query option found.")),
                    }
                }
                "$count" => query.count = value.eq_ignore_ascii_case("true"),
                "$skiptoken" => query.skip = Some(value.into_owned()),
                "$deltatoken" => query.delta = Some(value.into_owned()),
                "api-version" => query.api_version = Some(value.into_owned()),
                "$format" => {}
                "$skip" | "$search" | "$apply" | "$compute" => return Err(format!("The query option '{name}' is not supported here.")),
                other if other.starts_with('$') => return Err(format!("Unrecognized query option: '{name}'.")),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// Splits where a sign stands outside parentheses.
fn split_outside(text: &str, sign: char) -> Result<Vec<&str>, String> {
    let (mut depth, mut from, mut out) = (0i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c == sign && depth == 0 => {
                out.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    out.push(&text[from..]);
    if depth == 0 { Ok(out) } else { Err(format!("Parsing OData Select and Expand failed: unbalanced parentheses in '{text}'.")) }
}

fn expands(text: &str) -> Result<Vec<Expand>, String> {
    let mut out = Vec::new();
    for item in split_outside(text, ',')? {
        let item = item.trim();
        let (name, inside) = match item.split_once('(') {
            None => (item, ""),
            Some((name, rest)) => (name, rest.strip_suffix(')').unwrap_or_default()),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("Parsing OData Select and Expand failed: '{item}' is no property to expand."));
        }
        let mut expand = Expand { name: name.to_owned(), expand: None, select: None };
        for option in split_outside(inside, ';')?.into_iter().filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some(("$expand", what)) => expand.expand = Some(what.to_owned()),
                Some(("$select", what)) => expand.select = Some(what.split(',').map(|n| n.trim().to_owned()).collect()),
                _ => return Err(format!("Parsing OData Select and Expand failed: '{option}' is not understood.")),
            }
        }
        out.push(expand);
    }
    Ok(out)
}

/// Makes tokens that no other tenant made and nobody altered.
#[derive(Debug, Clone)]
pub struct Sealer([u8; 32]);

impl Sealer {
    /// With a key of a tenant's own.
    pub fn new(seed: u64, tenant: &str) -> Self {
        Self(Sha256::new().chain_update(seed.to_be_bytes()).chain_update(tenant.as_bytes()).finalize().into())
    }

    fn tag(&self, text: &[u8]) -> [u8; 8] {
        let whole: [u8; 32] = Sha256::new().chain_update(self.0).chain_update(text).finalize().into();
        let mut tag = [0; 8];
        tag.copy_from_slice(&whole[..8]);
        tag
    }

    /// A token for a text.
    pub fn seal(&self, text: &str) -> String {
        let mut bytes = self.tag(text.as_bytes()).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The text of a token of ours.
    pub fn open(&self, token: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, text) = bytes.split_at_checked(8)?;
        (*tag == self.tag(text)).then(|| String::from_utf8(text.to_vec()).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::parse(
            "$select=id,displayName&%24top=5&$expand=policy($expand=rules),principal&$orderby=createdDateTime%20desc&$count=true",
        );
        let query = query.unwrap();
        assert_eq!(query.select.unwrap(), ["id", "displayName"]);
        assert_eq!(query.top, Some(5));
        assert_eq!(query.expand[0], Expand { name: "policy".into(), expand: Some("rules".into()), select: None });
        assert_eq!(query.expand[1].name, "principal");
        assert_eq!(query.orderby, Some(("createdDateTime".into(), true)));
        assert!(query.count);
    }

    #[test]
    fn bad_queries_are_refused() {
        for bad in ["$top=0", "$top=x", "$filter=a", "$select=", "$frobnicate=1", "$expand=a(", "$search=x", "$orderby=a up", "$skip=4"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_are_ones_own() {
        let (one, other) = (Sealer::new(1, "a"), Sealer::new(2, "a"));
        let token = one.seal("text");
        assert_eq!(one.open(&token).as_deref(), Some("text"));
        assert_eq!(other.open(&token), None);
        assert_eq!(one.open("AAAA"), None);
        assert_eq!(one.open("***"), None);
    }
}
