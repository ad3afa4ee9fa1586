//! mcrouter's runtime variables: a file of JSON beside the configuration, for a few values that are turned while it serves.
//!
//! They are put into the routes when those are read. The file is watched as the configuration is, so that a variable that
//! changes is a configuration that changes: checked as a whole, and no connection is lost. Read are, as in mcrouter, the ranges
//! that `key_fraction_range_rv` of shadows names (a variable, or an entry of `key_fractions`), and the weights that `weights_rv`
//! names with `WeightedCh3Rv` (an entry of `hash_route_weights`). Source: mcrouter.md 2.8, `RuntimeVarsData`.

use super::fault::{Fault, Faults, Findings, Source};
use super::json;
use super::node::Node;
use super::position::place_at;
use super::{CheckRoutes, Config};
use std::path::Path;
use std::sync::Arc;

/// A key that names a variable, the key in whose place its value is put, and the map in which names are looked for too.
const NAMING: &[(&str, &str, &str)] = &[
    ("key_fraction_range_rv", "key_fraction_range", "key_fractions"),
    ("weights_rv", "weights", "hash_route_weights"),
];

/// What one file says.
pub(super) struct RuntimeVars {
    pub(super) source: Arc<Source>,
    variables: Vec<(String, Node)>,
}

impl RuntimeVars {
    /// Of the bytes of a file.
    pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Self, Faults> {
        let name = path.display().to_string();
        let text =
            String::from_utf8(bytes).map_err(|_| Faults::of_file(&name, "not UTF-8 text".into(), None))?;
        let source = Arc::new(Source { name: name.clone(), text });
        let json = json::parse(0, &source.text).map_err(|syntax| {
            let place = Some(place_at(&source.text, syntax.spot.start as usize));
            let fault = Fault {
                source: Arc::clone(&source),
                path: String::new(),
                message: syntax.message,
                help: None,
                place,
            };
            Faults::of_one(fault)
        })?;
        match json.node() {
            Node::Map(variables) => Ok(Self { source, variables }),
            other => Err(Faults::of_file(
                &name,
                format!("expected a map of variables, found {}", other.kind()),
                None,
            )),
        }
    }

    /// Puts values where the routes of a configuration name variables, and has the routes checked.
    pub(super) fn put_and_check(
        variables: Option<&Self>,
        config: Option<&mut Config>,
        check: CheckRoutes,
        findings: &Findings,
    ) {
        let Some(config) = config else { return };
        if let Some(variables) = variables {
            variables.put_into(&mut config.routes.document);
        }
        check(config, findings);
    }

    /// Puts values where routes name variables. A name that nobody knows stays, and the route says what it makes of that.
    fn put_into(&self, node: &mut Node) {
        match node {
            Node::List(list) => list.iter_mut().for_each(|item| self.put_into(item)),
            Node::Map(map) => {
                for (naming, key, table) in NAMING {
                    let named = map.iter().position(|(known, _)| known == naming);
                    let Some((at, value)) = named.and_then(|at| Some((at, self.value(&map[at].1, table)?)))
                    else {
                        continue;
                    };
                    map[at] = ((*key).to_owned(), value);
                    let mut place = 0..;
                    map.retain(|(known, _)| place.next() == Some(at) || known != key);
                }
                map.iter_mut().for_each(|(_, value)| self.put_into(value));
            }
            _ => {}
        }
    }

    fn value(&self, name: &Node, table: &str) -> Option<Node> {
        let Node::Text(name) = name else { return None };
        let of = |map: &[(String, Node)], name: &str| {
            map.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        of(&self.variables, name).or_else(|| match of(&self.variables, table)? {
            Node::Map(entries) => of(&entries, name),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Findings;
    use crate::config::yaml;

    fn parsed(text: &str) -> Node {
        yaml::read(&Arc::new(Source { name: "test".into(), text: text.into() }), &Findings::default())
            .unwrap()
    }

    #[test]
    fn values_stand_where_they_are_named() {
        let Node::Map(variables) =
            parsed("{a: [0, 0.5], key_fractions: {b: [0.1, 0.2]}, hash_route_weights: {w: [1, 0]}, c: 7}")
        else {
            panic!()
        };
        let source = Arc::new(Source { name: "vars".into(), text: String::new() });
        let vars = RuntimeVars { source, variables };
        let mut routes = parsed(
            "{shadows: [{key_fraction_range: [0, 1], target: x, key_fraction_range_rv: a}, {key_fraction_range_rv: b}], \
             hash: {weights_rv: w}, other: {weights_rv: unknown}}",
        );
        vars.put_into(&mut routes);
        let expected = "{shadows: [{target: x, key_fraction_range: [0, 0.5]}, {key_fraction_range: [0.1, 0.2]}], \
             hash: {weights: [1, 0]}, other: {weights_rv: unknown}}";
        assert_eq!(routes, parsed(expected));
    }
}
