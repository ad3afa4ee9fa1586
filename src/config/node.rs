//! What a document says, whatever it was written in: the tree between text and checked configuration.
//!
//! Routes are kept in this form until they are built, because only the room `route` knows what each of them reads.

use super::fault::quoted;

/// What a document says. Keys are unique and text; merges are done; tags are gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Node {
    #[default]
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    /// For messages: "expected …, found " this.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a map".into(),
        }
    }
}
