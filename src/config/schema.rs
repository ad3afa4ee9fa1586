//! Our dialect as a JSON Schema (draft-07), for editors: they complete keys, say what they mean, and mark what is wrong before
//! anybody runs `check`.
//!
//! Which keys there are comes from the lists that the readers use; here stands what each of them holds. A key that is not told
//! of here may hold anything. What needs a second look (a server listed twice, a pool that does not exist) stays with `check`.

use super::node::Node;
use super::{
    AdminKeys, Answer, AsynclogFormat, Limits, OnEmpty, OnError, OnFull, OnGone, Resolver, document,
    embedded, on_down, placement, pool, server, settings, source, spool, tko, transition,
};
use crate::hash::{KeyHash, Placement};

/// A key, what it is, and what it may hold.
type Row = (&'static str, &'static str, fn() -> Node);

const TOP: &[Row] = &[
    ("listen", "where clients connect: ip:port, [ip6]:port, unix:/path, fd:N; one or a list", text_or_texts),
    ("workers", "threads: a number, or auto for the cores that the container may use", || {
        any([choice(["auto"]), count(1, 1_024)])
    }),
    ("limits", "every bound of the process", || keys(Limits::KEYS, LIMITS)),
    (
        "collect",
        "whether idle workers sleep a moment before they wait: off, auto, or a time such as 50us",
        || any([choice(["off", "auto"]), duration()]),
    ),
    ("allow_flush", "whether flush_all goes to every server", boolean),
    ("admin_keys", "whose `get __mcrouter__.…` is answered", || choice(names(AdminKeys::ALL))),
    ("strict", "refuse control characters in keys and bare newlines", boolean),
    (
        "reuse_port",
        "another process of the same user may listen on the same ports; this one begins when its servers are known",
        boolean,
    ),
    ("admin", "where probes ask, over HTTP: ip:port, unix:/path; absent: nowhere", text),
    (
        "drain_delay",
        "how long clients are accepted and served after SIGTERM, though not ready any more",
        duration,
    ),
    ("drain_timeout", "how long replies under way may take after that", duration),
    ("last_good", "a path: the file that keeps the configuration for a start at which it is wrong", text),
    ("hand_over", "a path: the unix socket where a new process takes over; absent: nowhere", text),
    ("resolver", "who is asked for names: addresses, or a map; else /etc/resolv.conf says it", || {
        any([text_or_texts(), keys(Resolver::KEYS, RESOLVER)])
    }),
    ("spool", "where deletes go that fail, until their servers can be told", || keys(spool::KEYS, SPOOL)),
    ("within_cluster_timeout", "timeout of pools in our region and cluster, see default_route", duration),
    ("cross_cluster_timeout", "timeout of pools in another cluster of our region", duration),
    ("cross_region_timeout", "timeout of pools in another region", duration),
    ("pools", "the pools of servers, by name", || {
        object([
            ("minProperties", Node::Integer(1)),
            ("propertyNames", pattern("^[A-Za-z0-9._-]{1,64}$")),
            ("additionalProperties", reference("pool")),
        ])
    }),
    ("route", "where requests go: a pool's name, or a tree of routes", || reference("route")),
    ("routes", "a route for each routing prefix /region/cluster/, instead of `route`", || {
        let entry = object([
            ("properties", Node::map([("aliases", texts()), ("route", reference("route"))])),
            ("required", Node::texts(["aliases", "route"])),
        ]);
        any([map_of("route"), list(entry)])
    }),
    (
        "default_route",
        "where keys without a prefix go, one of `routes`; and where we are, for timeouts by distance",
        text,
    ),
    (
        "send_invalid_route_to_default",
        "with `routes`: whether keys with an unknown prefix go there too",
        boolean,
    ),
    ("named_handles", "routes that several others use by name", || {
        any([map_of("route"), list(reference("route"))])
    }),
    ("tests", "what `ringway check` makes sure of", || list(reference("test"))),
];
const RESOLVER: &[Row] = &[
    ("servers", "name servers, instead of those of the file", text_or_texts),
    ("file", "instead of /etc/resolv.conf", text),
];
const LIMITS: &[Row] = &[
    ("clients_max", "client connections, all workers together", || count(1, 1_000_000)),
    ("client_outstanding_max", "unanswered requests of one client", || count(1, 1_000_000)),
    ("client_reply_bytes_max", "reply bytes that one client has not taken", size),
    ("value_bytes_max", "the largest value", size),
    ("buffer_bytes_max", "bytes in all buffers of the process", size),
    ("client_idle_timeout", "how long a client may have nothing to do: off, or a time", duration_or_off),
    ("client_stall_timeout", "how long a client may stop within a request: off, or a time", duration_or_off),
    ("late_replies_max", "late replies that one connection to a server waits for", || count(1, 1_000_000)),
    (
        "bulk_bytes_max",
        "bytes of large replies (more than 64 KiB expected) that one connection to a server has under way",
        size,
    ),
];
const POOL: &[Row] = &[
    ("servers", "the servers: ADDRESS [weight=N] [name=NAME], or maps", || list(server_entry())),
    ("embedded", "in-process caches instead of servers", || keys(embedded::KEYS, EMBEDDED)),
    ("dns", "NAME[:PORT]: every address of the name is a server", text),
    ("srv", "every target of these SRV records is a server, and its name is its identity", text),
    ("statefulset", "pods by their names, NAME-0, NAME-1, …", || {
        keys(source::STATEFULSET_KEYS, STATEFULSET)
    }),
    ("config_endpoint", "HOST[:PORT] of ElastiCache or Memorystore, which tells the servers", text),
    ("file", "a file with a line for each server, written by somebody else", text),
    ("port", "with dns the servers' port, with srv only those of this port", || count(1, 65_535)),
    ("port_name", "with srv: the port's name in the Service", text),
    ("on_empty", "what becomes of the pool when its names have no servers", || choice(names(OnEmpty::ALL))),
    ("refresh", "how often names are asked for: bounds of their time to live", || {
        keys(source::REFRESH_KEYS, REFRESH)
    }),
    ("leave_after", "how long a server that is gone stays, because it may only be restarted", duration),
    ("timeout", "from the moment a request is queued until its reply has come", duration),
    ("connect_timeout", "for a new connection", duration),
    ("on_error", "what a client is told of a get that failed", || choice(names(OnError::ALL))),
    ("on_down", "what becomes of the keys of a server that is out: fail, failover, eject, or a map", || {
        any([choice(["fail", "failover", "eject"]), keys(on_down::KEYS, &[])])
    }),
    ("tko", "when servers are knocked out; off: never", || any([choice(["off"]), keys(tko::KEYS, TKO)])),
    ("connections", "connections per worker and server", || count(1, 128)),
    ("outstanding_max", "requests waiting for one server in one worker", || count(1, 1_000_000)),
    ("keep_routing_prefix", "whether servers get keys with their routing prefix", boolean),
    ("spool", "whether deletes that fail go to the spool, where there is one", boolean),
    ("region", "with cluster: how far away it is, for timeouts by distance", text),
    ("cluster", "see region", text),
    ("warm_connect", "whether new servers are connected to before they are used", boolean),
    ("transition", "how long servers that had a key before a change are still asked for it", || {
        keys(transition::KEYS, TRANSITION)
    }),
    ("failure_domains", "what else fails with each server, one name or number for each", || list(anything())),
    ("hash", "how keys are placed", || choice(Placement::names())),
    ("key_hash", "the hash of keys, with ketama, twemproxy and modula", || choice(KeyHash::names())),
    ("hash_tag", "two characters: only what is between them is hashed", text),
    ("hash_stop", "whether what follows |#| is left out of the hash", boolean),
    ("signed_char", "bytes above 0x7f as C's char on x86 (true) or on ARM (false)", boolean),
    ("salt", "hashed behind each key", text),
    ("weights", "with weighted_ch3 and weighted_rendezvous: 0 to 1, one for each server", || {
        list(typed("number"))
    }),
    ("tags", "with rendezvous and weighted_rendezvous: what is hashed for each server", texts),
];
const EMBEDDED: &[Row] =
    &[("shards", "how many", || count(1, 256)), ("memory", "of all shards together", size)];
const STATEFULSET: &[Row] = &[
    ("name", "of the StatefulSet", text),
    ("service", "its headless service; else the StatefulSet's name", text),
    ("namespace", "else ours, by the search list", text),
    ("port", "of each pod, else 11211", || count(1, 65_535)),
    ("replicas", "how many; auto: as many as there are names", || {
        any([choice(["auto"]), count(1, *source::REPLICAS.end() as i128)])
    }),
    ("cluster_domain", "else cluster.local", text),
];
const REFRESH: &[Row] = &[("min", "not sooner", duration), ("max", "not later", duration)];
const TKO: &[Row] = &[
    ("timeouts_until_tko", "timeouts in a row", || count(1, 1_000_000)),
    ("probe_timeout_initial", "pause before the first probe", duration),
    ("probe_timeout_max", "the longest pause between probes", duration),
    ("tko_on_disconnect", "whether a broken connection is enough", boolean),
    ("fail_open", "how many may be out: numbers of servers or shares", || keys(tko::FAIL_OPEN_KEYS, &[])),
];
const TRANSITION: &[Row] = &[
    ("for", "how long after a change", duration),
    ("copy", "whether what is found there is copied to the new server", boolean),
    ("rate", "copies a second, of all workers together", || count(1, 1_000_000)),
];
const SPOOL: &[Row] = &[
    ("dir", "the directory, an absolute path", text),
    ("create", "whether it is made when it is not there", boolean),
    ("sync", "when it is written to the disk: none, each, or a time such as 100ms", || {
        any([choice(["none", "each"]), duration()])
    }),
    ("bytes_max", "all files together", size),
    ("age_max", "how long a delete may wait: off, or a time", duration_or_off),
    ("on_full", "what becomes of a delete for which there is no room", || choice(names(OnFull::ALL))),
    ("answer", "what a client is told whose delete waits", || choice(names(Answer::ALL))),
    ("fail_over", "whether routes see that the server failed, and may ask another one as well", boolean),
    ("negative_exptime", "whether touch and set with a negative exptime are deletes too", boolean),
    ("settle", "how long a server that answers again is given for what was on its way to it", duration),
    ("replay_rate", "deletes that one server is told of in a second", || count(1, 10_000_000)),
    ("on_gone", "what becomes of deletes for a server that is in no pool", || choice(names(OnGone::ALL))),
    ("feed", "where every delete that was acknowledged is written, for others to follow", || {
        keys(spool::FEED_KEYS, FEED)
    }),
    ("asynclog", "where what is written into the spool is written as mcrouter does it, too", || {
        keys(spool::ASYNCLOG_KEYS, ASYNCLOG)
    }),
];
const ASYNCLOG: &[Row] = &[
    ("dir", "the directory, an absolute path", text),
    ("format", "how lines are written", || choice(names(AsynclogFormat::ALL))),
];
const FEED: &[Row] =
    &[("file", "the file, an absolute path", text), ("bytes_max", "the file and the one before it", size)];
const SERVER: &[Row] = &[
    ("address", "ip, ip:port, host, host:port, [ip6]:port or unix:/path", text),
    ("weight", "its share", || count(1, 65_535)),
    ("name", "what the ring hashes instead of the address", text),
    ("timeout", "instead of the pool's", duration),
    ("connect_timeout", "instead of the pool's", duration),
];

const MEMBER: &[Row] = &[
    ("route", "a route in the place of a server", || reference("route")),
    ("weight", "its share", || count(1, 65_535)),
    ("name", "what the ring hashes instead of its place in the list", text),
];

/// The whole document; `definitions` has those of `route` and `test`, which others know.
pub(crate) fn document(definitions: Vec<(String, Node)>) -> Node {
    let top: Vec<&str> = settings::KEYS.iter().chain(document::KEYS).copied().collect();
    let of_pool: Vec<&str> = pool::KEYS.iter().chain(placement::KEYS).copied().collect();
    let Node::Map(body) = keys(&top, TOP) else { return Node::Null };
    let own = [("pool".to_owned(), keys(&of_pool, POOL))];
    let definitions = own.into_iter().chain(definitions).collect();
    let head = [
        ("$schema", Node::from("http://json-schema.org/draft-07/schema#")),
        ("title", "A configuration of ringway".into()),
        ("required", Node::texts(["pools"])),
    ];
    let head = head.map(|(key, node)| (key.to_owned(), node)).into_iter();
    Node::Map(head.chain(body).chain([("definitions".to_owned(), Node::Map(definitions))]).collect())
}

/// A map with these keys and no others.
fn keys(known: &[&str], rows: &[Row]) -> Node {
    let property = |key: &&str| {
        let row = rows.iter().find(|(name, ..)| name == key);
        let node = row.map_or_else(anything, |(_, what, shape)| described(what, shape()));
        ((*key).to_owned(), node)
    };
    strict_map(known.iter().map(property).collect())
}

/// A map with these properties and no others.
pub(crate) fn strict_map(properties: Vec<(String, Node)>) -> Node {
    object([("properties", Node::Map(properties)), ("additionalProperties", Node::Bool(false))])
}

pub(crate) fn described(what: &str, node: Node) -> Node {
    let Node::Map(map) = node else { return node };
    // draft-07 looks at nothing beside a `$ref`
    let body = if map.iter().any(|(key, _)| key == "$ref") {
        vec![("allOf".to_owned(), Node::List(vec![Node::Map(map)]))]
    } else {
        map
    };
    Node::Map([("description".to_owned(), what.into())].into_iter().chain(body).collect())
}

pub(crate) fn anything() -> Node {
    Node::Map(Vec::new())
}

pub(crate) fn text() -> Node {
    typed("string")
}

pub(crate) fn boolean() -> Node {
    typed("boolean")
}

pub(crate) fn texts() -> Node {
    list(text())
}

pub(crate) fn text_or_texts() -> Node {
    any([text(), texts()])
}

pub(crate) fn typed(name: &str) -> Node {
    Node::map([("type", Node::from(name))])
}

pub(crate) fn reference(name: &str) -> Node {
    Node::map([("$ref", Node::Text(format!("#/definitions/{name}")))])
}

pub(crate) fn list(of: Node) -> Node {
    Node::map([("type", "array".into()), ("items", of)])
}

/// From any names to what is defined as this.
pub(crate) fn map_of(name: &str) -> Node {
    object([("additionalProperties", reference(name))])
}

pub(crate) fn any(of: impl IntoIterator<Item = Node>) -> Node {
    Node::map([("anyOf", Node::List(of.into_iter().collect()))])
}

pub(crate) fn choice<'n>(names: impl IntoIterator<Item = &'n str>) -> Node {
    Node::map([("enum", Node::texts(names))])
}

pub(crate) fn object<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::map([("type", Node::from("object"))].into_iter().chain(entries))
}

fn names<T>(all: &'static [(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    all.iter().map(|(name, _)| *name)
}

fn count(least: i128, most: i128) -> Node {
    let entries = [
        ("type", Node::from("integer")),
        ("minimum", Node::Integer(least)),
        ("maximum", Node::Integer(most)),
    ];
    Node::map(entries)
}

fn pattern(pattern: &str) -> Node {
    Node::map([("type", "string".into()), ("pattern", pattern.into())])
}

fn duration() -> Node {
    pattern("^[0-9]+([.][0-9]+)? *(us|ms|s|m|h)$")
}

fn duration_or_off() -> Node {
    any([choice(["off"]), duration()])
}

fn size() -> Node {
    any([count(1, 1 << 44), pattern("^[0-9]+([.][0-9]+)? *(B|[KMGT]iB|[KMGT]B|kB)$")])
}

fn server_entry() -> Node {
    any([text(), keys(server::KEYS, SERVER), keys(server::ROUTE_KEYS, MEMBER)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_told_of() {
        let top: Vec<&str> = settings::KEYS.iter().chain(document::KEYS).copied().collect();
        let of_pool: Vec<&str> = pool::KEYS.iter().chain(placement::KEYS).copied().collect();
        let sections: [(&[&str], &[Row]); 14] = [
            (&top, TOP),
            (Limits::KEYS, LIMITS),
            (Resolver::KEYS, RESOLVER),
            (source::STATEFULSET_KEYS, STATEFULSET),
            (source::REFRESH_KEYS, REFRESH),
            (&of_pool, POOL),
            (embedded::KEYS, EMBEDDED),
            (tko::KEYS, TKO),
            (transition::KEYS, TRANSITION),
            (spool::KEYS, SPOOL),
            (spool::FEED_KEYS, FEED),
            (spool::ASYNCLOG_KEYS, ASYNCLOG),
            (server::KEYS, SERVER),
            (server::ROUTE_KEYS, MEMBER),
        ];
        for (known, rows) in sections {
            for (key, ..) in rows {
                assert!(known.contains(key), "`{key}` is in the schema and unknown to the reader");
            }
        }
    }
}
