//! The root of the tree: where every request starts, and where routing prefixes are understood.
//!
//! A key `/region/cluster/rest` goes to the route of that prefix, without it; the client sees the key that it asked for.
//! `*` stands for any name: `/*/*/key` goes to all routes, the default one first, whose reply is the answer. Prefixes are
//! looked for only where the configuration has `routes`; else a key that begins with a slash is a key like any other.
//! Here, too, deletes are told to the feed, where there is one.
//! Source: mcrouter's `RootRoute`, `RouteSelectorMap`.

use super::prefix_selector::NO_ROUTE;
use super::rekey::send_as;
use super::{Call, Explained, Fed, Leaf, PoolRoute, Route, Slot, When};
use crate::protocol::{Cause, Op, Reply, Request, Status};
use std::collections::HashMap;
use std::rc::Rc;

/// A worker's tree.
pub struct Root {
    /// Where requests without a routing prefix go.
    default: Rc<dyn Route>,
    /// `None`: all of them do, and nothing else is to be done.
    front: Option<Front>,
    /// All pools that routes lead to.
    pools: Vec<Rc<PoolRoute>>,
    tells_misses: bool,
    /// Where the whole tree is one pool.
    only: Option<Rc<PoolRoute>>,
}

/// What requests meet before the routes.
struct Front {
    /// `None`: keys have no routing prefixes.
    prefixes: Option<Prefixes>,
    /// `None`: nobody is told of deletes.
    fed: Option<Fed>,
}

/// A routing prefix and its route.
type Entry = (Rc<[u8]>, Rc<dyn Route>);

/// The routes of `routes`.
pub(super) struct Prefixes {
    /// In the order of the configuration, the default route first.
    entries: Vec<Entry>,
    by_prefix: HashMap<Rc<[u8]>, usize>,
    /// Requests with a prefix that nobody has go to the default route.
    invalid_to_default: bool,
    /// Some servers see prefixes (`keep_routing_prefix`), to which two names of one route are two things.
    are_kept: bool,
}

impl Prefixes {
    /// `entries`: prefixes such as `/region/cluster/` and their routes, the default one first.
    pub(super) fn new(entries: Vec<Entry>, invalid_to_default: bool, are_kept: bool) -> Self {
        let by_prefix = entries.iter().enumerate().map(|(i, (prefix, _))| (Rc::clone(prefix), i)).collect();
        Self { entries, by_prefix, invalid_to_default, are_kept }
    }

    /// The routes that a prefix names, the one that is waited for first.
    fn of(&self, prefix: &[u8]) -> Vec<&Entry> {
        if let Some(index) = self.by_prefix.get(prefix) {
            return vec![&self.entries[*index]];
        }
        if prefix.contains(&b'*') {
            let named = self.named_by(prefix);
            return if named.is_empty() { self.for_invalid() } else { named };
        }
        let region = prefix.iter().skip(1).position(|b| *b == b'/').map_or(0, |at| at + 2);
        let fallback = [&prefix[..region], b"fallback/"].concat();
        if let Some(index) = self.by_prefix.get(fallback.as_slice()) {
            return vec![&self.entries[*index]];
        }
        self.for_invalid()
    }

    /// Each route once, however many names it has.
    fn named_by(&self, pattern: &[u8]) -> Vec<&Entry> {
        let mut named: Vec<&Entry> = Vec::new();
        for entry in self.entries.iter().filter(|(known, _)| matches(pattern, known)) {
            let is_same = |other: &&Entry| std::ptr::addr_eq(Rc::as_ptr(&other.1), Rc::as_ptr(&entry.1));
            if self.are_kept || !named.iter().any(is_same) {
                named.push(entry);
            }
        }
        named
    }

    fn for_invalid(&self) -> Vec<&Entry> {
        if self.invalid_to_default { self.entries.first().into_iter().collect() } else { Vec::new() }
    }
}

/// Whether `pattern`, in which `*` stands for any number of characters but slashes, is `text`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let parts = |text| <[u8]>::split(text, |b| *b == b'/');
    parts(pattern).count() == parts(text).count()
        && parts(pattern).zip(parts(text)).all(|(pattern, text)| matches_part(pattern, text))
}

/// The same between two slashes. A client writes the pattern: each piece is looked for once, where it first may be, or a key of
/// stars would be worth hours.
fn matches_part(pattern: &[u8], text: &[u8]) -> bool {
    let mut pieces = pattern.split(|b| *b == b'*');
    let Some(rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    pieces.all(|piece| match memchr::memmem::find(rest, piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// A key's routing prefix, with the slash at its end, and the rest.
#[must_use]
pub fn split_prefix(key: &[u8]) -> Option<(&[u8], &[u8])> {
    if key.first() != Some(&b'/') {
        return None;
    }
    let mut slashes = memchr::memchr_iter(b'/', key).skip(2);
    Some(key.split_at(slashes.next()? + 1))
}

impl Root {
    #[must_use]
    pub(super) fn new(
        default: Rc<dyn Route>,
        prefixes: Option<Prefixes>,
        fed: Option<Fed>,
        pools: Vec<Rc<PoolRoute>>,
    ) -> Self {
        let tells_misses = pools.iter().any(|pool| pool.is_miss_on_error());
        let whole = |pool: &&Rc<PoolRoute>| std::ptr::addr_eq(Rc::as_ptr(pool), Rc::as_ptr(&default));
        let only = pools
            .iter()
            .find(whole)
            .filter(|pool| prefixes.is_none() && !pool.is_watched() && !pool.has_trees())
            .cloned();
        let front = (prefixes.is_some() || fed.is_some()).then_some(Front { prefixes, fed });
        Self { default, front, pools, tells_misses, only }
    }

    /// A tree that is one pool.
    #[must_use]
    pub fn of_pool(pool: PoolRoute) -> Self {
        let pool = Rc::new(pool);
        Self::new(Rc::clone(&pool) as Rc<dyn Route>, None, None, vec![pool])
    }

    /// The pool that is the whole tree.
    pub fn only_pool(&self) -> Option<&PoolRoute> {
        self.only.as_deref().filter(|pool| !pool.is_in_transition())
    }

    /// Whether some failures are told to clients as misses.
    #[must_use]
    pub fn tells_misses(&self) -> bool {
        self.tells_misses
    }

    /// Every connection to every server of every pool, and to those that have left and may still be asked.
    #[must_use]
    pub fn servers(&self) -> Vec<Rc<dyn Leaf>> {
        let of_pool = |pool: &Rc<PoolRoute>| {
            let mut servers: Vec<Rc<dyn Leaf>> = pool.leaves().to_vec();
            servers.extend(pool.gone_servers());
            servers
        };
        self.pools.iter().flat_map(of_pool).collect()
    }

    /// The prefix of this key and the routes that it names; `None` where there is no prefix to look at.
    #[inline]
    fn named<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], Vec<&Entry>)> {
        self.front.as_ref()?.named(key)
    }
}

impl Front {
    fn named<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], Vec<&Entry>)> {
        let prefixes = self.prefixes.as_ref()?;
        let (prefix, rest) = split_prefix(key)?;
        Some((rest, prefixes.of(prefix)))
    }
}

impl Route for Root {
    #[inline]
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let Some(front) = &self.front else { return self.default.send(request, call, slot) };
        let slot = match &front.fed {
            Some(fed) => fed.around(request, slot),
            None => slot,
        };
        let Some((rest, routes)) = front.named(request.key) else {
            return self.default.send(request, call, slot);
        };
        let Some((first, others)) = routes.split_first() else {
            return slot.fill(&Reply::line(Status::Failed(Cause::Local), NO_ROUTE));
        };
        const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";
        let asked = &request.key[..request.key.len() - rest.len()];
        let is_glob = asked.contains(&b'*');
        let to = |(known, route): &Entry, slot| {
            // who asked for many gets each by its name; who was sent elsewhere keeps the name that it asked for
            let prefix = if is_glob || **known == *asked { Rc::clone(known) } else { Rc::from(asked) };
            let call = Call { prefix: Some(prefix), ..call.clone() };
            send_as(&**route, rest, REFUSAL, request, &call, slot);
        };
        to(first, slot);
        for other in others {
            to(other, Slot::nowhere());
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        if self.front.as_ref().is_some_and(|front| front.prefixes.is_some()) && split_prefix(key).is_some() {
            return None; // the key changes on the way
        }
        self.default.pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let Some((rest, routes)) = self.named(request.key) else { return self.default.explain(request) };
        let request = Request { key: rest, ..*request };
        let mut here = Explained::new(if routes.is_empty() { "no route has this prefix" } else { "root" });
        for (i, (prefix, route)) in routes.into_iter().enumerate() {
            let entry = Explained::new(String::from_utf8_lossy(prefix).into_owned());
            let entry = entry.with(When::Now, route.explain(&request));
            here = here.with(if i == 0 { When::Now } else { When::Beside }, entry);
        }
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_the_third_slash() {
        assert_eq!(split_prefix(b"/a/b/c/d"), Some((&b"/a/b/"[..], &b"c/d"[..])));
        assert_eq!(split_prefix(b"/a/b/"), Some((&b"/a/b/"[..], &b""[..])));
        assert_eq!(split_prefix(b"/a/b"), None);
        assert_eq!(split_prefix(b"a/b/c/"), None);
    }

    #[test]
    fn stars_stand_for_names() {
        assert!(matches(b"/*/*/", b"/a/b/"));
        assert!(matches(b"/a*/b/", b"/abc/b/"));
        assert!(!matches(b"/a*/b/", b"/xabc/b/"));
        assert!(!matches(b"/*/", b"/a/b/"));
        assert!(matches(b"/*/", b"//") && matches(b"/**a*/", b"/ba/") && !matches(b"/a*a/", b"/a/"));
        assert!(matches(b"/a*b*c/", b"/abbc/") && !matches(b"/a*bc*c/", b"/abbc/"));
        let stars = [&b"/"[..], &[b'*'; 120], b"X/", &[b'*'; 120], b"/"].concat();
        assert!(!matches(&stars, &[&b"/"[..], &[b'a'; 120], b"/", &[b'b'; 120], b"/"].concat()));
        assert!(matches(&stars, b"/aX/b/"));
    }
}
