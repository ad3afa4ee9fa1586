//! A relay between the program and a server that brings the network's troubles: it holds bytes back, is slow or narrow,
//! cuts connections off at any byte, refuses them. It never changes a byte.

#![allow(
    clippy::disallowed_methods,
    reason = "what is dropped here in the midst of a write is a trouble like any other"
)]

use socket2::SockRef;
use std::cell::Cell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Free,
    /// Nothing passes; what waits goes on when the trouble is over.
    Held,
    /// So much later.
    Late(Duration),
    /// So many bytes in ten milliseconds.
    Narrow(usize),
    /// At once, but never more than so many bytes in one piece.
    Crumbs(usize),
    /// After so many more bytes nothing passes for a while, then the connection is cut off.
    Cut {
        after_bytes: u64,
        lingers: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    /// From the program to the server.
    pub(crate) up: Flow,
    pub(crate) down: Flow,
    /// How a connection is cut off: by a reset, or as a server does that ends.
    pub(crate) resets: bool,
    /// New connections are cut off at once, and those that are there too.
    pub(crate) refuses: bool,
}

impl Trouble {
    pub(crate) const NONE: Self = Self { up: Flow::Free, down: Flow::Free, resets: true, refuses: false };
}

/// A relay on a free port of 127.0.0.1.
pub(crate) struct TroubledRelay {
    address: String,
    trouble: watch::Sender<Trouble>,
    cuts: Arc<AtomicU64>,
}

impl TroubledRelay {
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let (trouble, told) = watch::channel(Trouble::NONE);
        let cuts = Arc::new(AtomicU64::new(0));
        let (server, cuts2) = (server.to_owned(), Arc::clone(&cuts));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, accept(listener, server, told, cuts2));
        });
        Self { address, trouble, cuts }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        let _ = self.trouble.send(trouble); // its thread ends with the process
    }

    /// Connections that were cut off so far.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    mut told: watch::Receiver<Trouble>,
    cuts: Arc<AtomicU64>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted, // cancel-safe, as `changed` is
            changed = told.changed() => if changed.is_err() { return } else { continue },
        };
        let Ok((near, _)) = accepted else { continue };
        let (server, told, cuts) = (server.clone(), told.clone(), Arc::clone(&cuts));
        tokio::task::spawn_local(async move {
            let trouble = *told.borrow();
            if trouble.refuses {
                return cut(&near);
            }
            let Ok(far) = TcpStream::connect(&server).await else { return cut(&near) };
            relay(near, far, told, &cuts).await;
        });
    }
}

/// One connection; the sockets end with it.
async fn relay(mut near: TcpStream, mut far: TcpStream, told: watch::Receiver<Trouble>, cuts: &AtomicU64) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let how = Rc::new(Cell::new(None));
    {
        let (near_in, near_out) = near.split();
        let (far_in, far_out) = far.split();
        let mut refused = told.clone();
        // whichever ends first ends the connection: nothing is asked of the others afterwards
        tokio::select! {
            () = pass(near_in, far_out, told.clone(), |t| t.up, &how) => {}
            () = pass(far_in, near_out, told, |t| t.down, &how) => {}
            trouble = refused.wait_for(|t| t.refuses) => how.set(trouble.ok().map(|t| t.resets)),
        }
    }
    if let Some(resets) = how.get() {
        cuts.fetch_add(1, Ordering::SeqCst);
        if resets {
            cut(&near);
            cut(&far);
        }
    }
}

/// What is not read any more is lost, the other side gets a reset.
fn cut(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// One direction, until it ends or is cut off.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut told: watch::Receiver<Trouble>,
    flow_of: fn(&Trouble) -> Flow,
    how: &Cell<Option<bool>>,
) {
    const TICK: Duration = Duration::from_millis(10);
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    let _ = told.borrow_and_update();
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        let came = Instant::now();
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if told.has_changed().unwrap_or(false) {
                passed = 0;
            }
            let trouble = *told.borrow_and_update();
            let piece = match flow_of(&trouble) {
                Flow::Free => rest.len(),
                Flow::Held => {
                    if told.changed().await.is_err() {
                        return;
                    }
                    passed = 0;
                    continue;
                }
                Flow::Late(delay) => {
                    tokio::time::sleep_until((came + delay).into()).await;
                    rest.len()
                }
                Flow::Narrow(bytes) => {
                    tokio::time::sleep(TICK).await;
                    bytes.min(rest.len())
                }
                Flow::Crumbs(bytes) => {
                    // whoever reads gets a chance to read no more than that
                    tokio::task::yield_now().await;
                    bytes.min(rest.len())
                }
                Flow::Cut { after_bytes, lingers } => {
                    if passed == after_bytes {
                        tokio::time::sleep(lingers).await;
                        return how.set(Some(trouble.resets));
                    }
                    usize::try_from(after_bytes - passed).unwrap().min(rest.len())
                }
            };
            let (now, later) = rest.split_at(piece);
            if to.write_all(now).await.is_err() {
                return;
            }
            passed += piece as u64;
            rest = later;
        }
    }
}
