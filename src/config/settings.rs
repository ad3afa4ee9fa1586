//! What holds for the whole process: listeners, workers, bounds, time limits.

use super::distance::DistanceTimeouts;
use super::fault::{Problem, quoted};
use super::listen::{self, Listen};
use super::node::Node;
use super::resolver::Resolver;
use super::section::{Hint, Section};
use super::server::check_unix_path;
use super::spool::Spool;
use super::value;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The keys at the top of a file that are read here.
pub(super) const KEYS: &[&str] = &[
    "listen",
    "workers",
    "limits",
    "collect",
    "allow_flush",
    "admin_keys",
    "strict",
    "reuse_port",
    "admin",
    "drain_delay",
    "drain_timeout",
    "hand_over",
    "last_good",
    "resolver",
    "spool",
    "within_cluster_timeout",
    "cross_cluster_timeout",
    "cross_region_timeout",
];
/// 0 leaves at once; a process that leaves for longer than an hour is killed by hand.
const DRAIN_TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
/// Below 10 µs the sleep itself costs more than it saves; above a millisecond clients wait for nothing.
const COLLECT_TIMES: RangeInclusive<Duration> = Duration::from_micros(10)..=Duration::from_millis(1);
/// Below 50 ms a client that is only scheduled late would be closed.
const CLIENT_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(86_400);
const COUNTS: RangeInclusive<usize> = 1..=1_000_000;
const BUFFER_BYTES: RangeInclusive<usize> = (1 << 10)..=(1 << 44);
const REPLY_BYTES: RangeInclusive<usize> = 1..=(1 << 40);
/// memcached's own bounds of `-I`.
const VALUE_BYTES: RangeInclusive<usize> = (1 << 10)..=crate::protocol::limits::VALUE_BYTES_MAX_MAX;

/// What is set once for the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: Vec<Listen>,
    pub workers: Workers,
    /// Whether a worker waits a moment for more requests before it waits for events.
    pub collect: Collect,
    pub limits: Limits,
    /// `flush_all` goes to every server; otherwise it is refused.
    pub allow_flush: bool,
    /// Whose `get __mcrouter__.…` is answered.
    pub admin_keys: AdminKeys,
    /// Keys with control characters, and lines that end in a bare newline, are refused.
    pub strict: bool,
    /// Another process of the same user may listen on the same TCP addresses; this one begins when its servers are known.
    pub reuse_port: bool,
    /// Where probes ask, over HTTP; `None`: nowhere.
    pub admin: Option<Listen>,
    /// How long clients are accepted and served after SIGTERM, though no longer wanted.
    pub drain_delay: Duration,
    /// How long replies under way may take after that.
    pub drain_timeout: Duration,
    /// Where a new process takes over from this one; `None`: nowhere.
    pub hand_over: Option<PathBuf>,
    /// Where the configuration is kept for a start at which it is wrong; `None`: nowhere.
    pub last_good: Option<PathBuf>,
    /// Who is asked for names.
    pub resolver: Resolver,
    /// `None`: deletes that fail are told to have failed.
    pub spool: Option<Spool>,
    /// For pools that say where they are, and not how long they may take.
    pub distance_timeouts: DistanceTimeouts,
}

/// How many threads serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as cores that the container may use.
    Auto,
    Count(usize),
}

/// Whether a worker that has nothing to do sleeps for a moment before it waits for events, so that one wake-up
/// brings several requests: less CPU for a little latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    Off,
    /// Only while so many requests come that the sleep saves more than it costs.
    Auto,
    Time(Duration),
}

/// Which clients may ask the process about itself by keys (`get __mcrouter__.version`); for all others they are misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminKeys {
    On,
    Off,
    /// Those of this machine: over the loopback interface or a unix socket.
    #[default]
    Loopback,
}

impl AdminKeys {
    /// The names, as written in a configuration.
    pub const ALL: &'static [(&'static str, Self)] =
        &[("on", Self::On), ("off", Self::Off), ("loopback", Self::Loopback)];
}

impl std::str::FromStr for AdminKeys {
    type Err = Problem;

    /// As in a file.
    fn from_str(text: &str) -> Result<Self, Problem> {
        read_admin_keys(&Node::Text(text.to_owned()))
    }
}

fn read_admin_keys(node: &Node) -> Result<AdminKeys, Problem> {
    value::choice(node, "`on`, `off` or `loopback`", AdminKeys::ALL)
}

/// Every bound of the process. Each is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections, all workers together.
    pub clients_count_max: usize,
    /// Requests of one client that are not answered yet; beyond it that client is not read.
    pub client_outstanding_count_max: usize,
    /// Reply bytes that one client has not taken yet; beyond it that client is not read.
    pub client_reply_bytes_max: usize,
    /// The largest data block that is passed on.
    pub value_bytes_max: usize,
    /// Bytes in all buffers of the process; beyond it the clients that hold the most are closed, then requests are refused.
    pub buffer_bytes_max: usize,
    /// How long a client may be connected with nothing to do; `None`: for ever, as memcached has it.
    pub client_idle_timeout: Option<Duration>,
    /// How long a client may stop within a request, or leave its replies where they are.
    pub client_stall_timeout: Option<Duration>,
    /// Timed-out requests whose late replies one connection still waits for; beyond it the connection is closed.
    pub late_count_max: usize,
    /// What one connection to a server has under way of large replies, by what is expected, and one of them at least;
    /// beyond it requests for such wait while others pass.
    pub bulk_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_count_max: 16_384,
            client_outstanding_count_max: 1_024,
            client_reply_bytes_max: 4 << 20,
            value_bytes_max: crate::protocol::limits::VALUE_BYTES_MAX_DEFAULT,
            buffer_bytes_max: 512 << 20,
            client_idle_timeout: None,
            client_stall_timeout: Some(Duration::from_secs(60)),
            late_count_max: 1_000,
            bulk_bytes_max: 512 << 10,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 5000)))],
            workers: Workers::Auto,
            collect: Collect::Auto,
            limits: Limits::default(),
            allow_flush: false,
            admin_keys: AdminKeys::default(),
            strict: false,
            reuse_port: false,
            admin: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            hand_over: None,
            last_good: None,
            resolver: Resolver::default(),
            spool: None,
            distance_timeouts: DistanceTimeouts::default(),
        }
    }
}

impl Settings {
    /// Reads the keys of [`KEYS`] from the top of a file.
    pub(super) fn read(top: &Section<'_>) -> Self {
        let default = Self::default();
        let listen = top.node("listen").map(|node| listen::read(node, &top.path.key("listen"), top.findings));
        let settings = Self {
            listen: listen.unwrap_or(default.listen),
            workers: top.value("workers", read_workers).unwrap_or(default.workers),
            collect: top.value("collect", read_collect).unwrap_or(default.collect),
            limits: top.node("limits").map_or(default.limits, |node| Limits::read(node, top)),
            allow_flush: top.value("allow_flush", value::boolean).unwrap_or(default.allow_flush),
            admin_keys: top.value("admin_keys", read_admin_keys).unwrap_or(default.admin_keys),
            strict: top.value("strict", value::boolean).unwrap_or(default.strict),
            reuse_port: top.value("reuse_port", value::boolean).unwrap_or(default.reuse_port),
            admin: top.value("admin", read_admin),
            drain_delay: top
                .value("drain_delay", |node| value::duration(node, &DRAIN_TIMES))
                .unwrap_or(default.drain_delay),
            drain_timeout: top
                .value("drain_timeout", |node| value::duration(node, &DRAIN_TIMES))
                .unwrap_or(default.drain_timeout),
            hand_over: top.value("hand_over", read_hand_over),
            last_good: top.value("last_good", read_last_good),
            resolver: top.node("resolver").map_or(default.resolver, |node| Resolver::read(node, top)),
            spool: top.node("spool").and_then(|node| Spool::read(node, &top.path.key("spool"), top.findings)),
            distance_timeouts: DistanceTimeouts::read(top),
        };
        settings.check_clashes(top);
        settings
    }

    /// A time to leave in, as in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_drain_time(text: &str) -> Result<Duration, Problem> {
        value::duration(&Node::Text(text.to_owned()), &DRAIN_TIMES)
    }

    /// Where probes ask, as in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_admin(text: &str) -> Result<Listen, Problem> {
        match text.parse()? {
            Listen::Fd(_) => {
                Err(Problem::new(format!("{} is not {ADMIN}", quoted(text))).help(ADMIN_EXAMPLES))
            }
            listen => Ok(listen),
        }
    }

    /// Where others connect is not where clients do.
    fn check_clashes(&self, top: &Section<'_>) {
        if let Some(admin) = &self.admin
            && !matches!(admin, Listen::Tcp(address) if address.port() == 0)
            && self.listen.contains(admin)
        {
            top.fault("admin", Problem::new("clients connect there: it is one of `listen`"));
        }
        if let Some(path) = &self.hand_over
            && self.listen.contains(&Listen::Unix(path.clone()))
        {
            top.fault("hand_over", Problem::new("clients connect there: it is one of `listen`"));
        }
    }
}

const ADMIN: &str = "an IP address and a port, or the path of a socket";
const ADMIN_EXAMPLES: &str = "as in `127.0.0.1:5001`, `[::]:5001`, `unix:/run/ringway/admin.sock`";

fn read_admin(node: &Node) -> Result<Listen, Problem> {
    match node {
        Node::Text(text) => Settings::parse_admin(text),
        _ => Err(value::expected(ADMIN, node).help(ADMIN_EXAMPLES)),
    }
}

fn read_hand_over(node: &Node) -> Result<PathBuf, Problem> {
    let text = value::text(node, "a path for a socket")?;
    check_unix_path(text.strip_prefix("unix:").unwrap_or(&text))
}

fn read_last_good(node: &Node) -> Result<PathBuf, Problem> {
    let text = value::text(node, "a path for a file")?;
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::new("expected a path for a file").help("as in `/var/lib/ringway/last-good`"));
    }
    Ok(PathBuf::from(text))
}

impl Workers {
    /// More threads than this is a slip of the finger.
    pub const COUNTS: RangeInclusive<usize> = 1..=1_024;
}

fn read_workers(node: &Node) -> Result<Workers, Problem> {
    match node {
        Node::Text(text) if text == "auto" => Ok(Workers::Auto),
        _ => value::count(node, &Workers::COUNTS)
            .map(Workers::Count)
            .map_err(|problem| problem.help("or `auto`: the cores that the container may use")),
    }
}

impl std::str::FromStr for Collect {
    type Err = Problem;

    /// As in a file.
    fn from_str(text: &str) -> Result<Self, Problem> {
        read_collect(&Node::Text(text.to_owned()))
    }
}

fn read_collect(node: &Node) -> Result<Collect, Problem> {
    match node {
        Node::Text(text) if text == "auto" => Ok(Collect::Auto),
        Node::Text(text) if text == "off" => Ok(Collect::Off),
        _ => value::duration(node, &COLLECT_TIMES)
            .map(Collect::Time)
            .map_err(|problem| problem.help("`off`, `auto`, or a time such as `50us`")),
    }
}

fn timeout_or_off(node: &Node) -> Result<Option<Duration>, Problem> {
    value::duration_or_off(node, &CLIENT_TIMEOUTS, "60s")
}

impl Limits {
    /// How long a client may stand still: idle, and within something.
    #[must_use]
    pub const fn client_timeouts(&self) -> [Option<Duration>; 2] {
        [self.client_idle_timeout, self.client_stall_timeout]
    }

    /// The keys under `limits`, as written in a configuration.
    pub(super) const KEYS: &[&str] = &[
        "clients_max",
        "client_outstanding_max",
        "client_reply_bytes_max",
        "value_bytes_max",
        "buffer_bytes_max",
        "client_idle_timeout",
        "client_stall_timeout",
        "late_replies_max",
        "bulk_bytes_max",
    ];

    fn read(node: &Node, top: &Section<'_>) -> Self {
        let default = Self::default();
        let path = top.path.key("limits");
        let Some(section) = Section::open(node, &path, top.findings, "a map of limits") else {
            return default;
        };
        let hints: &[Hint] =
            &[("outstanding_max", "`outstanding_max` is a pool's; here `client_outstanding_max`")];
        section.refuse_unknown(Self::KEYS, hints);
        let count =
            |key, otherwise| section.value(key, |node| value::count(node, &COUNTS)).unwrap_or(otherwise);
        let bytes =
            |key, range, otherwise| section.value(key, |node| value::bytes(node, range)).unwrap_or(otherwise);
        let time = |key, otherwise| section.value(key, timeout_or_off).unwrap_or(otherwise);
        let limits = Self {
            clients_count_max: count("clients_max", default.clients_count_max),
            client_outstanding_count_max: count(
                "client_outstanding_max",
                default.client_outstanding_count_max,
            ),
            client_reply_bytes_max: bytes(
                "client_reply_bytes_max",
                &REPLY_BYTES,
                default.client_reply_bytes_max,
            ),
            value_bytes_max: bytes("value_bytes_max", &VALUE_BYTES, default.value_bytes_max),
            buffer_bytes_max: bytes("buffer_bytes_max", &BUFFER_BYTES, default.buffer_bytes_max),
            client_idle_timeout: time("client_idle_timeout", default.client_idle_timeout),
            client_stall_timeout: time("client_stall_timeout", default.client_stall_timeout),
            late_count_max: count("late_replies_max", default.late_count_max),
            bulk_bytes_max: bytes("bulk_bytes_max", &REPLY_BYTES, default.bulk_bytes_max),
        };
        if limits.buffer_bytes_max < limits.value_bytes_max {
            let key = if section.node("buffer_bytes_max").is_some() {
                "buffer_bytes_max"
            } else {
                "value_bytes_max"
            };
            let message = format!(
                "`buffer_bytes_max`, {}, must be at least `value_bytes_max`, {}",
                value::show_bytes(limits.buffer_bytes_max),
                value::show_bytes(limits.value_bytes_max)
            );
            section
                .fault(key, Problem::new(message).help("all buffers of the process have to hold one value"));
        }
        limits
    }
}
