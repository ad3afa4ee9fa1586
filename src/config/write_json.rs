//! A document as JSON, two spaces for each step down, keys in their order: for `preprocessed_config` and the schema.

use super::node::Node;
use std::fmt::Write as _;

impl Node {
    /// As JSON, without a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        write(&mut text, self, 0);
        text
    }

    /// A map of these, for those who put a document together.
    pub(crate) fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(entries.into_iter().map(|(key, node)| (key.into(), node)).collect())
    }

    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn write(text: &mut String, node: &Node, indent: usize) {
    // writing to a String cannot fail
    let _ = match node {
        Node::Null => write!(text, "null"),
        Node::Bool(value) => write!(text, "{value}"),
        Node::Integer(value) => write!(text, "{value}"),
        Node::Float(value) if value.is_finite() => write!(text, "{value:?}"),
        // JSON has no word for it
        Node::Float(_) => write!(text, "null"),
        Node::Text(value) => {
            write_text(text, value);
            Ok(())
        }
        Node::List(list) => {
            write_several(text, indent, ['[', ']'], list, |text, node| write(text, node, indent + 2));
            Ok(())
        }
        Node::Map(map) => {
            write_several(text, indent, ['{', '}'], map, |text, (key, node)| {
                write_text(text, key);
                text.push_str(": ");
                write(text, node, indent + 2);
            });
            Ok(())
        }
    };
}

fn write_several<T>(
    text: &mut String,
    indent: usize,
    [open, close]: [char; 2],
    items: &[T],
    write_one: impl Fn(&mut String, &T),
) {
    text.push(open);
    for (i, item) in items.iter().enumerate() {
        text.push_str(if i == 0 { "\n" } else { ",\n" });
        let _ = write!(text, "{:1$}", "", indent + 2);
        write_one(text, item);
    }
    if !items.is_empty() {
        let _ = write!(text, "\n{:indent$}", "");
    }
    text.push(close);
}

fn write_text(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_every_kind() {
        let inner = Node::map([("a\"\n", Node::Null), ("b", Node::Float(1.0))]);
        let node = Node::List(vec![Node::Bool(true), inner, Node::List(Vec::new()), "é".into()]);
        let text = node.to_json();
        assert_eq!(
            text,
            "[\n  true,\n  {\n    \"a\\\"\\u000a\": null,\n    \"b\": 1.0\n  },\n  [],\n  \"é\"\n]"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
