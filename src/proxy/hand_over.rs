//! The hand-over, as the process sees it that leaves.
//!
//! Another process knocks at `hand_over`, is given every listening socket, builds all that it needs and says that it serves.
//! Until then nothing has changed here, and whatever goes wrong there, this process serves on. Afterwards the sockets of
//! clients follow, each when nothing of what it has asked is under way: bytes that have come meanwhile lie in the socket and
//! go along.
//!
//! ```text
//! new                                  old
//! take-over FORMAT                 ─►
//!                                  ◄─  format FORMAT
//!                                  ◄─  listen WHERE LABEL FILE SHARED + sockets   (for each address, 64 sockets at a time)
//!                                  ◄─  admin WHERE LABEL FILE SHARED + socket, door PATH + socket
//!                                  ◄─  all
//! serves                           ─►
//!                                  ◄─  clients + sockets                          (many times; then it closes)
//!                                  ◄─  too-late                                   (instead: it is not waited for any longer)
//! ```
//!
//! Words of a kind that one does not know are passed over. An old process that has to leave before `serves` just closes: its
//! sockets, files and the door are the new one's then.

use super::events::Event;
use crate::config::Listen;
use crate::net::{BindError, BoundAddress, Door, PASSED_COUNT_MAX, Packet, Passage, SocketFile};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// The one that this program speaks.
pub(super) const FORMAT: &str = "1";
/// For a successor that was not waited for: both would serve.
pub(super) const TOO_LATE: &str = "too-late";
/// For each word of the conversation.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A successor that has all sockets and does not serve after so long is not waited for.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// An address with all its sockets, in as many packets as it takes. `listen`: as in the configuration, `None` where it is not
/// from there.
pub(super) fn packets_of(
    kind: &str,
    listen: Option<&Listen>,
    bound: &BoundAddress,
) -> io::Result<Vec<Packet>> {
    let listen = listen.map(ToString::to_string).unwrap_or_default();
    let path = bound.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default();
    let shared = if bound.is_shared { "shared" } else { "" };
    let mut packets = Vec::new();
    let mut sockets = bound.descriptors()?;
    while !sockets.is_empty() {
        let rest = sockets.split_off(sockets.len().min(PASSED_COUNT_MAX));
        packets.push(Packet::of([kind, &listen, &bound.label, &path, shared], sockets));
        sockets = rest;
    }
    Ok(packets)
}

/// An open `hand_over`.
pub(super) struct HandOver {
    file: SocketFile,
    door: Door,
}

impl HandOver {
    /// With a door that was handed over, or a new one.
    pub(super) fn open(path: &Path, handed: Option<Door>, tell: &Sender<Event>) -> Result<Self, BindError> {
        let open = || {
            let door = handed.map_or_else(|| Door::open(path), Ok)?;
            let (inside, tell) = (door.try_clone()?, tell.clone());
            let thread = std::thread::Builder::new().name("ringway-hand-over".to_owned());
            thread.spawn(move || attend(&inside, &tell))?;
            Ok(Self { file: SocketFile::at(path), door })
        };
        open().map_err(|error| BindError::new(&Listen::Unix(path.to_owned()), error))
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether somebody who knocks comes here.
    pub(super) fn is_there(&self) -> bool {
        self.file.is_there()
    }

    /// What a successor needs to attend the door.
    pub(super) fn packet(&self) -> io::Result<Packet> {
        Ok(Packet::of(["door", &self.path().display().to_string()], vec![self.door.descriptor()?]))
    }

    /// Nobody can take over any more. Not for one whose successor attends the same door.
    pub(super) fn close(&self) {
        self.file.remove();
        self.door.close();
    }
}

/// Opens to whoever knocks, until one of them has taken over.
fn attend(door: &Door, tell: &Sender<Event>) {
    while let Ok(passage) = door.accept() {
        match offer(&passage, tell) {
            Ok(true) => return drop(tell.send(Event::HandedOver(passage))),
            Ok(false) => {}
            Err(why) => {
                tracing::warn!("no hand-over, this process serves on: {why}");
                if tell.send(Event::NotTaken).is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the other one serves now; `false`: it wanted nothing.
fn offer(passage: &Passage, tell: &Sender<Event>) -> Result<bool, String> {
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    passage.check_user().map_err(|error| failed("who knocks is refused", error))?;
    passage.set_patience(Some(PATIENCE)).map_err(|error| failed("its socket", error))?;
    let Some(asked) = passage.receive().map_err(|error| failed("it says nothing", error))? else {
        return Ok(false);
    };
    if asked.kind() != "take-over" {
        return Err("it does not speak as another ringway would".to_owned());
    }
    // Who speaks several formats tells them all, the best one first.
    if !asked.words.iter().skip(1).any(|format| format == FORMAT) {
        // It may not listen any more.
        let _ = passage.send(&Packet::of(["format", FORMAT], Vec::new()));
        return Err(format!("it speaks format {} and not {FORMAT}", asked.words[1..].join(", ")));
    }
    let (give, given) = mpsc::channel();
    tell.send(Event::TakeOver(give)).map_err(|_| "this process leaves".to_owned())?;
    let packets = given.recv().map_err(|_| "not now".to_owned())?;
    let send =
        |packet: &Packet| passage.send(packet).map_err(|error| failed("it does not take the sockets", error));
    send(&Packet::of(["format", FORMAT], Vec::new()))?;
    packets.iter().try_for_each(send)?;
    send(&Packet::of(["all"], Vec::new()))?;
    drop(packets);
    passage.set_patience(Some(START_TIME_MAX)).map_err(|error| failed("its socket", error))?;
    match passage.receive() {
        Ok(Some(answer)) if answer.kind() == "serves" => Ok(true),
        Ok(Some(answer)) => Err(format!("it answered {:?}", answer.kind())),
        Ok(None) => Err("it has ended before it served".to_owned()),
        Err(error) => {
            // It may have left without a word.
            let _ = passage.send(&Packet::of([TOO_LATE], Vec::new()));
            Err(failed("it does not come to serve", error))
        }
    }
}

/// The way of clients to the successor.
pub(super) struct Moving {
    pub(super) clients: Sender<OwnedFd>,
    mover: JoinHandle<u64>,
}

impl Moving {
    pub(super) fn start(passage: Passage) -> io::Result<Self> {
        let (clients, coming) = mpsc::channel();
        let mover = std::thread::Builder::new()
            .name("ringway-moving".to_owned())
            .spawn(move || move_on(&passage, &coming))?;
        Ok(Self { clients, mover })
    }

    /// When nobody else has a sender any more: waits until the last one has gone, and tells how many went.
    pub(super) fn finish(self) -> u64 {
        drop(self.clients);
        self.mover.join().unwrap_or(0)
    }
}

/// Sends clients on until no more can come.
fn move_on(passage: &Passage, coming: &Receiver<OwnedFd>) -> u64 {
    let mut moved = 0;
    while let Ok(first) = coming.recv() {
        let mut clients = vec![first];
        clients.extend(coming.try_iter().take(PASSED_COUNT_MAX - 1));
        let packet = Packet { words: vec!["clients".to_owned()], descriptors: clients };
        if let Err(error) = passage.send(&packet) {
            tracing::warn!("the new process takes no clients, they are closed: {error}");
            return moved; // those that come now close with the channel
        }
        moved += packet.descriptors.len() as u64;
    }
    moved
}
