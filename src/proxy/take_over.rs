//! The hand-over, as the process sees it that comes: `hand_over.rs` has the conversation.

use super::events::Event;
use super::hand_over::{FORMAT, PATIENCE, TOO_LATE};
use crate::config::Listen;
use crate::net::{BoundAddress, Door, Packet, Passage, SocketFile};
use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// For one look at whether the other process has said something.
const GLANCE: Duration = Duration::from_millis(1);

/// What another process has handed over; it serves on until it hears that this one does. Dropped: nothing has happened.
pub struct TakenOver {
    passage: Passage,
    addresses: Vec<Taken>,
    admin: Option<Taken>,
    door: Option<(SocketFile, Door)>,
}

/// An address that the other process listens on.
struct Taken {
    /// As in its configuration; `None`: it was handed to it as well, by systemd.
    listen: Option<Listen>,
    bound: BoundAddress,
}

/// Asks the process that attends this socket for all that it listens on.
///
/// # Errors
/// One sentence. The other process serves on.
pub fn take_over(path: &Path) -> Result<TakenOver, String> {
    ask(path).map_err(|error| format!("cannot take over from {}: {error}", path.display()))
}

fn ask(path: &Path) -> io::Result<TakenOver> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let passage = Passage::connect(path)?;
    passage.check_user()?;
    passage.set_patience(Some(PATIENCE))?;
    passage.send(&Packet::of(["take-over", FORMAT], Vec::new()))?;
    let next = || passage.receive()?.ok_or_else(|| invalid("it does not hand over".to_owned()));
    let first = next()?;
    if first.kind() != "format" || first.word(1) != FORMAT {
        return Err(invalid(format!("it speaks format {:?}, not {FORMAT}", first.word(1))));
    }
    let mut addresses: Vec<Taken> = Vec::new();
    let (mut admin, mut door) = (None, None);
    loop {
        let packet = next()?;
        match packet.kind() {
            "all" => break,
            "listen" => take_address(&mut addresses, packet)?,
            "admin" => {
                let mut taken = Vec::new();
                take_address(&mut taken, packet)?;
                admin = taken.pop();
            }
            "door" => {
                let file = SocketFile::at(Path::new(packet.word(1)));
                if let Some(socket) = packet.descriptors.into_iter().next() {
                    door = Some((file, Door::inherit(socket)?));
                }
            }
            _ => {} // of a later version
        }
    }
    passage.set_patience(None)?;
    Ok(TakenOver { passage, addresses, admin, door })
}

/// An address comes in several packets when it has many sockets.
fn take_address(addresses: &mut Vec<Taken>, packet: Packet) -> io::Result<()> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let listen = match packet.word(1) {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("it names no address"))?),
    };
    let label = packet.word(2).to_owned();
    let path = Some(packet.word(3)).filter(|path| !path.is_empty());
    let file = path.map(|path| SocketFile::at(Path::new(path)));
    let is_shared = packet.word(4) == "shared";
    match addresses.last_mut().filter(|last| last.bound.label == label) {
        Some(last) => last.bound.add(packet.descriptors)?,
        None => {
            let mut bound = BoundAddress { label, file, sockets: Vec::new(), is_shared };
            bound.add(packet.descriptors)?;
            addresses.push(Taken { listen, bound });
        }
    }
    Ok(())
}

impl TakenOver {
    /// Whether the other process was started with sockets, by systemd: then they are where clients connect.
    #[must_use]
    pub fn has_activated(&self) -> bool {
        self.addresses.iter().any(|taken| taken.listen.is_none())
    }

    /// The sockets of an address, if the other process has it.
    pub(super) fn take(&mut self, listen: &Listen) -> Option<BoundAddress> {
        let at = self.addresses.iter().position(|taken| taken.listen.as_ref() == Some(listen))?;
        Some(self.addresses.remove(at).bound)
    }

    /// Those that the other process was started with.
    pub(super) fn take_activated(&mut self) -> Vec<BoundAddress> {
        let (activated, others) =
            std::mem::take(&mut self.addresses).into_iter().partition(|taken| taken.listen.is_none());
        self.addresses = others;
        let activated: Vec<Taken> = activated;
        activated.into_iter().map(|taken| taken.bound).collect()
    }

    /// Whether the other process answers on this admin port.
    pub(super) fn has_admin(&self, listen: &Listen) -> bool {
        self.admin.as_ref().is_some_and(|taken| taken.listen.as_ref() == Some(listen))
    }

    /// The socket of the admin port, if it is this one.
    pub(super) fn take_admin(&mut self, listen: &Listen) -> Option<BoundAddress> {
        self.admin.take_if(|taken| taken.listen.as_ref() == Some(listen)).map(|taken| taken.bound)
    }

    /// The door to this process, if it is at this path.
    pub(super) fn take_door(&mut self, path: &Path) -> Option<Door> {
        self.door.take_if(|(file, _)| file.path() == path).map(|(_, door)| door)
    }

    /// Whether the other process has ended: then nobody serves but this one.
    ///
    /// # Errors
    /// When it serves on, because it has waited for too long.
    pub(super) fn is_alone(&self) -> io::Result<bool> {
        self.passage.set_patience(Some(GLANCE))?;
        let said = self.passage.receive();
        self.passage.set_patience(None)?;
        match said {
            Ok(None) => Ok(true),
            Ok(Some(packet)) if packet.kind() == TOO_LATE => {
                let why = "the other process has waited for too long, and serves on";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
            Ok(Some(_)) => Ok(false), // of a later version
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the other process that this one serves, and takes its clients as they come. Where it has ended this one serves all
    /// the same.
    pub(super) fn serves(self, tell: Sender<Event>) -> io::Result<()> {
        let told = self.passage.send(&Packet::of(["serves"], Vec::new()));
        if told.is_err() && !self.is_alone()? {
            return told;
        }
        // What is left is not served by this configuration, so its file leads nowhere.
        for taken in self.addresses.into_iter().chain(self.admin) {
            taken.bound.remove_file();
        }
        if let Some((file, _door)) = self.door {
            file.remove();
        }
        let passage = self.passage;
        std::thread::Builder::new().name("ringway-arrivals".to_owned()).spawn(move || {
            // It closes when its last client has come, or when it has ended.
            while let Ok(Some(packet)) = passage.receive() {
                if packet.kind() == "clients" && tell.send(Event::Arrived(packet.descriptors)).is_err() {
                    return;
                }
            }
        })?;
        Ok(())
    }
}
