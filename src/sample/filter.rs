//! `$filter`: the part of OData's language that the services document, parsed and judged.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::instant;

/// A filter that does not parse, in the service's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid filter clause: {0}")]
pub struct FilterError(pub String);

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// A value written in a filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// In quotes.
    Text(String),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`
    Null,
    /// An instant without quotes, in nanoseconds since 1970.
    Instant(i64),
}

impl Literal {
    /// The instant that this names, quoted or not.
    pub fn instant(&self) -> Option<i64> {
        match self {
            Self::Instant(at) => Some(*at),
            Self::Text(text) => instant::parse(text),
            _ => None,
        }
    }
}

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// One holds.
    Or(Box<Filter>, Box<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A property, reached by names, against a value.
    Compare(Vec<String>, Operator, Literal),
    /// A property starts with a text.
    StartsWith(Vec<String>, String),
    /// Some element of an array fits; inside, the element goes by the name.
    Any(Vec<String>, String, Box<Filter>),
    /// Azure Resource Manager's `atScope()`.
    AtScope,
}

/// Something whose properties a filter can read.
pub trait Properties {
    /// The value of a property by its first name.
    fn property(&self, name: &str) -> Option<Cow<'_, Value>>;
}

impl Properties for Value {
    fn property(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.get(name).map(Cow::Borrowed)
    }
}

/// An element of an array under the name that `any` gave it.
struct Named<'a>(&'a str, &'a Value);

impl Properties for Named<'_> {
    fn property(&self, name: &str) -> Option<Cow<'_, Value>> {
        (name == self.0).then_some(Cow::Borrowed(self.1))
    }
}

impl Filter {
    /// Parses a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens, at: 0, depth: 0 };
        let filter = parser.or()?;
        if parser.at < parser.tokens.len() {
            return Err(FilterError(format!("Syntax error at position {} in '{text}'.", parser.at)));
        }
        Ok(filter)
    }

    /// Whether an object fits.
    pub fn fits(&self, object: &dyn Properties) -> bool {
        match self {
            Self::And(a, b) => a.fits(object) && b.fits(object),
            Self::Or(a, b) => a.fits(object) || b.fits(object),
            Self::Not(a) => !a.fits(object),
            Self::Compare(path, operator, literal) => {
                let found = reach(object, path);
                compare(found.as_deref().unwrap_or(&Value::Null), *operator, literal)
            }
            Self::StartsWith(path, start) => reach(object, path)
                .as_deref()
                .and_then(Value::as_str)
                .is_some_and(|text| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))),
            Self::Any(path, name, inner) => reach(object, path)
                .as_deref()
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|element| inner.fits(&Named(name, element)))),
            Self::AtScope => true,
        }
    }

    /// The parts that must all hold.
    pub fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::And(a, b) => a.conjuncts().into_iter().chain(b.conjuncts()).collect(),
            other => vec![other],
        }
    }

    /// The first names of the properties that it reads.
    pub fn roots(&self) -> Vec<&str> {
        match self {
            Self::And(a, b) | Self::Or(a, b) => a.roots().into_iter().chain(b.roots()).collect(),
            Self::Not(a) => a.roots(),
            Self::Compare(path, ..) | Self::StartsWith(path, _) | Self::Any(path, ..) => {
                path.first().map(String::as_str).into_iter().collect()
            }
            Self::AtScope => Vec::new(),
        }
    }

    /// The text that a property must be equal to.
    pub fn demands(&self, property: &str) -> Option<&str> {
        self.conjuncts().into_iter().find_map(|part| match part {
            Self::Compare(path, Operator::Eq, Literal::Text(text)) if path.len() == 1 && path[0] == property => Some(text.as_str()),
            _ => None,
        })
    }
}

fn reach<'a>(object: &'a dyn Properties, path: &[String]) -> Option<Cow<'a, Value>> {
    let (first, rest) = path.split_first()?;
    let mut found = object.property(first)?;
    for name in rest {
        found = match found {
            Cow::Borrowed(value) => Cow::Borrowed(value.get(name)?),
            Cow::Owned(value) => Cow::Owned(value.get(name)?.clone()),
        };
    }
    Some(found)
}

fn compare(value: &Value, operator: Operator, literal: &Literal) -> bool {
    let order = match (value, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        (Value::Bool(a), Literal::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Literal::Number(b)) => a.as_f64().and_then(|a| a.partial_cmp(b)),
        (Value::String(a), Literal::Instant(b)) => instant::parse(a).map(|a| a.cmp(b)),
        (Value::String(a), Literal::Text(b)) => Some(texts(a, b)),
        _ => None,
    };
    match operator {
        Operator::Eq => order == Some(Ordering::Equal),
        Operator::Ne => order != Some(Ordering::Equal),
        Operator::Lt => order == Some(Ordering::Less),
        Operator::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Gt => order == Some(Ordering::Greater),
        Operator::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// Instants in order of time, other texts without regard to case.
fn texts(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    if a.starts_with(|c: char| c.is_ascii_digit())
        && a.contains('T')
        && let (Some(a), Some(b)) = (instant::parse(a), instant::parse(b))
    {
        return a.cmp(&b);
    }
    a.bytes().map(|c| c.to_ascii_lowercase()).cmp(b.bytes().map(|c| c.to_ascii_lowercase()))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Value(Literal),
    Sign(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' => {}
            '(' | ')' | ',' | '/' | ':' => out.push(Token::Sign(c)),
            '\'' => {
                let mut inside = String::new();
                loop {
                    match chars.next() {
                        Some((_, '\'')) if chars.next_if(|(_, c)| *c == '\'').is_some() => inside.push('\''),
                        Some((_, '\'')) => break,
                        Some((_, other)) => inside.push(other),
                        None => return Err(FilterError(format!("There is an unterminated string literal at position {at} in '{text}'."))),
                    }
                }
                out.push(Token::Value(Literal::Text(inside)));
            }
            c if c.is_ascii_digit() || c == '-' => {
                let mut word = String::from(c);
                while let Some((_, next)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '+')) {
                    word.push(next);
                }
                let literal = word.parse().map(Literal::Number).ok();
                let literal = literal.or_else(|| instant::parse(&word).map(Literal::Instant));
                let literal = literal.or_else(|| uuid::Uuid::parse_str(&word).ok().map(|_| Literal::Text(word.clone())));
                out.push(Token::Value(literal.ok_or_else(|| FilterError(format!("'{word}' is not a value.")))?));
            }
            c if c.is_ascii_alphabetic() || matches!(c, '_' | '@' | '$') => {
                let mut word = String::from(c);
                while let Some((_, next)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@')) {
                    word.push(next);
                }
                out.push(match word.as_str() {
                    "true" => Token::Value(Literal::Bool(true)),
                    "false" => Token::Value(Literal::Bool(false)),
                    "null" => Token::Value(Literal::Null),
                    _ => Token::Word(word),
                });
            }
            other => return Err(FilterError(format!("Syntax error: character '{other}' is not valid at position {at} in '{text}'."))),
        }
    }
    Ok(out)
}

/// Deeper nesting is refused.
const DEEPEST: usize = 40;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: char) -> Result<(), FilterError> {
        if self.peek() == Some(&Token::Sign(sign)) {
            self.at += 1;
            return Ok(());
        }
        Err(FilterError(format!("'{sign}' expected at position {}.", self.at)))
    }

    fn or(&mut self) -> Result<Filter, FilterError> {
        let mut left = self.and()?;
        while self.word("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, FilterError> {
        let mut left = self.one()?;
        while self.word("and") {
            left = Filter::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Filter, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(FilterError("The node count limit has been exceeded.".into()));
        }
        let filter = self.term();
        self.depth -= 1;
        filter
    }

    fn term(&mut self) -> Result<Filter, FilterError> {
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.one()?)));
        }
        if self.peek() == Some(&Token::Sign('(')) {
            self.at += 1;
            let inside = self.or()?;
            self.sign(')')?;
            return Ok(inside);
        }
        let name = self.name()?;
        if self.peek() == Some(&Token::Sign('(')) {
            return self.function(&name);
        }
        self.property(name)
    }

    fn name(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(FilterError(format!("A property's name was expected at position {}.", self.at))),
        }
    }

    fn function(&mut self, name: &str) -> Result<Filter, FilterError> {
        self.sign('(')?;
        if name.eq_ignore_ascii_case("atScope") {
            self.sign(')')?;
            return Ok(Filter::AtScope);
        }
        if !name.eq_ignore_ascii_case("startswith") {
            return Err(FilterError(format!("An unknown function with name '{name}' was found.")));
        }
        let mut path = vec![self.name()?];
        while self.peek() == Some(&Token::Sign('/')) {
            self.at += 1;
            path.push(self.name()?);
        }
        self.sign(',')?;
        let Literal::Text(start) = self.literal()? else { return Err(FilterError("startswith needs a text in quotes.".into())) };
        self.sign(')')?;
        Ok(Filter::StartsWith(path, start))
    }

    fn property(&mut self, first: String) -> Result<Filter, FilterError> {
        let mut path = vec![first];
        while self.peek() == Some(&Token::Sign('/')) {
            self.at += 1;
            let name = self.name()?;
            if name.eq_ignore_ascii_case("any") && self.peek() == Some(&Token::Sign('(')) {
                self.sign('(')?;
                let variable = self.name()?;
                self.sign(':')?;
                let inner = self.or()?;
                self.sign(')')?;
                return Ok(Filter::Any(path, variable, Box::new(inner)));
            }
            path.push(name);
        }
        let operator = match self.name()?.to_ascii_lowercase().as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "lt" => Operator::Lt,
            "le" => Operator::Le,
            "gt" => Operator::Gt,
            "ge" => Operator::Ge,
            other => return Err(FilterError(format!("'{other}' is not an operator."))),
        };
        Ok(Filter::Compare(path, operator, self.literal()?))
    }

    fn literal(&mut self) -> Result<Literal, FilterError> {
        match self.peek() {
            Some(Token::Value(literal)) => {
                let literal = literal.clone();
                self.at += 1;
                Ok(literal)
            }
            _ => Err(FilterError(format!("A value was expected at position {}.", self.at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(filter: &str, value: &Value) -> bool {
        Filter::parse(filter).unwrap().fits(value)
    }

    #[test]
    fn filters_judge() {
        let value = json!({
            "name": "O'Hara", "on": true, "n": 5, "gone": null, "at": "2026-05-01T10:00:00.5Z",
            "status": {"errorCode": 0}, "types": ["a", "b"], "targets": [{"id": "x"}],
        });
        for (filter, want) in [
            ("name eq 'o''hara'", true),
            ("name ne 'O''Hara'", false),
            ("startswith(name, 'o''h')", true),
            ("on eq true and n ge 5 and n lt 6", true),
            ("(on eq false or n gt 4) and not (n eq 7)", true),
            ("on eq false or n gt 4 and n lt 3", false),
            ("gone eq null", true),
            ("status/errorCode eq 0", true),
            ("types/any(t: t eq 'b')", true),
            ("types/any(t:t eq 'c' or t eq 'd')", false),
            ("targets/any(t: t/id eq 'x')", true),
            ("at ge 2026-05-01T10:00:00.5Z and at le '2026-05-01T12:00:00.5+02:00'", true),
            ("at gt 2026-05-01T10:00:00.5Z", false),
            ("at ge 2026-05-01", true),
            ("atScope()", true),
        ] {
            assert_eq!(fits(filter, &value), want, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let deep = format!("{}a eq 1{}", "(".repeat(100), ")".repeat(100));
        for bad in ["", "name", "name eq", "name eq 'x", "name eq 'x' and", "a eq 1 b", "foo(a)", "a like 'b'", "a eq #", "(a eq 1", &deep]
        {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_tells_what_it_demands() {
        let filter = Filter::parse("scopeId eq '/' and scopeType eq 'DirectoryRole'").unwrap();
        assert_eq!(filter.demands("scopeId"), Some("/"));
        assert_eq!(filter.demands("other"), None);
        assert_eq!(filter.roots(), ["scopeId", "scopeType"]);
        assert_eq!(Filter::parse("a eq '1' or b eq '2'").unwrap().demands("a"), None);
    }
}
