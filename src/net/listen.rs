//! Listening sockets: bound once in the main thread, one for each worker.
//!
//! TCP listeners have SO_REUSEPORT, so every worker has a queue of its own and the kernel spreads the clients.
//! Unix sockets and inherited ones cannot be bound twice: the workers share the same queue.

use super::{Stream, inherited};
use crate::config::Listen;
use crate::raw;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, UnixListener};

/// Clients that wait to be accepted; memcached's default is the same.
const BACKLOG_COUNT: i32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    address: String,
    source: io::Error,
    hint: &'static str,
}

impl BindError {
    #[must_use]
    pub fn new(listen: &Listen, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => " (is another ringway or memcached running there?)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 and foreign directories need rights)",
            _ => "",
        };
        Self { address: listen.to_string(), source, hint }
    }
}

/// A listening socket on its way to its worker.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// All sockets of one address: one for each worker, and what to call it.
#[derive(Debug)]
pub struct BoundAddress {
    /// As it really is: with the port that the kernel chose.
    pub label: String,
    /// The file to remove at the end.
    pub path: Option<PathBuf>,
    pub sockets: Vec<Bound>,
}

/// Binds one address for `workers` workers.
///
/// # Errors
/// One sentence that names the address.
pub fn bind(listen: &Listen, workers: usize) -> Result<BoundAddress, BindError> {
    let result = match listen {
        Listen::Tcp(address) => bind_tcp(*address, workers),
        Listen::Unix(path) => bind_unix(path, workers),
        Listen::Fd(number) => {
            raw::listening_descriptor(*number).and_then(|fd| share(fd, format!("fd:{number}"), workers))
        }
    };
    result.map_err(|source| BindError::new(listen, source))
}

/// The sockets that systemd passed, if any.
///
/// # Errors
/// When one of them is not a listening socket.
pub fn activated(workers: usize) -> Result<Vec<BoundAddress>, BindError> {
    inherited::activated().into_iter().map(|number| bind(&Listen::Fd(number), workers)).collect()
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<BoundAddress> {
    // SO_REUSEPORT would let a second ringway of the same user share the port in silence:
    // bind once without it to learn whether somebody is there.
    let mut address = address;
    if address.port() != 0 {
        drop(tcp_socket(address, false)?);
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(address, true)?;
        socket.listen(BACKLOG_COUNT)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?; // with port 0, the others follow the first
        sockets.push(Bound::Tcp(listener));
    }
    Ok(BoundAddress { label: address.to_string(), path: None, sockets })
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<BoundAddress> {
    // A socket file that nobody listens on is what a crash left behind; one that answers is in use.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let kind = std::fs::symlink_metadata(path)?.file_type();
        if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in the way",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // Whatever the umask: whoever may connect reads the cache. Its directory may open it further to a group.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))?;
    let mut bound = share(listener.into(), format!("unix:{}", path.display()), workers)?;
    bound.path = Some(path.to_path_buf());
    Ok(bound)
}

/// The same queue for every worker.
fn share(fd: OwnedFd, label: String, workers: usize) -> io::Result<BoundAddress> {
    let socket = Socket::from(fd);
    socket.set_nonblocking(true)?;
    let unix = socket.local_addr()?.is_unix();
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let copy: OwnedFd = socket.try_clone()?.into();
        sockets.push(if unix { Bound::Unix(copy.into()) } else { Bound::Tcp(copy.into()) });
    }
    Ok(BoundAddress { label, path: None, sockets })
}

/// A listening socket in its worker.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(l) => Self::Tcp(TcpListener::from_std(l)?),
            Bound::Unix(l) => Self::Unix(UnixListener::from_std(l)?),
        })
    }

    /// The next client, if one waits. For a moment at which the runtime's own way has just failed.
    #[must_use]
    pub fn try_accept(&self) -> Option<Stream> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_accept(&mut cx) {
            Poll::Ready(Ok(stream)) => Some(stream),
            _ => None,
        }
    }

    /// The next client.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match self {
            Self::Tcp(l) => l.poll_accept(cx).map_ok(|(s, _)| Stream::from(s)),
            Self::Unix(l) => l.poll_accept(cx).map_ok(|(s, _)| Stream::from(s)),
        }
    }
}
