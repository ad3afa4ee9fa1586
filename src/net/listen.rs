//! Listening sockets: bound once in the main thread, which keeps them all; workers have copies.
//!
//! TCP listeners have SO_REUSEPORT, so every worker has a queue of its own and the kernel spreads the clients.
//! Unix sockets and inherited ones cannot be bound twice: the workers share the same queue. A queue is never closed while
//! its address is listened on: clients that wait in it would be refused.

use super::{Stream, inherited};
use crate::config::Listen;
use crate::raw;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

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

    /// The same of a port of which this process was given a socket by who started it: that one lets nobody beside it.
    #[must_use]
    pub fn beside_inherited(self) -> Self {
        if self.source.kind() != io::ErrorKind::AddrInUse {
            return self;
        }
        Self {
            hint: " (ringway was started with a socket of this port: to change it takes a restart)",
            ..self
        }
    }
}

/// A listening socket on its way to its worker.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// Of a descriptor that came from elsewhere.
    fn of(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
        }
        socket.set_nonblocking(true)?;
        let is_unix = socket.local_addr()?.is_unix();
        Ok(if is_unix { Self::Unix(socket.into()) } else { Self::Tcp(socket.into()) })
    }

    /// The same queue once more.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// From now on clients are taken. (Once more changes nothing; unix sockets and inherited ones do so from the beginning.)
    fn listen(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => SockRef::from(socket).listen(BACKLOG_COUNT),
            Self::Unix(_) => Ok(()),
        }
    }

    fn descriptor(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Self::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }
}

/// The file that leads to a unix socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number of the file that is ours: somebody else's socket may be at this path by now. As long as ours is open no
    /// other file has its number. `None`: there was no file.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// The one that is there now.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), identity: identity_of(path) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it still leads to our socket.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.identity.is_some() && identity_of(&self.path) == self.identity
    }

    /// Removes it, unless it is somebody else's by now. To be called before the socket is closed: from then on the path may be
    /// taken.
    pub fn remove(&self) {
        if self.is_there() {
            // One that is already gone is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether one socket is in the other's way. `[::]` has the addresses of both families.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

/// All sockets of one address, and what to call it.
#[derive(Debug)]
pub struct BoundAddress {
    /// As it really is: with the port that the kernel chose.
    pub label: String,
    /// To be removed at the end.
    pub file: Option<SocketFile>,
    /// Each is a queue that somebody has to accept from.
    pub sockets: Vec<Bound>,
    /// There is one queue for all workers, and no way to more of them.
    pub is_shared: bool,
}

impl BoundAddress {
    /// Takes more sockets of this address, from another process.
    ///
    /// # Errors
    /// When one of them is not a listening socket.
    pub fn add(&mut self, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let sockets = descriptors.into_iter().map(Bound::of).collect::<io::Result<Vec<_>>>()?;
        self.sockets.extend(sockets);
        Ok(())
    }

    /// Copies of all sockets.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(Bound::descriptor).collect()
    }

    /// Where it is in truth, which a label need not tell; `None` for unix sockets.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.sockets.iter().find_map(|socket| match socket {
            Bound::Tcp(socket) => socket.local_addr().ok(),
            Bound::Unix(_) => None,
        })
    }

    /// Whether it is in the way of that one: the same TCP port, at an address that covers the other's or is covered by it.
    /// Sockets that were bound here let others of ours beside them.
    #[must_use]
    pub fn has_port_of(&self, listen: &Listen) -> bool {
        matches!((self.address(), listen), (Some(own), Listen::Tcp(other)) if overlap(own, *other))
    }

    /// Nobody is to listen there any more: the file that leads to it goes first.
    pub fn remove_file(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }

    /// Binds the path of a unix socket anew when its file is gone: nobody comes to a socket without one.
    ///
    /// # Errors
    /// When somebody else has the path by now.
    pub fn restore_file(&mut self) -> io::Result<()> {
        let lost = self.file.as_ref().filter(|file| !file.is_there()).map(|file| file.path.clone());
        if let Some(path) = lost {
            *self = bind_unix(&path)?;
        }
        Ok(())
    }

    /// For each of so many workers the queues that it accepts from. Binds more where a worker would have none.
    ///
    /// # Errors
    /// When there are no descriptors left, or the kernel gives no more of this address.
    pub fn spread(&mut self, workers: usize) -> io::Result<Vec<Vec<Bound>>> {
        if !self.is_shared
            && let Some(Bound::Tcp(first)) = self.sockets.first()
        {
            let address = first.local_addr()?;
            while self.sockets.len() < workers {
                self.sockets.push(one_more(address)?);
            }
        }
        self.sockets.iter().try_for_each(Bound::listen)?;
        let mut spread: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
        if self.is_shared {
            for (of_worker, socket) in spread.iter_mut().zip(self.sockets.iter().cycle()) {
                of_worker.push(socket.try_clone()?);
            }
        } else {
            for (index, socket) in self.sockets.iter().enumerate() {
                spread[index % workers].push(socket.try_clone()?);
            }
        }
        Ok(spread)
    }
}

/// Binds one address; clients are taken from [`BoundAddress::spread`] on, those of a unix socket at once. `beside`: another
/// process of the same user may have the same TCP address.
///
/// # Errors
/// One sentence that names the address.
pub fn bind(listen: &Listen, beside: bool) -> Result<BoundAddress, BindError> {
    let result = match listen {
        Listen::Tcp(address) => bind_tcp(*address, beside),
        Listen::Unix(path) => bind_unix(path),
        Listen::Fd(number) => {
            raw::listening_descriptor(*number).and_then(|fd| shared(fd, format!("fd:{number}"), None))
        }
    };
    result.map_err(|source| BindError::new(listen, source))
}

/// The sockets that systemd passed, if any.
///
/// # Errors
/// When one of them is not a listening socket.
pub fn activated() -> Result<Vec<BoundAddress>, BindError> {
    inherited::activated().into_iter().map(|number| bind(&Listen::Fd(number), false)).collect()
}

fn bind_tcp(address: SocketAddr, beside: bool) -> io::Result<BoundAddress> {
    // SO_REUSEPORT would let a second ringway of the same user share the port in silence:
    // bind once without it to learn whether somebody is there.
    if address.port() != 0 && !beside {
        drop(tcp_socket(address, false)?);
    }
    let socket = one_more(address)?;
    let Bound::Tcp(listener) = &socket else { return Err(io::ErrorKind::InvalidInput.into()) };
    let label = listener.local_addr()?.to_string();
    Ok(BoundAddress { label, file: None, sockets: vec![socket], is_shared: false })
}

/// One more queue of an address. The kernel spreads the clients that come from now on over it, too.
fn one_more(address: SocketAddr) -> io::Result<Bound> {
    tcp_socket(address, true).map(|socket| Bound::Tcp(socket.into()))
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

fn bind_unix(path: &Path) -> io::Result<BoundAddress> {
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
    shared(listener.into(), format!("unix:{}", path.display()), Some(SocketFile::at(path)))
}

/// One queue for every worker.
fn shared(descriptor: OwnedFd, label: String, file: Option<SocketFile>) -> io::Result<BoundAddress> {
    Ok(BoundAddress { label, file, sockets: vec![Bound::of(descriptor)?], is_shared: true })
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

    /// The next client, if one waits: the socket itself is asked. The runtime may not have heard of it yet, and gives a task
    /// no more than 128 of them before others have their turn.
    #[must_use]
    pub fn try_accept(&self) -> Option<Stream> {
        let accept = |listener: SockRef<'_>| loop {
            match listener.accept() {
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                accepted => {
                    let (client, _) = accepted.ok()?;
                    client.set_nonblocking(true).ok()?;
                    break Some(client);
                }
            }
        };
        match self {
            Self::Tcp(l) => TcpStream::from_std(accept(SockRef::from(l))?.into()).ok().map(Stream::from),
            Self::Unix(l) => UnixStream::from_std(accept(SockRef::from(l))?.into()).ok().map(Stream::from),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_wait_are_accepted_whatever_the_runtime_knows_of_them() {
        const CLIENTS: usize = 300;
        let address = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = bind(&address, false).expect("a free port").sockets.remove(0);
        let Bound::Tcp(socket) = &bound else { panic!("it is one of TCP") };
        let address = socket.local_addr().expect("it is bound");
        bound.listen().expect("nobody else has the port");
        let listener = Listener::new(bound).expect("it can be watched");
        let clients: Vec<_> = (0..CLIENTS).map(|_| std::net::TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        assert_eq!(std::iter::from_fn(|| listener.try_accept()).count(), CLIENTS);
    }

    #[test]
    fn only_an_address_that_covers_the_other_is_in_its_way() {
        let overlap = |one: &str, other: &str| {
            let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
            assert_eq!(overlap(of(one), of(other)), overlap(of(other), of(one)));
            overlap(of(one), of(other))
        };
        assert!(overlap("127.0.0.1:5000", "127.0.0.1:5000"));
        assert!(overlap("127.0.0.1:5000", "0.0.0.0:5000"));
        assert!(overlap("[::]:5000", "127.0.0.1:5000"));
        assert!(overlap("[::]:5000", "0.0.0.0:5000"));
        assert!(overlap("[::ffff:127.0.0.1]:5000", "127.0.0.1:5000"));
        assert!(!overlap("127.0.0.1:5000", "10.0.0.1:5000"), "it may be another ringway's");
        assert!(!overlap("0.0.0.0:5000", "[::1]:5000"));
        assert!(!overlap("127.0.0.1:5000", "0.0.0.0:5001"));
    }

    #[test]
    fn a_file_that_is_somebody_elses_by_now_is_left_to_them() {
        let path = std::env::temp_dir().join(format!("ringway-listen-{}", std::process::id()));
        let bound = || bind(&Listen::Unix(path.clone()), false).expect("nobody listens there");
        let mut ours = bound();
        std::fs::remove_file(&path).expect("it is there");
        let theirs = bound();
        ours.remove_file();
        assert!(path.exists());
        assert!(ours.restore_file().is_err(), "somebody else listens there");
        theirs.remove_file();
        assert!(!path.exists());
        ours.restore_file().expect("the path is free");
        assert!(path.exists());
        ours.remove_file();
        assert!(!path.exists());
    }
}
