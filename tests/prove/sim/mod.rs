//! Simulation: sessions, routes and connections under a clock and a net that the test moves.
//!
//! Each seed is a world of its own: bounds from 1 up, a few servers, a few clients. In each step somebody sends or takes
//! some bytes, the clock moves, or (in one of ten) something breaks; then the program runs until it has nothing left to
//! do, and what must always hold is looked at. In the end the faults stop, and every queue has to drain with no further
//! request and with the clock standing still.

mod client;
mod server;

use crate::hostile_clients::arena::{DIRECT, ROUTED};
use crate::plan::{Outcome, Plan};
use crate::support::Random;
use crate::support::room::{self, Room};
use client::{Client, Clock, SLACK, Seen, Told};
use ringway::config::{Config, Endpoint, OnError};
use ringway::upstream::Dial;
use server::{Server, Servers};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::{Duration, advance};

const STEPS: usize = 5_000;
/// Rounds in which a healthy world must come to rest.
const ROUNDS_MAX: usize = 100_000;

/// So many worlds.
pub(crate) fn run(plan: &Plan) -> Outcome {
    plan.each("world", 1, |seed| room::run(live(seed)))
}

/// One world from its beginning to its end.
async fn live(seed: u64) -> Outcome {
    let mut world = World::new(Random::new(seed));
    let mut outcome = Outcome::default();
    let ended = async {
        for _ in 0..STEPS {
            world.step().await?;
            world.hold()?;
        }
        world.rest().await
    };
    let ended: Result<(), Wrong> = ended.await;
    outcome.checked = STEPS as u64;
    outcome.faults = world.faults;
    outcome.add("answers", world.answers());
    outcome.add("timeouts", world.room.counters.server_timeouts.value());
    outcome.add("desyncs", world.room.counters.desync_detected.value());
    match ended {
        Ok(()) => {}
        Err(Wrong::Answer(text)) => outcome.report_wrong(format_args!("{text}\n  {}", world.terms)),
        Err(Wrong::Lost(text)) => outcome.report_lost(format_args!("{text}\n  {}", world.terms)),
    }
    outcome
}

enum Wrong {
    Answer(String),
    Lost(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Answer(text)
    }
}

struct World {
    random: Random,
    room: Room,
    servers: Rc<RefCell<Servers>>,
    clients: Vec<Client>,
    clients_count_max: usize,
    client_pipe_bytes: usize,
    next_client: u64,
    timeout: Duration,
    clock: Clock,
    /// Its bounds, for the report.
    terms: String,
    told: Told,
    faults: u64,
    /// Clients that the program closed for its own reasons.
    closed: u64,
    /// Answers to clients that are gone.
    answered: u64,
}

impl World {
    fn new(mut random: Random) -> Self {
        let servers = 1 + random.below(4);
        let is_routed = random.one_in(3);
        let mut config = config_of(servers, if is_routed { ROUTED } else { DIRECT });
        let limits = &mut config.settings.limits;
        limits.clients_count_max = number(&mut random, &[1, 3, 1_000]);
        limits.client_outstanding_count_max = number(&mut random, &[1, 1, 2, 5, 1_024]);
        limits.client_reply_bytes_max = number(&mut random, &[1, 100, 5_000, 4 << 20]);
        limits.value_bytes_max = number(&mut random, &[50, 1_000, 1 << 20]);
        limits.buffer_bytes_max =
            number(&mut random, &[1, 1_000, 20_000, 200_000, 4 << 20, 64 << 20, 512 << 20]);
        limits.late_count_max = number(&mut random, &[1, 2, 10, 1_000]);
        limits.bulk_bytes_max = number(&mut random, &[1, 70_000, 200_000, 512 << 10]);
        let pool = &mut config.pools[0];
        pool.connections_count = 1 + random.below(2);
        pool.outstanding_count_max = number(&mut random, &[1, 2, 10, 10_000]);
        pool.timeout = Duration::from_millis([3, 50, 1_000][random.below(3)]);
        pool.connect_timeout = pool.timeout / (1 + u32::try_from(random.below(3)).unwrap());
        pool.on_error = if random.one_in(3) { OnError::Miss } else { OnError::Error };
        let held = Rc::new(RefCell::new(Servers {
            pipe_bytes: number(&mut random, &[1, 10, 1_000, 64 * 1024, 64 * 1024]),
            ..Servers::default()
        }));
        for _ in 0..servers {
            let is_old = random.one_in(4);
            held.borrow_mut().list.push(Server::new(is_old));
        }
        let dialled = Rc::clone(&held);
        let dial = Dial::Memory(Rc::new(move |endpoint| {
            let Endpoint::Address(address) = endpoint else { panic!("only addresses are configured") };
            dialled.borrow_mut().dial(usize::from(address.port()) - 1)
        }));
        let pool = &config.pools[0];
        let miss_on_error = pool.on_error == OnError::Miss;
        Self {
            terms: format!("{:?} {pool:?}, routed: {is_routed}", config.settings.limits),
            room: Room::routed(&config, dial),
            told: Told { miss_on_error, is_routed },
            servers: held,
            clients: Vec::new(),
            clients_count_max: 1 + random.below(8),
            client_pipe_bytes: number(&mut random, &[1, 10, 1_000, 64 * 1024, 64 * 1024]),
            next_client: 0,
            timeout: pool.timeout,
            clock: Clock::default(),
            faults: 0,
            closed: 0,
            answered: 0,
            random,
        }
    }

    /// Somebody does something, and the program runs until it waits.
    async fn step(&mut self) -> Result<(), Wrong> {
        match self.random.below(20) {
            0..2 => {
                self.faults += 1;
                self.fault().await;
            }
            2..10 => self.ask(),
            10..19 => self.serve(),
            _ => {
                let share = [1_000, 100, 4, 1][self.random.below(4)];
                self.advance(self.timeout / share).await;
            }
        }
        self.room.settle().await;
        for index in (0..self.clients.len()).rev() {
            let some = self.random.below(2_000);
            let some = if self.clients[index].is_slow { some } else { usize::MAX };
            if !self.clients[index].is_slow || self.random.one_in(10) {
                self.take(index, some).await?;
            }
        }
        Ok(())
    }

    async fn advance(&self, time: Duration) {
        self.clock.set(self.clock.get() + time.min(self.timeout + SLACK));
        advance(time).await;
    }

    /// A client, perhaps a new one, sends something.
    fn ask(&mut self) {
        if self.clients.len() < self.clients_count_max && self.random.one_in(4) || self.clients.is_empty() {
            let pipe = self.room.connect(self.client_pipe_bytes);
            let clock = Rc::clone(&self.clock);
            self.clients.push(Client::new(self.next_client, pipe, self.told, clock));
            self.next_client += 1;
        }
        let index = self.random.below(self.clients.len());
        let client = &mut self.clients[index];
        if client.is_finished {
            return;
        }
        if !client.has_unsent() && client.expected.len() < 50 {
            for _ in 0..=self.random.below(6) {
                client.ask(&mut self.random);
            }
        }
        let some = if self.random.one_in(2) { usize::MAX } else { self.random.below(100) };
        client.send(some);
    }

    /// A server reads and answers.
    fn serve(&mut self) {
        let mut servers = self.servers.borrow_mut();
        if !servers.connections.is_empty() {
            let index = self.random.below(servers.connections.len());
            let some = if self.random.one_in(4) { self.random.below(100) } else { usize::MAX };
            servers.pump(index, some, &mut self.random);
        }
    }

    async fn fault(&mut self) {
        match self.random.below(12) {
            // A client vanishes, at any moment of its requests.
            0 if !self.clients.is_empty() => {
                let gone = self.clients.swap_remove(self.random.below(self.clients.len()));
                self.answered += gone.answered;
            }
            1 if !self.clients.is_empty() => {
                let client = self.random.below(self.clients.len());
                self.clients[client].is_slow ^= true;
            }
            // One says that it will send no more; what it has sent is still answered.
            2 if !self.clients.is_empty() => {
                let client = self.random.below(self.clients.len());
                let client = &mut self.clients[client];
                client.expected.retain(|e| e.is_sent());
                client.is_finished = true;
                client.pipe.finish();
            }
            3 => self.advance(self.timeout * 5).await,
            4 => self.advance(Duration::from_secs(3_600)).await,
            kind => self.break_server(kind),
        }
    }

    fn break_server(&mut self, kind: usize) {
        let mut servers = self.servers.borrow_mut();
        let server = self.random.below(servers.list.len());
        if kind == 5 {
            servers.list[server].refuses ^= true;
        } else if kind == 6 {
            servers.list[server].is_stranger ^= true;
        } else if kind == 7 {
            servers.connections.retain(|c| c.server() != server);
        } else if !servers.connections.is_empty() {
            let index = self.random.below(servers.connections.len());
            match kind {
                8 => drop(servers.connections.swap_remove(index)),
                9 => servers.connections[index].lies = true,
                10 => servers.interject(index),
                _ => {
                    let share = u32::try_from(1 + self.random.below(8)).unwrap();
                    servers.connections[index].stall(self.timeout * share / 2);
                }
            }
        }
    }

    /// A client takes what there is for it, as long as that makes room for more. True: it took something.
    async fn take(&mut self, index: usize, bytes_max: usize) -> Result<bool, Wrong> {
        let mut took = false;
        loop {
            let client = &mut self.clients[index];
            let seen = client.receive(bytes_max).map_err(|e| format!("client {}: {e}", client.name))?;
            match seen {
                Seen::Nothing => return Ok(took),
                Seen::Something => took = true,
                Seen::Closed => {
                    let gone = self.clients.swap_remove(index);
                    self.answered += gone.answered;
                    if !gone.is_finished {
                        self.closed += 1;
                    } else if gone.is_owed() && self.closed >= self.closed_for_cause() {
                        let text =
                            format!("client {} was closed and is owed {}", gone.name, gone.first_owed());
                        return Err(Wrong::Lost(text));
                    }
                    return Ok(true);
                }
            }
            if bytes_max < usize::MAX {
                return Ok(took);
            }
            self.room.settle().await;
        }
    }

    /// Clients that the program may have closed.
    fn closed_for_cause(&self) -> u64 {
        let counters = &self.room.counters;
        counters.slow_clients_closed.value() + counters.rejected_connections.value()
    }

    /// What must hold at every moment.
    fn hold(&self) -> Result<(), Wrong> {
        for client in &self.clients {
            if let Some(late) = client.is_overdue(self.timeout) {
                let text =
                    format!("client {} waits {late:?} too long for {}", client.name, client.first_owed());
                return Err(Wrong::Lost(text));
            }
        }
        let counters = &self.room.counters;
        if counters.desync_detected.value() > self.servers.borrow().poisoned {
            return Err(Wrong::Answer("a reply in its place was taken for one that is not".into()));
        }
        if self.closed > self.closed_for_cause() {
            return Err(Wrong::Lost("a client was closed and nobody knows why".into()));
        }
        if self.servers.borrow_mut().is_believed() {
            return Err(Wrong::Answer("a server that lied is still listened to".into()));
        }
        for (name, gauge) in [
            ("curr_connections", &counters.curr_connections),
            ("server_connections", &counters.server_connections),
            ("server_outstanding", &counters.server_outstanding),
            ("buffer_bytes", &counters.buffer_bytes),
        ] {
            if gauge.value() > u64::MAX / 2 {
                return Err(Wrong::Answer(format!("{name} fell below 0")));
            }
        }
        Ok(())
    }

    /// The faults stop: everything that is owed is answered, and nothing stays behind.
    async fn rest(&mut self) -> Result<(), Wrong> {
        self.servers.borrow_mut().heal();
        for client in &mut self.clients {
            client.is_slow = false;
        }
        let (mut rounds, mut idle_rounds) = (0, 0);
        loop {
            let mut progress = false;
            for index in (0..self.clients.len()).rev() {
                progress |= self.take(index, usize::MAX).await?;
            }
            let mut index = 0;
            while index < self.servers.borrow().connections.len() {
                let moved = self.servers.borrow_mut().pump(index, usize::MAX, &mut self.random);
                progress |= moved != Some(0);
                index += usize::from(moved.is_some());
            }
            self.room.settle().await;
            idle_rounds = if progress { 0 } else { idle_rounds + 1 };
            if idle_rounds > 2 {
                break;
            }
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(Wrong::Lost("a healthy world does not come to rest".into()));
            }
        }
        self.hold()?;
        if let Some(client) = self.clients.iter().find(|c| c.owed_since().is_some()) {
            let text = format!(
                "everything is healthy, and client {} waits for {}",
                client.name,
                client.first_owed()
            );
            return Err(Wrong::Lost(text));
        }
        self.answered += self.clients.drain(..).map(|c| c.answered).sum::<u64>();
        self.room.settle().await;
        self.is_balanced()
    }

    /// All clients are gone and all servers have answered.
    fn is_balanced(&self) -> Result<(), Wrong> {
        let counters = &self.room.counters;
        let connections = counters.server_connects.value() - counters.server_closed.value();
        for (name, left) in [
            ("curr_connections", counters.curr_connections.value()),
            ("sessions", self.room.context.sessions_count() as u64),
            ("places for clients", self.room.clients.load(Relaxed) as u64),
            ("buffer_bytes", counters.buffer_bytes.value()),
            ("server_outstanding", counters.server_outstanding.value()),
            ("bytes in buffers", self.room.budget.held_bytes() as u64),
            ("server_connections", counters.server_connections.value().abs_diff(connections)),
        ] {
            if left != 0 {
                return Err(Wrong::Lost(format!("nobody is there, and {left} of {name} are left")));
            }
        }
        Ok(())
    }

    fn answers(&self) -> u64 {
        self.answered + self.clients.iter().map(|c| c.answered).sum::<u64>()
    }
}

/// One of them.
fn number(random: &mut Random, choice: &[usize]) -> usize {
    choice[random.below(choice.len())]
}

/// A pool of servers that are told apart by their ports, behind this route.
fn config_of(servers: usize, route: &str) -> Config {
    let list: Vec<String> = (1..=servers).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let text = format!("pools: {{main: {{servers: [{}]}}}}\nroute: {route}\n", list.join(", "));
    let (config, _) = ringway::config::from_text("sim", &text, ringway::route::check).expect("a good config");
    config
}

/// The only value that this version of the key may have: it names both, and is now and then a large one.
fn value_of(key: &[u8], version: u64) -> Vec<u8> {
    let mut value = [key, format!("#{version}#").as_bytes()].concat();
    let mut random = Random::new(version);
    let length = match random.below(200) {
        0 => 64 * 1024 + random.below(20_000), // moves much
        1..5 => 16_000 + random.below(20_000),
        5..20 => 1_000 + random.below(3_000),
        _ => random.below(40),
    };
    value.resize(value.len() + length, b'x');
    value
}

/// Whether this is a value of the key, and which.
fn version_of(key: &[u8], value: &[u8]) -> Option<u64> {
    let rest = value.strip_prefix(key)?.strip_prefix(b"#")?;
    let digits = rest.split(|b| *b == b'#').next()?;
    let version = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value_of(key, version) == value).then_some(version)
}
