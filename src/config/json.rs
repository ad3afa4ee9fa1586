//! JSON with comments and trailing commas, every value with its place: the only door to jsonc-parser.
//!
//! Values are shared, not copied, so that a macro may use one a thousand times. Lists and maps know how deep and how many
//! values they are: what would be too much is refused when it is put together, not when it is walked.

use super::node::Node;
use jsonc_parser::ast;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use std::collections::HashMap;
use std::rc::Rc;

/// mcrouter nests macros 250 deep; people some ten.
const DEPTH_MAX: u32 = 250;
/// 100,000 servers are 100,000 values.
const VALUES_COUNT_MAX: usize = 2_000_000;

/// Where a value was written: the number of its file, and bytes within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Json {
    pub(super) spot: Spot,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<List>),
    Map(Rc<Map>),
}

#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) items: Vec<Json>,
    extent: Extent,
}

/// In the order of the text; keys are unique.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: Vec<(Key, Json)>,
    extent: Extent,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: Rc<str>,
    pub(super) spot: Spot,
}

#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    depth: u32,
    values_count: usize,
}

impl Extent {
    fn of(items: impl Iterator<Item = Self>) -> Result<Self, TooMuch> {
        let mut sum = Self { depth: 0, values_count: 1 };
        for item in items {
            sum.depth = sum.depth.max(item.depth);
            sum.values_count += item.values_count;
        }
        sum.depth += 1;
        match sum {
            Self { depth, .. } if depth > DEPTH_MAX => Err(TooMuch("nested too deep")),
            Self { values_count, .. } if values_count > VALUES_COUNT_MAX => {
                Err(TooMuch("more than 2,000,000 values"))
            }
            _ => Ok(sum),
        }
    }
}

/// Why a list or a map cannot be put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMuch(pub(super) &'static str);

/// What is wrong with a text, and where.
pub(super) struct Syntax {
    pub(super) message: String,
    pub(super) spot: Spot,
}

/// Reads one document.
pub(super) fn parse(file: u32, text: &str) -> Result<Json, Syntax> {
    let spot = |start: usize, end: usize| Spot { file, start: start as u32, end: end as u32 };
    if let Some(offset) = too_many_open(text) {
        return Err(Syntax { message: TooMuch("nested too deep").0.into(), spot: spot(offset, offset + 1) });
    }
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let collect = CollectOptions { comments: Default::default(), tokens: false };
    let parsed = parse_to_ast(text, &collect, &options).map_err(|error| Syntax {
        message: format!("not valid JSON: {}", lowered(&error.kind().to_string())),
        spot: spot(error.range().start, error.range().end),
    })?;
    let end = text.len();
    match parsed.value {
        Some(value) => {
            taken(file, value).map_err(|(TooMuch(why), spot)| Syntax { message: why.into(), spot })
        }
        None => Err(Syntax { message: "the file is empty".into(), spot: spot(end, end) }),
    }
}

/// Sees the brackets alone: the parser is recursive, and in quotes and comments nobody leaves this many open.
fn too_many_open(text: &str) -> Option<usize> {
    let mut open_count = 0_u32;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open_count += 1,
            b']' | b'}' => open_count = open_count.saturating_sub(1),
            _ => {}
        }
        if open_count > DEPTH_MAX {
            return Some(offset);
        }
    }
    None
}

fn lowered(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn taken(file: u32, value: ast::Value<'_>) -> Result<Json, (TooMuch, Spot)> {
    let place =
        |range: &jsonc_parser::common::Range| Spot { file, start: range.start as u32, end: range.end as u32 };
    Ok(match value {
        ast::Value::NullKeyword(null) => Json { spot: place(&null.range), value: Value::Null },
        ast::Value::BooleanLit(bool) => Json { spot: place(&bool.range), value: Value::Bool(bool.value) },
        ast::Value::StringLit(text) => {
            Json { spot: place(&text.range), value: Value::Text(text.value.into()) }
        }
        ast::Value::NumberLit(number) => {
            let text = number.value;
            let value = text.parse().map_or_else(
                // the parser has seen that it is a number
                |_| Value::Float(text.parse().unwrap_or(f64::INFINITY)),
                Value::Integer,
            );
            Json { spot: place(&number.range), value }
        }
        ast::Value::Array(array) => {
            let spot = place(&array.range);
            let items =
                array.elements.into_iter().map(|value| taken(file, value)).collect::<Result<_, _>>()?;
            Json::list(spot, items).map_err(|why| (why, spot))?
        }
        ast::Value::Object(object) => {
            let spot = place(&object.range);
            let mut map = MapBuilder::default();
            for property in object.properties {
                let (name, range) = match property.name {
                    ast::ObjectPropName::String(text) => (text.value, text.range),
                    ast::ObjectPropName::Word(word) => (word.value.into(), word.range),
                };
                map.set(Key { name: name.into(), spot: place(&range) }, taken(file, property.value)?);
            }
            map.build(spot).map_err(|why| (why, spot))?
        }
    })
}

/// A map being put together: of keys that are set twice the last value counts, at the place of the first.
#[derive(Default)]
pub(super) struct MapBuilder {
    entries: Vec<(Key, Json)>,
    places: HashMap<Rc<str>, usize>,
}

impl MapBuilder {
    pub(super) fn of(map: &Map) -> Self {
        let places = map.entries.iter().enumerate().map(|(i, (key, _))| (Rc::clone(&key.name), i)).collect();
        Self { entries: map.entries.clone(), places }
    }

    pub(super) fn set(&mut self, key: Key, value: Json) {
        if let Some(&place) = self.places.get(&key.name) {
            self.entries[place] = (key, value);
        } else {
            self.places.insert(Rc::clone(&key.name), self.entries.len());
            self.entries.push((key, value));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn build(self, spot: Spot) -> Result<Json, TooMuch> {
        let extent = Extent::of(self.entries.iter().map(|(_, value)| value.extent()))?;
        Ok(Json { spot, value: Value::Map(Rc::new(Map { entries: self.entries, extent })) })
    }
}

impl Map {
    pub(super) fn entry(&self, key: &str) -> Option<&(Key, Json)> {
        self.entries.iter().find(|(k, _)| &*k.name == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The text under this key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Json::as_text)
    }
}

impl Json {
    pub(super) fn new(spot: Spot, value: Value) -> Self {
        Self { spot, value }
    }

    pub(super) fn text(spot: Spot, text: &str) -> Self {
        Self { spot, value: Value::Text(text.into()) }
    }

    pub(super) fn list(spot: Spot, items: Vec<Self>) -> Result<Self, TooMuch> {
        let extent = Extent::of(items.iter().map(Self::extent))?;
        Ok(Self { spot, value: Value::List(Rc::new(List { items, extent })) })
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&Rc<Map>> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// How many values this is, itself included.
    pub(super) fn values_count(&self) -> usize {
        self.extent().values_count
    }

    fn extent(&self) -> Extent {
        match &self.value {
            Value::List(list) => list.extent,
            Value::Map(map) => map.extent,
            _ => Extent { depth: 0, values_count: 1 },
        }
    }

    /// For messages: "expected …, found " this.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "an array",
            Value::Map(_) => "an object",
        }
    }

    /// What it says, without its places.
    pub(super) fn node(&self) -> Node {
        match &self.value {
            Value::Null => Node::Null,
            Value::Bool(value) => Node::Bool(*value),
            Value::Integer(value) => Node::Integer((*value).into()),
            Value::Float(value) => Node::Float(*value),
            Value::Text(text) => Node::Text(text.to_string()),
            Value::List(list) => Node::List(list.items.iter().map(Self::node).collect()),
            Value::Map(map) => Node::Map(
                map.entries.iter().map(|(key, value)| (key.name.to_string(), value.node())).collect(),
            ),
        }
    }
}

/// Whether both say the same, wherever they stand.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Integer(a), Self::Float(b)) | (Self::Float(b), Self::Integer(a)) => *a as f64 == *b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.items.len() == b.items.len()
                    && a.items.iter().zip(&b.items).all(|(a, b)| a.value == b.value)
            }
            (Self::Map(a), Self::Map(b)) => {
                a.entries.len() == b.entries.len() && {
                    let of_b: HashMap<&str, &Json> = b.entries.iter().map(|(k, v)| (&*k.name, v)).collect();
                    let same = |(k, v): &(Key, Json)| of_b.get(&*k.name).is_some_and(|b| v.value == b.value);
                    a.entries.iter().all(same)
                }
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, String> {
        parse(0, text).map_err(|syntax| format!("{}: {}", syntax.spot.start, syntax.message))
    }

    #[test]
    fn comments_and_trailing_commas() {
        let json = read("// a\n{\"a\": [1, 2.5, /* b */ \"x\\n\\u00e9\",], \"b\": {\"c\": null,},}").unwrap();
        let map = json.as_map().unwrap();
        assert_eq!(map.get("a").unwrap().spot, Spot { file: 0, start: 11, end: 41 });
        assert_eq!(map.entry("b").unwrap().0.spot.start, 43);
        assert_eq!(json.values_count(), 7);
        let Node::Map(node) = json.node() else { panic!() };
        let want = [Node::Integer(1), Node::Float(2.5), Node::Text("x\né".into())];
        assert_eq!(node[0].1, Node::List(want.into()));
    }

    #[test]
    fn the_last_of_two_keys_counts() {
        let json = read("{\"a\": 1, \"b\": 2, \"a\": 3}").unwrap();
        let want = [("a".to_owned(), Node::Integer(3)), ("b".to_owned(), Node::Integer(2))];
        assert_eq!(json.node(), Node::Map(want.into()));
    }

    #[test]
    fn what_is_no_json() {
        for text in
            ["", "{a: 1}", "{'a': 1}", "{\"a\" 1}", "[1 2]", "{", "[", "\"a", "0x10", "+1", "{}{}", "NaN"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)).unwrap_err(), "250: nested too deep");
        assert!(read(&"{\"a\":".repeat(100_000)).unwrap_err().ends_with("nested too deep"));
        let most = DEPTH_MAX as usize;
        assert!(read(&format!("{}{}", "[".repeat(most), "]".repeat(most))).is_ok());
    }

    #[test]
    fn what_is_put_together_is_bounded() {
        let spot = Spot::default();
        let mut json = Json::list(spot, Vec::new()).unwrap();
        let doubled = (0..40).try_for_each(|_| {
            json = Json::list(spot, vec![json.clone(), json.clone()])?;
            Ok::<_, TooMuch>(())
        });
        assert_eq!(doubled.unwrap_err().0, "more than 2,000,000 values");
        let mut json = Json::new(spot, Value::Null);
        let nested = (0..400).try_for_each(|_| {
            json = Json::list(spot, vec![json.clone()])?;
            Ok::<_, TooMuch>(())
        });
        assert_eq!(nested.unwrap_err().0, "nested too deep");
    }
}
