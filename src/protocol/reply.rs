//! A reply: what became of it, and the bytes that say so.

use super::Value;

/// What became of a request. Classic and meta replies share one list, so that routes need not know which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `VALUE`, meta `VA` or `HD` of `mg`, `ME`.
    Hit,
    /// `END` at once, meta `EN`.
    Miss,
    Stored,
    NotStored,
    Exists,
    /// `NOT_FOUND`, meta `NF`.
    NotFound,
    Deleted,
    Touched,
    /// The new value of `incr` and `decr`; success of `ma`.
    Number,
    /// `OK`, and the end of a multi-key get.
    Ok,
    /// `ERROR`, `CLIENT_ERROR …` or `SERVER_ERROR …` that a server wrote: an answer in step, passed on as it is.
    ErrorLine,
    /// The server gave no answer; the cause is ours to name.
    Failed(Cause),
}

impl Status {
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::ErrorLine | Self::Failed(_))
    }
}

/// Why there is no answer from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No reply within the pool's `timeout`.
    Timeout,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// Refused, unreachable, no such host, …
    Connect,
    /// The server is knocked out: nothing was sent to it.
    Tko,
    /// The server closed or reset the connection while the request was on it.
    Closed,
    /// The server said something that is not an answer to what it was asked.
    Desync,
    /// The bound on waiting requests of that server is reached.
    QueueFull,
    /// ringway itself gave up: shutting down.
    Aborted,
    /// The value does not fit into what all buffers may hold.
    NoMemory,
    /// No server is in the pool.
    NoServer,
    /// A route refused it.
    Local,
    /// Too much is under way through a route: mcrouter's `mc_res_busy`.
    Busy,
}

impl Cause {
    pub const ALL: [Self; 12] = [
        Self::Timeout,
        Self::ConnectTimeout,
        Self::Connect,
        Self::Tko,
        Self::Closed,
        Self::Desync,
        Self::QueueFull,
        Self::Aborted,
        Self::NoMemory,
        Self::NoServer,
        Self::Local,
        Self::Busy,
    ];

    /// The error line, without its line end, where the place of failure has nothing more exact to say.
    /// Texts: mcrouter's `AsciiSerialized.cpp` and what its users see (the lines that people grep for).
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::Timeout => "SERVER_ERROR Reply timeout",
            Self::ConnectTimeout => "SERVER_ERROR connection timeout",
            Self::Connect => "SERVER_ERROR connection error",
            Self::Tko => "SERVER_ERROR unavailable",
            Self::Closed => "SERVER_ERROR Connection closed by the server.",
            Self::Desync => "SERVER_ERROR Received unexpected data from the server.",
            Self::QueueFull => "SERVER_ERROR Max pending requests reached.",
            Self::Aborted => "SERVER_ERROR aborted",
            // memcached's own words when it has no buffer for a value.
            Self::NoMemory => "SERVER_ERROR out of memory writing get response",
            Self::NoServer => "SERVER_ERROR no server in this pool",
            Self::Local => "SERVER_ERROR local error",
            Self::Busy => "SERVER_ERROR 307 busy",
        }
    }
}

/// A reply on its way to whoever asked. The client sees
/// `line CRLF [value CRLF]`, and for the end of a classic get `END CRLF`.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub status: Status,
    /// The reply's line without its line end, exactly as a client shall see it.
    /// Empty for a miss, or the end, of a classic get: there `END` is all that is to be said.
    pub line: &'a [u8],
    /// The data block without its line end: `VALUE` and `VA`.
    pub value: Option<Value<'a>>,
    /// The pool wants a failed get to be told to the client as a miss (`on_error: miss`). Routes see the failure.
    pub miss_on_error: bool,
    /// A delete that failed and will be delivered later: what the client is told of it. Routes see the failure.
    pub accepted: Option<&'a [u8]>,
}

impl<'a> Reply<'a> {
    /// A reply of one line.
    #[must_use]
    pub const fn line(status: Status, line: &'a [u8]) -> Self {
        Self { status, line, value: None, miss_on_error: false, accepted: None }
    }

    /// A reply with a data block.
    #[must_use]
    pub const fn with_value(status: Status, line: &'a [u8], value: Value<'a>) -> Self {
        Self { status, line, value: Some(value), miss_on_error: false, accepted: None }
    }

    /// Whether it says [`Cause::Busy`], perhaps a server and in other words: the one code that mcrouter's parser of replies knows.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self.status {
            Status::Failed(cause) => cause == Cause::Busy,
            status => status == Status::ErrorLine && self.line.starts_with(b"SERVER_ERROR 307"),
        }
    }

    /// A failure in its standard words.
    #[must_use]
    pub const fn failed(cause: Cause) -> Reply<'static> {
        Reply {
            status: Status::Failed(cause),
            line: cause.line().as_bytes(),
            value: None,
            miss_on_error: false,
            accepted: None,
        }
    }
}

/// Values of a multi-key get as they came from a server, one behind the other: each its `VALUE` line and its data
/// block, both with their line ends.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    pub bytes: &'a [u8],
    /// Where each ends; together they are all of `bytes`.
    pub found: &'a [Found],
}

/// One of [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of the key, among those that were asked for.
    pub index: u32,
    /// Where its line ends, line end included, and where its data block does.
    pub line_end: usize,
    pub end: usize,
}

impl<'a> Values<'a> {
    /// Index and reply of each.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Reply<'a>)> + use<'a> {
        let Self { bytes, found } = *self;
        let mut start = 0;
        found.iter().map(move |Found { index, line_end, end }| {
            let line = &bytes[start..line_end - 2];
            let value = &bytes[*line_end..end - 2];
            start = *end;
            (*index as usize, Reply::with_value(Status::Hit, line, Value::Slice(value)))
        })
    }
}
