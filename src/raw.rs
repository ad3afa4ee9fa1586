//! The only `unsafe` of the program: what the type system cannot be shown.
//!
//! Three things: that a number on the command line is a descriptor, that the allocator may be told something, and a socket
//! option for which neither socket2 nor rustix has a name.
#![allow(unsafe_code)]

use rustix::net::sockopt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
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

/// The kernel takes more to be sent on this TCP socket only while less than so many bytes wait to be sent for the first
/// time (`TCP_NOTSENT_LOWAT`): what the peer has no room for stays with us, where it is counted.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_unsent_below(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<u32>()).unwrap_or(4);
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed and so open; the kernel reads `size` bytes at the pointer, which are those of `bytes`.
    let told = unsafe {
        libc::setsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size,
        )
    };
    if told == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

    /// What a peer that reads nothing is sent, if all is written that is taken.
    fn taken_for_one_who_reads_nothing(unsent_bytes: Option<u32>) -> usize {
        use std::io::Write;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        if let Some(bytes) = unsent_bytes {
            keep_unsent_below(&socket, bytes).unwrap();
        }
        let (piece, mut taken) = (vec![0; 16 * 1024], 0);
        while let Ok(count) = socket.write(&piece) {
            taken += count;
        }
        taken
    }

    #[test]
    fn the_kernel_takes_little_for_one_who_reads_nothing() {
        let (little, much) =
            (taken_for_one_who_reads_nothing(Some(65_536)), taken_for_one_who_reads_nothing(None));
        assert!(little < 400_000 && much > little, "{little} and {much} bytes");
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: takes no pointers.
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1_000, "no other option has this value by itself");
        keep_freed_memory_for(Duration::from_millis(7));
        assert_eq!(get(), 7);
    }
}
