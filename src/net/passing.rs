//! Descriptors on their way to another process: packets of a few words and open files, over a unix socket.
//!
//! Who may take them is whoever runs as the same user. The socket's file has mode 0600, and the kernel tells who is at the
//! other end; both sides look.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use rustix::thread::Timespec;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Descriptors in one packet; Linux allows 253.
pub const PASSED_COUNT_MAX: usize = 64;
/// All words of one packet: a few paths.
const WORDS_BYTES_MAX: usize = 16 * 1024;
/// Between words. No path holds it.
const BETWEEN_WORDS: &str = "\0";
/// Processes that wait for the door to be opened.
const BACKLOG_COUNT: i32 = 4;
/// After an accept that failed.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Room for the control part of a packet.
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(PASSED_COUNT_MAX));

/// Words, and descriptors that go with them.
#[derive(Debug, Default)]
pub struct Packet {
    pub words: Vec<String>,
    pub descriptors: Vec<OwnedFd>,
}

impl Packet {
    pub fn of<const N: usize>(words: [&str; N], descriptors: Vec<OwnedFd>) -> Self {
        Self { words: words.map(ToOwned::to_owned).into(), descriptors }
    }

    /// The first word; none is as good as an unknown one.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.word(0)
    }

    #[must_use]
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

/// Where other processes knock.
#[derive(Debug)]
pub struct Door(Socket);

impl Door {
    /// # Errors
    /// When somebody listens there already, or the path cannot be had.
    pub fn open(path: &Path) -> io::Result<Self> {
        free(path)?;
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Nobody is let in before it is this: nothing listens yet.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        socket.listen(BACKLOG_COUNT)?;
        Ok(Self(socket))
    }

    /// One that was handed over.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn inherit(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let is_one = socket.is_listener()? && socket.r#type()? == Type::SEQPACKET;
        if is_one { Ok(Self(socket)) } else { Err(ErrorKind::InvalidInput.into()) }
    }

    /// Waits for the next one to knock.
    ///
    /// # Errors
    /// When the door was closed.
    pub fn accept(&self) -> io::Result<Passage> {
        loop {
            match self.0.accept() {
                Ok((socket, _)) => return Ok(Passage(socket)),
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                // Whoever has left again, or a moment without descriptors: nothing is lost, they come again.
                Err(_) => {
                    let _ = rustix::thread::nanosleep(&PAUSE);
                }
            }
        }
    }

    /// Nobody comes in any more, here and wherever else this socket is open.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// # Errors
    /// When there is no descriptor left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }
}

/// Makes room for a socket at `path`: removes what a process that is gone has left there.
fn free(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is in the way"));
    }
    let knocking = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    knocking.set_nonblocking(true)?; // one that is too busy to open is there
    match knocking.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Who listens with another kind of socket listens, too.
        Ok(()) | Err(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

/// A connection to the other process.
#[derive(Debug)]
pub struct Passage(Socket);

impl Passage {
    /// # Errors
    /// When nobody is there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(Self(socket))
    }

    /// # Errors
    /// When whoever is at the other end runs as another user.
    pub fn check_user(&self) -> io::Result<()> {
        let (peer, own) = (sockopt::socket_peercred(&self.0)?.uid, rustix::process::geteuid());
        if peer == own {
            return Ok(());
        }
        let (peer, own) = (peer.as_raw(), own.as_raw());
        let why = format!("it runs as user {peer}, not as {own}");
        Err(io::Error::new(ErrorKind::PermissionDenied, why))
    }

    /// How long each sending and receiving may take; `None`: for ever.
    ///
    /// # Errors
    /// When the socket does not take it.
    pub fn set_patience(&self, time: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(time).and_then(|()| self.0.set_write_timeout(time))
    }

    /// # Errors
    /// When the other side is gone or does not take it, or the packet is too large.
    pub fn send(&self, packet: &Packet) -> io::Result<()> {
        let words = packet.words.join(BETWEEN_WORDS);
        if words.is_empty() || words.len() > WORDS_BYTES_MAX || packet.descriptors.len() > PASSED_COUNT_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let descriptors: Vec<BorrowedFd<'_>> = packet.descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let bytes = [IoSlice::new(words.as_bytes())];
        retry(|| sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// The next packet; `None`: the other side has closed, perhaps without having read everything.
    ///
    /// # Errors
    /// When nothing came in time, or what came was cut off.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; WORDS_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry(|| {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(ErrorKind::InvalidData, "a packet was cut off"));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
        Ok(Some(Packet { words: text.split(BETWEEN_WORDS).map(ToOwned::to_owned).collect(), descriptors }))
    }
}

/// A signal is no reason to give up.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn door() -> (std::path::PathBuf, Door) {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ringway-door-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let door = Door::open(&path).unwrap();
        (path, door)
    }

    #[test]
    fn words_and_descriptors_arrive_together() {
        let (path, door) = door();
        let there = Passage::connect(&path).unwrap();
        let here = door.accept().unwrap();
        there.check_user().unwrap();
        here.check_user().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        here.send(&Packet::of(["clients", "", "/a path"], vec![passed.into()])).unwrap();
        here.send(&Packet::of(["all"], Vec::new())).unwrap();
        drop(here);
        let packet = there.receive().unwrap().unwrap();
        assert_eq!(
            (packet.kind(), packet.word(1), packet.word(2), packet.word(3)),
            ("clients", "", "/a path", "")
        );
        let mut arrived = UnixStream::from(packet.descriptors.into_iter().next().unwrap());
        kept.write_all(b"hello").unwrap();
        let mut said = [0; 5];
        arrived.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        assert_eq!(there.receive().unwrap().unwrap().kind(), "all");
        assert!(there.receive().unwrap().is_none(), "closed");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn as_many_as_fit_and_no_more() {
        let (path, door) = door();
        let there = Passage::connect(&path).unwrap();
        let here = door.accept().unwrap();
        let some = |count| (0..count).map(|_| io::stderr().as_fd().try_clone_to_owned().unwrap()).collect();
        here.send(&Packet::of(["x"], some(PASSED_COUNT_MAX))).unwrap();
        assert_eq!(there.receive().unwrap().unwrap().descriptors.len(), PASSED_COUNT_MAX);
        assert!(here.send(&Packet::of(["x"], some(PASSED_COUNT_MAX + 1))).is_err());
        assert!(here.send(&Packet::of([&*"x".repeat(WORDS_BYTES_MAX + 1)], Vec::new())).is_err());
        there.set_patience(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(there.receive().unwrap_err().kind(), ErrorKind::TimedOut);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_door_that_is_in_use_is_not_taken_away() {
        let (path, door) = door();
        assert_eq!(Door::open(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(door);
        let door = Door::open(&path).unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        door.close();
        assert!(door.accept().is_err());
        std::fs::remove_file(&path).unwrap();
        let stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(Door::open(&path).unwrap_err().kind(), ErrorKind::AddrInUse, "of another kind");
        drop(stream);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(Door::open(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        std::fs::remove_file(path).unwrap();
    }
}
