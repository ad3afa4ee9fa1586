//! Text to [`Node`]: the only door to serde_yaml, which alone decides what a document says.
//!
//! The tree is built by a visitor of our own, not through `serde_yaml::Value`, for three things that `Value` cannot do: a key
//! that is written twice is a fault with a place and does not hide the other faults; `<<` is merged here; and every node is
//! counted, so that a few aliases cannot grow into gigabytes.

use super::fault::{At, Fault, Findings, Place, Problem, Source, quoted};
use super::node::Node;
use super::path::Path;
use super::position;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Nodes after aliases are followed. 100,000 servers in map form are 700,000.
const NODES_COUNT_MAX: usize = 2_000_000;
/// serde_yaml reads 128 levels, but its scanner looks at every open bracket for every token before it counts them: a file of
/// brackets alone would take hours. So brackets are counted first, blindly; in quotes and comments nobody leaves this many open.
const OPEN_BRACKETS_COUNT_MAX: usize = 256;
const TOO_MANY: &str = "more than 2,000,000 values when its aliases are followed";

/// Reads one document. What is wrong in its shape (a key twice, a tag) goes to `findings`; `Err` is text that is no YAML.
pub(super) fn read(source: &Arc<Source>, findings: &Findings) -> Result<Node, Box<Fault>> {
    if let Some(offset) = too_many_open(&source.text) {
        let place = Some(position::place_at(&source.text, offset));
        return Err(Box::new(too_deep(source, place)));
    }
    let left = Cell::new(NODES_COUNT_MAX);
    let reader = Reader { path: &Path::ROOT, findings, left: &left };
    reader
        .deserialize(serde_yaml::Deserializer::from_str(&source.text))
        .map_err(|error| Box::new(syntax_fault(source, &error)))
}

fn too_many_open(text: &str) -> Option<usize> {
    let mut open_count = 0_usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open_count += 1,
            b']' | b'}' => open_count = open_count.saturating_sub(1),
            _ => {}
        }
        if open_count > OPEN_BRACKETS_COUNT_MAX {
            return Some(offset);
        }
    }
    None
}

fn too_deep(source: &Arc<Source>, place: Option<Place>) -> Fault {
    let help = Some("at most 128 levels".into());
    Fault { source: Arc::clone(source), path: String::new(), message: "nested too deep".into(), help, place }
}

/// serde_yaml's error in our form.
fn syntax_fault(source: &Arc<Source>, error: &serde_yaml::Error) -> Fault {
    let text = &source.text;
    let said = error.to_string();
    // serde_yaml repeats the position inside its text: "… at line 3 column 5, while parsing …".
    let message = said.split(" at line ").next().unwrap_or(&said).to_owned();
    let mut place = error.location().map(|at| position::place_at_column(text, at.line(), at.column()));
    let is_tab = place.as_ref().is_some_and(|place| text[place.bytes.start..].starts_with('\t'));
    // Every node of it was counted: nothing to point at.
    let is_too_much = message.contains("repetition limit") || message.contains(TOO_MANY);
    if message.contains("recursion limit") {
        return too_deep(source, place);
    }
    let (message, help) = if is_too_much {
        (TOO_MANY.into(), None)
    } else if message.contains("more than one document") {
        place = position::second_document(text);
        ("a second document begins here".into(), Some("a configuration is one document".into()))
    } else if is_tab {
        ("a tab".into(), Some("YAML is indented with spaces".into()))
    } else {
        let line = place.as_ref().and_then(|place| text.lines().nth(place.line - 1));
        let is_ip6 = line.is_some_and(|line| line.contains("::"));
        let context = said.split_once(", while ").map(|(_, context)| format!("while {context}"));
        let context = if is_ip6 {
            Some("an address in brackets needs quotes: \"[::1]:11211\"".to_owned())
        } else {
            context
        };
        (format!("not valid YAML: {message}"), context)
    };
    let place = Some(place.unwrap_or(Place { line: 1, column: 1, bytes: 0..0 }));
    Fault { source: Arc::clone(source), path: String::new(), message, help, place }
}

/// Reads the node at `path`.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: &'a Path<'a>,
    findings: &'a Findings,
    left: &'a Cell<usize>,
}

impl<'a> Reader<'a> {
    fn below<'b>(self, path: &'b Path<'b>) -> Reader<'b>
    where
        'a: 'b,
    {
        Reader { path, findings: self.findings, left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else { return Err(D::Error::custom(TOO_MANY)) };
        self.left.set(left);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(i128::try_from(value).map_or(Node::Float(value as f64), Node::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = from.next_element_seed(self.below(&self.path.index(list.len())))? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut map: Vec<(String, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        while let Some(key) = from.next_key_seed(KeyReader)? {
            let (text, is_text) = match key {
                Key::Text(text) => (text, true),
                Key::Other(text) => (text, false),
            };
            let nth = seen.get(&text).copied().unwrap_or(0);
            seen.insert(text.clone(), nth + 1);
            let path = self.path.nth_key(&text, nth);
            let value = from.next_value_seed(self.below(&path))?;
            if !is_text {
                let problem = Problem::new(format!("a key must be text, not {}", quoted(&text)));
                self.findings.fault(&path, At::Key, problem.help("put it in quotes"));
            } else if nth > 0 {
                self.findings.fault(
                    &path,
                    At::Key,
                    Problem::new("this key is written twice").help("keep one of them"),
                );
            } else if text == "<<" {
                merges.push(value);
            } else {
                map.push((text, value));
            }
        }
        for value in merges {
            self.merge(&mut map, &mut seen, value);
        }
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Node, A::Error> {
        let (tag, value) = from.variant::<String>()?;
        let problem = Problem::new(format!("the tag {} has no meaning here", quoted(&tag)));
        self.findings.fault(self.path, At::Value, problem.help("leave it out"));
        value.newtype_variant_seed(self)
    }
}

impl Reader<'_> {
    /// `<<`: the keys of a map, or of several, that are not written here.
    fn merge(&self, map: &mut Vec<(String, Node)>, seen: &mut HashMap<String, usize>, value: Node) {
        let maps = match value {
            Node::Map(entries) => vec![Node::Map(entries)],
            Node::List(list) => list,
            other => vec![other],
        };
        for from in maps {
            let Node::Map(entries) = from else {
                let problem = Problem::new(format!("`<<` merges maps, not {}", from.kind()));
                self.findings.fault(
                    &self.path.key("<<"),
                    At::Value,
                    problem.help("write `<<: *name` of an anchored map"),
                );
                continue;
            };
            for (key, value) in entries {
                if !seen.contains_key(&key) {
                    seen.insert(key.clone(), 1);
                    map.push((key, value));
                }
            }
        }
    }
}

enum Key {
    Text(String),
    /// Not text; as near to its spelling as can be told.
    Other(String),
}

struct KeyReader;

impl<'de> DeserializeSeed<'de> for KeyReader {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Key, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyReader {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key::Other("null".into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Key, E> {
        Ok(Key::Other(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Key, A::Error> {
        while from.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Key::Other("[…]".into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Key, A::Error> {
        while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Key::Other("{…}".into()))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Key, A::Error> {
        let (tag, value) = from.variant::<String>()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Key::Other(format!("!{tag}")))
    }
}
