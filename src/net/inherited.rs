//! The one place that turns a file descriptor number into a socket: `listen: fd:N` and systemd's activation.
//!
//! A number on the command line cannot be proved to be ours by the type system, hence the only `unsafe`
//! of the program. Whether it is a listening socket is checked before anything is done with it.
#![allow(unsafe_code)]

use rustix::net::sockopt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Takes over an inherited, listening stream socket.
///
/// # Errors
/// When the number is not an open descriptor, or not a listening socket.
pub(super) fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors 0 to 2 are not for listening"));
    }
    // SAFETY: only used for a question about the number; a closed one answers EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(borrowed)?;
    if !sockopt::socket_acceptconn(borrowed).unwrap_or(false) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
    }
    // A descriptor of our own, so that the same number can be named for several workers.
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Descriptors that systemd passed (`LISTEN_FDS`, `LISTEN_PID`): the numbers, from 3 on.
pub(super) fn activated() -> Vec<RawFd> {
    let var = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (var("LISTEN_PID"), var("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() && count <= 64 => {
            (3..).take(count as usize).collect()
        }
        _ => Vec::new(),
    }
}
