//! A connected socket: TCP or unix; in tests, a pipe whose other end is in the same process.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// One stream type, so that sessions and connections need not care.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Only in tests, which hold the other end: every byte and every moment is then theirs to choose.
    Memory(DuplexStream),
}

impl From<TcpStream> for Stream {
    /// Small replies leave at once: nothing here profits from Nagle.
    fn from(stream: TcpStream) -> Self {
        // A socket that refuses the option still works, only slower.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<DuplexStream> for Stream {
    fn from(stream: DuplexStream) -> Self {
        Self::Memory(stream)
    }
}

impl Stream {
    /// A client's socket that another event loop, or another process, has let go.
    ///
    /// # Errors
    /// When it is no socket, or the runtime cannot watch it.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        socket.set_nonblocking(true)?;
        let is_unix = socket.local_addr()?.is_unix();
        Ok(if is_unix {
            UnixStream::from_std(socket.into())?.into()
        } else {
            TcpStream::from_std(socket.into())?.into()
        })
    }

    /// Lets go of the socket, with whatever lies in it.
    ///
    /// # Errors
    /// When there is none.
    pub fn into_descriptor(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(OwnedFd::from),
            Self::Unix(stream) => stream.into_std().map(OwnedFd::from),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The address of who is at the other end, if that is a host.
    #[must_use]
    pub fn peer_ip(&self) -> Option<IpAddr> {
        let Self::Tcp(stream) = self else { return None };
        stream.peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// A peer that vanished without a word is noticed within a minute even when nothing is asked of it.
    pub fn keep_alive(&self) {
        let Self::Tcp(stream) = self else { return };
        let keep = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        // A kernel that refuses leaves us with time limits, which find out as well.
        let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keep);
    }

    /// What a peer does not take stays with us but for a little, and not with the kernel, which keeps up to 4 MB for each.
    /// A peer that reads is as fast as without: what is on its way does not count.
    pub fn keep_little_unsent(&self) {
        const UNSENT_BYTES: u32 = 64 * 1024;
        let Self::Tcp(stream) = self else { return };
        // A kernel that refuses keeps more.
        let _ = crate::raw::keep_unsent_below(stream, UNSENT_BYTES);
    }

    /// Whether the peer is on this machine: it came over the loopback interface or a unix socket.
    #[must_use]
    pub fn is_near(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
            Self::Unix(_) | Self::Memory(_) => true,
        }
    }

    /// Says a few last words and closes. Nobody is waited for: the buffer of a new socket has room for them.
    pub fn say_last(self, words: &[u8]) {
        use std::io::Write;
        // Whether the peer still listens is its own affair.
        let _ = match self {
            Self::Tcp(stream) => stream.into_std().and_then(|mut s| s.write(words)),
            Self::Unix(stream) => stream.into_std().and_then(|mut s| s.write(words)),
            Self::Memory(mut stream) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                match Pin::new(&mut stream).poll_write(&mut cx, words) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Ok(0),
                }
            }
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Memory(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Self::Memory(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Memory(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Memory(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// Has the task polled again once all others have had their turn and the sockets have been looked at. (One that only wakes
/// itself comes again before anybody sees what has arrived: the runtime looks at the sockets when no task is left.)
pub fn wake_after_others(cx: &mut Context<'_>) {
    let others = std::pin::pin!(tokio::task::yield_now());
    let _ = others.poll(cx); // pending: the runtime has the waker
}

/// Writes as much of `out` as the socket takes. `Ready(Ok)` = all of it.
///
/// Nothing is lost when the caller goes away in between: what was taken has left `out`.
pub fn poll_write_all(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    out: &mut crate::protocol::WireBuf,
) -> Poll<io::Result<usize>> {
    use bytes::Buf;
    /// More pieces than this go with the next call.
    const PIECES_MAX: usize = 64;
    let mut total = 0;
    while !out.is_empty() {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let written = match out.single() {
            Some(block) => Pin::new(&mut *stream).poll_write(cx, block),
            None => {
                let count = out.chunks_vectored(&mut pieces);
                Pin::new(&mut *stream).poll_write_vectored(cx, &pieces[..count])
            }
        };
        match written {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => {
                out.advance(count);
                total += count;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(total))
}
