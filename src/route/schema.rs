//! The routes of our dialect as a JSON Schema, from the registry: every kind of route with its keys, in each of its forms.

use super::expect;
use super::registry::{KINDS, Kind};
use super::shadow::SHADOW_KEYS;
use crate::config::Node;
use crate::config::schema::{
    any, anything, choice, described, document, list, map_of, object, reference, strict_map, text,
    text_or_texts,
};
use crate::protocol::Op;

/// Keys whose value is one route.
const ROUTE: &[&str] = &[
    "child",
    "cold",
    "default_policy",
    "destination",
    "fallback",
    "from",
    "gutter",
    "l1",
    "l2",
    "normal",
    "target",
    "to",
    "warm",
    "wildcard",
];
/// Keys whose value is a list of routes, or one that stands for several.
const ROUTES: &[&str] = &["children", "failover"];
/// Keys whose value is a map from names to routes.
const BY_NAME: &[&str] = &["operation_policies", "policies", "routing_group_policies"];

/// The JSON Schema (draft-07) of a configuration.
#[must_use]
pub fn schema() -> Node {
    let mut definitions = vec![
        ("route".to_owned(), route()),
        ("routes".to_owned(), any([reference("route"), list(reference("route"))])),
        ("shadow".to_owned(), strict_map(SHADOW_KEYS.iter().map(|key| property(key, "")).collect())),
        ("test".to_owned(), test()),
    ];
    definitions.extend(KINDS.iter().map(|kind| (definition(kind), keys_of(kind))));
    document(definitions)
}

fn definition(kind: &Kind) -> String {
    format!("keys_of_{}", kind.short)
}

fn property(key: &str, what: &str) -> (String, Node) {
    let shape = match key {
        key if ROUTE.contains(&key) => reference("route"),
        key if ROUTES.contains(&key) => reference("routes"),
        key if BY_NAME.contains(&key) => map_of("route"),
        "shadows" => list(reference("shadow")),
        _ => anything(),
    };
    (key.to_owned(), if what.is_empty() { shape } else { described(what, shape) })
}

/// The keys of one kind, with or without `type`.
fn keys_of(kind: &Kind) -> Node {
    let common = [("type".to_owned(), anything()), ("name".to_owned(), text())];
    let own = kind.keys.iter().map(|key| property(key.name, key.what));
    strict_map(own.chain(common).collect())
}

/// A name, a list of one, `{type: …}` with keys, or one key that is a route's name.
fn route() -> Node {
    let mut types: Vec<&str> = KINDS.iter().flat_map(|kind| [kind.short, kind.name]).collect();
    types.push("PrefixPolicyRoute"); // mcrouter's old name
    let of_kind = |kind: &&Kind| {
        let is_it = Node::map([("type", choice([kind.short, kind.name]))]);
        let has_type = object([("properties", is_it), ("required", Node::texts(["type"]))]);
        Node::map([("if", has_type), ("then", reference(&definition(kind)))])
    };
    let typed = object([
        ("required", Node::texts(["type"])),
        ("properties", Node::map([("type", choice(types))])),
        ("allOf", Node::List(KINDS.iter().map(of_kind).collect())),
    ]);
    let short = KINDS.iter().flat_map(|kind| {
        let (_, main) = property(kind.bare, "");
        let value = any([reference(&definition(kind)), main]);
        [(kind.short.to_owned(), value.clone()), (kind.name.to_owned(), value)]
    });
    let Node::Map(short) = strict_map(short.collect()) else { return anything() };
    let one = [("minProperties", 1), ("maxProperties", 1)].map(|(key, n)| (key.to_owned(), Node::Integer(n)));
    let short = Node::Map(short.into_iter().chain(one).collect());
    let name = described("the name of a pool, of a handle, or of a route without keys", text());
    let one_of_one =
        Node::map([("type", "array".into()), ("items", reference("route")), ("maxItems", Node::Integer(1))]);
    any([name, short, typed, one_of_one])
}

fn test() -> Node {
    let shape = |key: &str| match key {
        "key" => text(),
        "op" => choice(Op::ALL.iter().map(|op| op.name())),
        _ => text_or_texts(),
    };
    let keys = expect::KEYS.iter().map(|(key, what)| ((*key).to_owned(), described(what, shape(key))));
    let Node::Map(expect) = strict_map(keys.collect()) else { return anything() };
    let required = ("required".to_owned(), Node::texts(["key"]));
    let expect = Node::Map(expect.into_iter().chain([required]).collect());
    strict_map(vec![("expect".to_owned(), expect)])
}
