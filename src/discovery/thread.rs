//! The thread `ringway-discovery`: turns of the state machine, questions that are asked, sets that are handed over. Nothing that
//! happens here is on the way of a request.

use super::answer::Answer;
use super::asker::Asker;
use super::core::Core;
use super::own::Own;
use super::set::Followed;
use super::table::{Ask, Told};
use super::{Sets, own};
use crate::config;
use crate::stats::{DiscoveryStats, LogRate};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// How often the system's files are looked at.
const SYSTEM_LOOK: Duration = Duration::from_secs(2);

static TOLD: LogRate = LogRate::new();

/// Follow these from now on.
pub(super) struct Order {
    pub(super) followed: Vec<Followed>,
    pub(super) resolver: config::Resolver,
    pub(super) own: Own,
    /// Is told when something is known of all of them.
    pub(super) known: std::sync::mpsc::Sender<()>,
}

/// Where the thread puts what it finds, and whom it tells.
pub(super) struct Outlet {
    pub(super) sets: Arc<Sets>,
    pub(super) stats: Arc<DiscoveryStats>,
    pub(super) tell: Box<dyn Fn() + Send>,
}

/// Runs until the sender of orders is gone.
pub(super) fn start(outlet: Outlet) -> io::Result<mpsc::UnboundedSender<Order>> {
    let (orders, received) = mpsc::unbounded_channel();
    let runtime = move || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    std::thread::Builder::new().name("ringway-discovery".to_owned()).spawn(move || match runtime() {
        Ok(runtime) => runtime.block_on(follow(outlet, received)),
        Err(error) => tracing::error!("names are not followed: {error}"),
    })?;
    Ok(orders)
}

async fn follow(outlet: Outlet, mut orders: mpsc::UnboundedReceiver<Order>) {
    let Some(first) = orders.recv().await else { return };
    let (asker, search) = Asker::new(first.resolver.clone());
    let core = Core::new(search, RandomState::new().hash_one(0_u8));
    // bounded by the questions that the core has under way
    let (answered, mut answers) = mpsc::unbounded_channel::<(Ask, Answer)>();
    let mut life = Life { outlet, core, asker, waiting: None, looked_at: Instant::now() };
    life.obey(first);
    loop {
        let wake_at = life.turn(&answered);
        // Each arm is cancel-safe: what was not received stays in its channel.
        tokio::select! {
            answer = answers.recv() => {
                let mut next = answer;
                while let Some((ask, answer)) = next {
                    life.learn(&ask, answer);
                    next = answers.try_recv().ok();
                }
            }
            order = orders.recv() => match order {
                Some(order) => life.obey(order),
                None => return,
            },
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
    }
}

struct Life {
    outlet: Outlet,
    core: Core,
    asker: Asker,
    /// Who waits until all is known.
    waiting: Option<std::sync::mpsc::Sender<()>>,
    looked_at: Instant,
}

impl Life {
    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        if let Some(search) = self.asker.renew(Some(order.resolver)) {
            self.core.set_search(search, now);
        }
        self.outlet.stats.follow(order.followed.iter().map(|followed| followed.pool.as_str()));
        self.outlet.sets.follow(&order.followed);
        let own = Rc::new(order.own);
        self.core.follow(order.followed, Rc::new(move |address| own::is_own(&own, address)), now);
        self.waiting = Some(order.known);
    }

    fn learn(&mut self, ask: &Ask, answer: Answer) {
        match self.core.on_answer(ask, answer, Instant::now()) {
            Told::Answered => self.outlet.stats.on_answer(),
            Told::Back { question } => {
                self.outlet.stats.on_answer();
                if TOLD.may_log() {
                    tracing::info!("{}: answered again", question.told());
                }
            }
            Told::Failed { question, why, is_first } => {
                self.outlet.stats.on_failure();
                if is_first && TOLD.may_log() {
                    tracing::warn!("{}: {why}; what was known before holds", question.told());
                }
            }
        }
    }

    /// Does what there is to do; until when there is nothing more.
    fn turn(&mut self, answered: &mpsc::UnboundedSender<(Ask, Answer)>) -> Instant {
        let mut now = Instant::now();
        if now - self.looked_at >= SYSTEM_LOOK {
            self.looked_at = now;
            if let Some(search) = self.asker.renew(None) {
                tracing::info!("resolv.conf or hosts has changed: all names are asked for anew");
                self.core.set_search(search, now);
            }
            now = Instant::now();
        }
        let turn = self.core.turn(now);
        for note in turn.notes {
            if TOLD.may_log() {
                tracing::info!("{note}");
            }
        }
        for ask in turn.asks {
            let answer = self.asker.answer(&ask);
            let answered = answered.clone();
            tokio::task::spawn_local(async move {
                // When nobody receives any more the thread is about to end.
                let _ = answered.send((ask, answer.await));
            });
        }
        let mut is_changed = !turn.changed.is_empty();
        for (pool, servers) in turn.changed {
            self.outlet.sets.set(&pool, servers);
        }
        is_changed |= self.outlet.stats.set_unknown(self.core.unknown());
        if self.core.unknown().next().is_none()
            && let Some(waiting) = self.waiting.take()
        {
            // Who waited may have given up.
            let _ = waiting.send(());
        }
        if is_changed {
            (self.outlet.tell)();
        }
        let look = now + SYSTEM_LOOK;
        turn.wake_at.map_or(look, |at| at.min(look))
    }
}
