//! What a thread waits for: its sockets, and at a fixed rate a clock.
//!
//! Plain epoll and not mio: mio rounds a wait up to whole milliseconds, so the clock would be needed beside it anyway.

use super::socket::Socket;
use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What a socket is watched for. Only news are reported (edges): the kernel need not look at each socket twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Readable,
    ReadableOrWritable,
}

impl Watch {
    const fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Readable => epoll::EventFlags::IN.union(epoll::EventFlags::ET),
            Self::ReadableOrWritable => Self::Readable.flags().union(epoll::EventFlags::OUT),
        }
    }
}

/// The kernel's list of what this thread waits for.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// Wakes the thread at an interval.
    timer: Option<OwnedFd>,
}

/// What the last wait brought. Apart from the [`Poller`], which may change threads.
pub(super) struct Events(Vec<epoll::Event>);

/// The timer's number among those of the sockets.
const TIMER: u64 = u64::MAX;
/// Events taken at a time; more wait in the kernel.
const EVENTS_COUNT_MAX: usize = 1_024;
/// The longest wait: so often is looked whether the run shall stop.
const WAIT_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, timer: None })
    }

    /// Wakes up at least this often from now on.
    pub(super) fn tick(&mut self, interval: Duration) -> io::Result<()> {
        let interval = Timespec::try_from(interval).map_err(io::Error::other)?;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let times = Itimerspec { it_interval: interval, it_value: interval };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        epoll::add(&self.epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        self.timer = Some(timer);
        Ok(())
    }

    pub(super) fn add(&self, socket: &Socket, index: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(index as u64), Watch::Readable.flags())?)
    }

    pub(super) fn watch(&self, socket: &Socket, index: usize, watch: Watch) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(index as u64), watch.flags())?)
    }

    /// Sets the clock going again: the kernel waits for this before it counts the next interval.
    pub(super) fn on_tick(&self) -> io::Result<()> {
        let mut expirations = [0; 8];
        match self.timer.as_ref().map(|timer| rustix::io::read(timer, &mut expirations)) {
            None | Some(Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Waits until something happens; how many events there are.
    pub(super) fn wait(&self, events: &mut Events) -> io::Result<usize> {
        events.0.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events.0), Some(&WAIT_MAX)) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The clock: call [`Poller::on_tick`].
    Tick,
    /// A connection can go on.
    Socket { index: usize, readable: bool, writable: bool },
}

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_COUNT_MAX))
    }

    /// The `at`-th event of the last wait.
    pub(super) fn get(&self, at: usize) -> Option<Event> {
        let event = self.0.get(at)?;
        let (data, flags) = (event.data, event.flags);
        if data.u64() == TIMER {
            return Some(Event::Tick);
        }
        // An error or a hang-up is learnt by reading.
        let readable =
            flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        let index = usize::try_from(data.u64()).ok()?;
        Some(Event::Socket { index, readable, writable: flags.contains(epoll::EventFlags::OUT) })
    }
}
