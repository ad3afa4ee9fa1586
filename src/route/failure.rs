//! What kind of failure a reply is, in mcrouter's words (`carbon/Result.h`, `McResUtil.h`), and which reply is worse.

use crate::protocol::{Cause, Reply, Status};

/// A result that mcrouter counts as an error. Names as in `failover_errors`, without `mc_res_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    ConnectTimeout,
    ConnectError,
    Busy,
    Shutdown,
    Tko,
    TryAgain,
    LocalError,
    RemoteError,
    DeadlineExceeded,
    ClientError,
    Aborted,
    BadKey,
    BadValue,
    Overloaded,
    OutOfOrder,
}

/// A set of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failures(u32);

impl Failure {
    pub(super) const ALL: &'static [(&'static str, Self)] = &[
        ("timeout", Self::Timeout),
        ("connect_timeout", Self::ConnectTimeout),
        ("connect_error", Self::ConnectError),
        ("busy", Self::Busy),
        ("shutdown", Self::Shutdown),
        ("tko", Self::Tko),
        ("try_again", Self::TryAgain),
        ("local_error", Self::LocalError),
        ("remote_error", Self::RemoteError),
        ("deadline_exceeded", Self::DeadlineExceeded),
        ("client_error", Self::ClientError),
        ("aborted", Self::Aborted),
        ("bad_key", Self::BadKey),
        ("bad_value", Self::BadValue),
        ("overloaded", Self::Overloaded),
        ("ooo", Self::OutOfOrder),
    ];

    /// As in `failover_errors`.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Whether it cost the server nothing, because it is out or cannot be connected to.
    pub(super) const fn is_free(self) -> bool {
        matches!(self, Self::Tko | Self::ConnectError | Self::ConnectTimeout | Self::Shutdown)
    }

    /// What kind of failure this reply is; `None` for an answer.
    pub(super) fn of(reply: &Reply<'_>) -> Option<Self> {
        match reply.status {
            _ if reply.is_busy() => Some(Self::Busy),
            Status::Failed(cause) => Some(match cause {
                Cause::Timeout => Self::Timeout,
                Cause::ConnectTimeout => Self::ConnectTimeout,
                Cause::Connect => Self::ConnectError,
                Cause::Tko => Self::Tko,
                Cause::Closed | Cause::Desync => Self::RemoteError,
                Cause::QueueFull | Cause::NoMemory | Cause::NoServer | Cause::Local => Self::LocalError,
                Cause::Aborted => Self::Aborted,
                Cause::Busy => Self::Busy,
            }),
            Status::ErrorLine if reply.line.starts_with(b"CLIENT_ERROR") => Some(Self::ClientError),
            Status::ErrorLine => Some(Self::RemoteError),
            _ => None,
        }
    }
}

impl Failures {
    pub(super) const NONE: Self = Self(0);

    /// What makes a route fail over unless it is told otherwise. Not what the client did wrong.
    pub(super) const FAILOVER: Self = Self(
        Self::bit(Failure::Busy)
            | Self::bit(Failure::Shutdown)
            | Self::bit(Failure::Tko)
            | Self::bit(Failure::TryAgain)
            | Self::bit(Failure::LocalError)
            | Self::bit(Failure::ConnectError)
            | Self::bit(Failure::ConnectTimeout)
            | Self::bit(Failure::Timeout)
            | Self::bit(Failure::RemoteError)
            | Self::bit(Failure::DeadlineExceeded),
    );

    const fn bit(failure: Failure) -> u32 {
        1 << failure as u32
    }

    pub(super) const fn with(self, failure: Failure) -> Self {
        Self(self.0 | Self::bit(failure))
    }

    /// Whether this reply is one of them.
    pub(super) fn has(self, reply: &Reply<'_>) -> bool {
        Failure::of(reply).is_some_and(|failure| self.0 & Self::bit(failure) != 0)
    }
}

/// How bad a reply is, for routes that answer with the worst: mcrouter's `resultSeverity`. (There `touch` that worked is
/// among the worst, by accident; here it is as good as any other success.)
pub(super) fn severity(reply: &Reply<'_>) -> u8 {
    if reply.accepted.is_some() {
        return 4; // it will be delivered: no worse than that there was nothing to delete
    }
    match Failure::of(reply) {
        None => match reply.status {
            Status::Miss | Status::NotFound | Status::NotStored => 4,
            _ => 1,
        },
        Some(failure) => match failure {
            Failure::Timeout
            | Failure::ConnectTimeout
            | Failure::ConnectError
            | Failure::Busy
            | Failure::Shutdown
            | Failure::TryAgain
            | Failure::Tko
            | Failure::OutOfOrder => 5,
            Failure::BadKey
            | Failure::BadValue
            | Failure::Aborted
            | Failure::DeadlineExceeded
            | Failure::Overloaded => 6,
            Failure::RemoteError => 7,
            Failure::LocalError => 8,
            Failure::ClientError => 9,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_error_is_no_reason_to_fail_over() {
        let told = |line| Reply::line(Status::ErrorLine, line);
        assert!(Failures::FAILOVER.has(&Reply::failed(Cause::Timeout)));
        assert!(Failures::FAILOVER.has(&told(b"SERVER_ERROR out of memory")));
        for busy in [told(b"SERVER_ERROR 307 busy"), Reply::failed(Cause::Busy)] {
            assert_eq!(Failure::of(&busy), Some(Failure::Busy));
        }
        assert!(!Failures::FAILOVER.has(&told(b"CLIENT_ERROR bad data chunk")));
        assert!(!Failures::FAILOVER.has(&Reply::failed(Cause::Aborted)));
        assert!(!Failures::FAILOVER.has(&Reply::line(Status::Miss, b"")));
        assert!(!Failures::NONE.has(&Reply::failed(Cause::Timeout)));
    }

    #[test]
    fn the_order_of_badness() {
        let lines = [
            Reply::line(Status::Stored, b"STORED"),
            Reply::line(Status::NotFound, b"NOT_FOUND"),
            Reply::failed(Cause::Timeout),
            Reply::failed(Cause::Aborted),
            Reply::line(Status::ErrorLine, b"SERVER_ERROR x"),
            Reply::failed(Cause::NoServer),
            Reply::line(Status::ErrorLine, b"CLIENT_ERROR x"),
        ];
        let severities: Vec<u8> = lines.iter().map(severity).collect();
        assert!(severities.is_sorted_by(|a, b| a < b), "{severities:?}");
    }
}
