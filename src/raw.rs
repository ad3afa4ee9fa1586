//! The only `unsafe` of the program: what the type system cannot be shown.
//!
//! Two things: that a number on the command line is a descriptor, and that the allocator may be told something.
#![allow(unsafe_code)]

use rustix::net::sockopt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Takes over an inherited, listening stream socket. Whether it is one is checked before anything is done with it.
///
/// # Errors
/// When the number is not an open descriptor, or not a listening socket.
pub fn listening_descriptor(number: RawFd) -> io::Result<OwnedFd> {
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

/// Gives what this thread has freed back to the system. By itself mimalloc does so after a while, but only while
/// memory comes and goes: after a burst a quiet process would keep all of it.
pub fn give_memory_back() {
    // SAFETY: takes no pointers, and may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`: the crate has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// So long freed memory stays for whoever wants it next; `MIMALLOC_PURGE_DELAY` in the environment comes first.
pub fn keep_freed_memory_for(delay: Duration) {
    let millis = delay.as_millis().try_into().unwrap_or(0);
    // SAFETY: takes no pointers, and may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, millis) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: takes no pointers.
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1_000, "no other option has this value by itself");
        keep_freed_memory_for(Duration::from_millis(7));
        assert_eq!(get(), 7);
    }
}
