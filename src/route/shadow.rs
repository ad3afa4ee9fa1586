//! ShadowRoute, and `shadows` of a pool: copies of requests go to another place, to try it out.
//!
//! All operations: to the child, whose reply is the answer; and, where a shadow is meant, a copy to its target. Nobody waits
//! for a copy, its reply is thrown away, and its failure is nobody's.

use super::call::Kind as CallKind;
use super::draw::Draw;
use super::key::{Fraction, routing_key};
use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, Route, Slot, When};
use crate::config::{At, Findings, Node, Path, Problem, Section, value};
use crate::protocol::{Op, Request};
use std::collections::HashSet;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ShadowRoute",
    short: "shadow",
    bare: "child",
    keys: &[
        Key { name: "child", what: "where requests go" },
        Key { name: "children", what: "mcrouter's form: several of them, for a route above that chooses" },
        Key { name: "shadows", what: "a list of maps: target, key_fraction_range, requests_fraction, …" },
    ],
    build,
};

/// The keys of one shadow.
pub(super) const SHADOW_KEYS: &[&str] =
    &["target", "index_range", "key_fraction_range", RANGE_NAME, "keys_to_shadow", "requests_fraction"];

/// What is exclusive with a list of keys.
const RANGES: &[&str] = &["index_range", "key_fraction_range", RANGE_NAME];
const RANGE_NAME: &str = "key_fraction_range_rv";

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let mut children = children(params)?;
    if children.len() == 1 {
        return children.pop();
    }
    params.fault("children", Problem::new(format!("one route is wanted here, not {}", children.len())));
    None
}

/// The children with their shadows: mcrouter's ShadowRoute stands for a list.
pub(super) fn children(params: &Params<'_>) -> Option<Vec<Rc<dyn Route>>> {
    let children =
        if params.has("child") { vec![params.child("child")?] } else { params.children("children")? };
    shadowed(params, children)
}

/// Puts what `shadows` says on the children, by their places in the list.
pub(super) fn shadowed(params: &Params<'_>, children: Vec<Rc<dyn Route>>) -> Option<Vec<Rc<dyn Route>>> {
    let Some(node) = params.section.node("shadows") else { return Some(children) };
    let path = params.path().key("shadows");
    let Node::List(list) = node else {
        params.fault("shadows", value::expected("a list of shadows", node));
        return None;
    };
    let read = |(i, node): (usize, &Node)| read_shadow(params, node, &path.index(i), children.len());
    // every one is read, so that the first fault does not hide the next
    let shadows: Vec<Option<Option<Rc<Shadow>>>> = list.iter().enumerate().map(read).collect();
    let shadows: Vec<Option<Rc<Shadow>>> = shadows.into_iter().collect::<Option<_>>()?;
    let shadows: Vec<Rc<Shadow>> = shadows.into_iter().flatten().collect();
    let on = |(i, child): (usize, Rc<dyn Route>)| -> Rc<dyn Route> {
        let mine: Vec<_> = shadows.iter().filter(|s| s.children.contains(&i)).cloned().collect();
        if mine.is_empty() { child } else { Rc::new(Shadowed { child, shadows: mine }) }
    };
    Some(children.into_iter().enumerate().map(on).collect())
}

/// One shadow; `Some(None)`: something is wrong with it, and it is left out, as mcrouter does.
fn read_shadow(
    params: &Params<'_>,
    node: &Node,
    path: &Path<'_>,
    count: usize,
) -> Option<Option<Rc<Shadow>>> {
    let findings = params.section.findings;
    if params.is_mcrouter() {
        let wrong = Findings::default();
        let terms = Terms::read(node, path, &wrong, true);
        if findings.warn_all(wrong) {
            findings.warn(path, At::Value, Problem::new("this shadow is left out, as mcrouter does"));
            return Some(None);
        }
        return Some(Some(terms?.of(params, node, path, count)?));
    }
    let terms = Terms::read(node, path, findings, false);
    Some(Some(terms?.of(params, node, path, count)?))
}

/// Whether mcrouter takes this shadow.
pub(super) fn is_sound(node: &Node) -> bool {
    let wrong = Findings::default();
    Terms::read(node, &Path::ROOT, &wrong, true).is_some() && wrong.faults_count() == 0
}

/// What one shadow says, but for its target.
struct Terms {
    indexes: Option<(f64, f64)>,
    what: What,
    share: f64,
    is_mcrouter: bool,
}

impl Terms {
    fn read(node: &Node, path: &Path<'_>, findings: &Findings, is_mcrouter: bool) -> Option<Self> {
        let section = Section::open(node, path, findings, "a shadow, a map with `target`")?;
        if !is_mcrouter {
            section.refuse_unknown(SHADOW_KEYS, &[]);
        }
        if section.node("target").is_none() {
            findings.fault(path, At::Key, Problem::new("`target` is missing"));
        }
        let pair = |key: &str, most: f64| section.value(key, |node| read_pair(node, most));
        let (indexes, fraction) = (pair("index_range", 1e6), pair("key_fraction_range", 1.0));
        // what has its value has been put in the place of its name
        let is_named = section.node(RANGE_NAME).is_some();
        if is_named {
            let problem =
                Problem::new("this runtime variable is not known: the shadow stays as it is without");
            let problem = problem.help("`--runtime-vars-file` names their file");
            findings.warn(&path.key(RANGE_NAME), At::Value, problem);
        }
        let share = section.value("requests_fraction", |node| {
            let share = number(node).filter(|share| (0.0..=1.0).contains(share));
            share.ok_or_else(|| value::expected("a number from 0 to 1", node))
        });
        let keys = section.value("keys_to_shadow", |node| {
            let wrong = || value::expected("a list of keys", node);
            let Node::List(list) = node else { return Err(wrong()) };
            let text =
                |node: &Node| if let Node::Text(key) = node { Some(key.clone().into_bytes()) } else { None };
            list.iter().map(text).collect::<Option<HashSet<Vec<u8>>>>().ok_or_else(wrong)
        });
        if is_mcrouter
            && keys.as_ref().is_some_and(|keys| !keys.is_empty())
            && let Some(range) = RANGES.iter().find(|range| section.node(range).is_some())
        {
            section.fault(range, Problem::new("a list of keys and a range do not go together"));
        }
        let what = match (keys, fraction) {
            // for all children, whatever their places
            (Some(keys), _) => What::Keys(keys),
            (None, Some((start, end))) => What::Fraction(Fraction::new(start, end)),
            // mcrouter's range is empty where none is given; ours is everything
            (None, None) if is_mcrouter || is_named => What::Fraction(Fraction::new(0.0, 0.0)),
            (None, None) => What::Fraction(Fraction::new(0.0, 1.0)),
        };
        Some(Self { indexes, what, share: share.unwrap_or(1.0), is_mcrouter })
    }

    /// With its target, for one of so many children.
    fn of(self, params: &Params<'_>, node: &Node, path: &Path<'_>, count: usize) -> Option<Rc<Shadow>> {
        let section = Section::open(node, path, params.section.findings, "a shadow, a map with `target`")?;
        let target = params.builder.handle(section.node("target")?, &path.key("target"))?;
        let children = match (self.indexes, &self.what) {
            (_, What::Keys(_)) => 0..count,
            (Some((start, end)), _) => start as usize..end as usize,
            // mcrouter's end is exclusive, and its range is empty where none is given; ours is everything
            (None, _) if self.is_mcrouter => 0..0,
            (None, _) => 0..count,
        };
        Some(Rc::new(Shadow { target, children, what: self.what, share: self.share, draw: Draw::new() }))
    }
}

fn number(node: &Node) -> Option<f64> {
    match node {
        Node::Integer(n) => Some(*n as f64),
        Node::Float(n) => Some(*n),
        _ => None,
    }
}

fn read_pair(node: &Node, most: f64) -> Result<(f64, f64), Problem> {
    let pair = match node {
        Node::List(list) if list.len() == 2 => number(&list[0]).zip(number(&list[1])),
        _ => None,
    };
    pair.filter(|(a, b)| 0.0 <= *a && a <= b && *b <= most)
        .ok_or_else(|| value::expected(&format!("two numbers from 0 to {most}, the smaller one first"), node))
}

enum What {
    Keys(HashSet<Vec<u8>>),
    Fraction(Fraction),
}

struct Shadow {
    target: Rc<dyn Route>,
    /// Places in the list of children.
    children: std::ops::Range<usize>,
    what: What,
    /// Of the requests that are meant.
    share: f64,
    draw: Draw,
}

impl Shadow {
    fn means(&self, key: &[u8]) -> bool {
        match &self.what {
            What::Keys(keys) => keys.contains(routing_key(key)),
            What::Fraction(fraction) => fraction.has(key),
        }
    }
}

struct Shadowed {
    child: Rc<dyn Route>,
    shadows: Vec<Rc<Shadow>>,
}

impl Route for Shadowed {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.child.send(request, call, slot);
        for shadow in &self.shadows {
            if shadow.means(request.key) && shadow.draw.is_within(shadow.share) {
                shadow.target.send(request, &call.to(CallKind::Shadow), Slot::nowhere());
            }
        }
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.child.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let mut here = Explained::new("shadow").with(When::Now, self.child.explain(request));
        for shadow in self.shadows.iter().filter(|shadow| shadow.means(request.key)) {
            here = here.with(When::Beside, shadow.target.explain(request));
        }
        here
    }
}
