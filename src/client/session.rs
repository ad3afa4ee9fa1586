//! One client: read, parse, dispatch, reply, until it leaves or is told to.
//!
//! The session's task is woken by its socket and by its replies; a poll writes what is answered, takes
//! requests apart as far as the client's bounds allow (`input.rs`), and reads on. All state is in [`Session`] and
//! [`Input`], none in a future that could be dropped half-way.

use super::context::{Context, SHARE_COUNT_MIN};
use super::input::Input;
use super::reply_queue::{NEW_REPLY_BYTES, Progress, ReplyQueue};
use super::sweep::{PROGRESS_BYTES, Stage, Watch};
use super::turn;
use crate::net::{Stream, poll_write_all};
use crate::protocol::{Reply, Values};
use crate::route::{Client, Sink};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context as Cx, Poll, Waker};

/// What a client's replies find their way back to.
pub(super) struct Session {
    pub(super) context: Rc<Context>,
    pub(super) queue: RefCell<ReplyQueue>,
    /// The client is on this machine.
    pub(super) is_near: bool,
    pub(super) client: Option<Client>,
    /// To put itself on the list of partially answered ones.
    this: Weak<Self>,
    waker: RefCell<Option<Waker>>,
    /// Woken, and not polled since.
    awake: Cell<bool>,
    /// Nothing is read before replies have left, or come: even those that say nothing wake the task.
    waits_for_replies: Cell<bool>,
    /// It waits for another turn.
    is_in_line: Cell<bool>,
    /// On the list of partially answered ones.
    partial: Cell<bool>,
    /// When it was last counted among the active clients.
    pub(super) seen_in: Cell<u32>,
    /// The task has ended; replies are thrown away.
    gone: Cell<bool>,
    /// The client has to go: it stands still, or holds more than its share while memory is short.
    condemned: Cell<bool>,
    leave: Cell<Leave>,
    /// It was told to leave and did so between two requests: all that it has sent and is not answered lies in its socket.
    has_left: Cell<bool>,
    /// A request has begun to come.
    within_request: Cell<bool>,
    /// The socket did not take all of the replies when it was last written to.
    is_stuck: Cell<bool>,
    /// What the byte budget knows of the session's input.
    pub(super) input_held: Cell<usize>,
    /// Grows by the bytes that move, and by [`PROGRESS_BYTES`] when something comes to its end.
    pub(super) progress: Cell<u64>,
    pub(super) watch: Cell<Watch>,
}

/// Whether the client is wanted no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leave {
    #[default]
    No,
    /// It goes when all is answered that it has asked, what is still in the socket included: a client that asks one thing
    /// after the other is not cut off from an answer.
    WhenQuiet,
    /// Nothing more is read from it once it is between two requests.
    BetweenRequests,
}

/// Serves one client until it is gone.
pub(super) async fn serve(context: Rc<Context>, mut stream: Stream) {
    let session = Rc::new_cyclic(|this| Session {
        context: Rc::clone(&context),
        queue: RefCell::new(ReplyQueue::expecting(context.new_reply_bytes())),
        is_near: stream.is_near(),
        client: stream.peer_ip().map(|ip| Client::of_ip(&ip.to_string())),
        this: Weak::clone(this),
        waker: RefCell::new(None),
        awake: Cell::new(false),
        waits_for_replies: Cell::new(false),
        is_in_line: Cell::new(false),
        partial: Cell::new(false),
        seen_in: Cell::new(0),
        gone: Cell::new(false),
        condemned: Cell::new(false),
        leave: Cell::default(),
        has_left: Cell::new(false),
        within_request: Cell::new(false),
        is_stuck: Cell::new(false),
        input_held: Cell::new(0),
        progress: Cell::new(0),
        watch: Cell::default(),
    });
    let id = context.register(&session);
    let mut input = Input::default();
    poll_fn(|cx| session.poll(&mut stream, &mut input, cx)).await;
    session.gone.set(true);
    session.queue.borrow_mut().abandon(&context);
    context.budget.change(session.input_held.get(), 0);
    context.unregister(id);
    if session.has_left.get() && !session.is_condemned() {
        context.on_left(stream);
    }
}

impl Session {
    fn poll(self: &Rc<Self>, stream: &mut Stream, input: &mut Input, cx: &mut Cx<'_>) -> Poll<()> {
        let result = self.poll_all(stream, input, cx);
        self.within_request.set(!input.is_between_requests());
        result
    }

    /// Writes, takes apart and reads as long as something moves, and until others shall have their turn.
    fn poll_all(self: &Rc<Self>, stream: &mut Stream, input: &mut Input, cx: &mut Cx<'_>) -> Poll<()> {
        turn::wake_overdue();
        self.set_waker(cx);
        // one that waits for its turn is woken by its socket too
        if !self.is_in_line.get() {
            input.begin_turn();
        }
        loop {
            // First: what is in the queue of one who has to go comes after answers that were thrown away.
            if self.condemned.get() || self.poll_write(stream, cx).is_err() {
                return Poll::Ready(());
            }
            let leave = self.leave.get();
            if leave == Leave::BetweenRequests {
                self.leave_if_whole(input);
            }
            let (idle, blocked) = {
                let queue = self.queue.borrow();
                (queue.is_empty() && queue.out.is_empty(), self.is_full(&queue))
            };
            self.waits_for_replies.set(input.closing || blocked || leave != Leave::No);
            if input.closing {
                return if idle { Poll::Ready(()) } else { Poll::Pending };
            }
            if blocked {
                return Poll::Pending; // woken when replies leave
            }
            if input.has_had_its_turn() {
                self.awake.set(true);
                if !self.is_in_line.replace(true) {
                    turn::add_later(Rc::clone(self));
                }
                return Poll::Pending;
            }
            if input.has_work() {
                input.on_rest(self);
                input.account(self);
                continue;
            }
            match input.poll_read(self, stream, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => input.closing = true,
                Poll::Pending => {
                    // as long as it waits for an answer it may ask more, and has to be answered that as well
                    let may_leave = leave == Leave::BetweenRequests || (leave == Leave::WhenQuiet && idle);
                    if !may_leave || !self.leave_if_whole(input) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Takes no more requests, unless one is half read.
    fn leave_if_whole(&self, input: &mut Input) -> bool {
        if !input.closing && input.is_between_requests() {
            input.closing = true;
            self.has_left.set(true);
        }
        input.closing
    }

    /// The client's bounds are reached: it is not read until replies have left.
    pub(super) fn is_full(&self, queue: &ReplyQueue) -> bool {
        /// What one client may have under way while all together have much: one large reply, or many small ones.
        const SHARE_BYTES: usize = NEW_REPLY_BYTES;
        let limits = self.context.limits();
        let count = queue.requests_count();
        count >= limits.client_outstanding_count_max
            || (count >= SHARE_COUNT_MIN && count >= self.context.share_count())
            || queue.is_within_get()
            || queue.reply_bytes() >= limits.client_reply_bytes_max
            || (!queue.is_empty() && {
                let expected = queue.expected_bytes();
                expected >= limits.client_reply_bytes_max
                    || (expected >= SHARE_BYTES && self.context.much_is_under_way())
            })
    }

    fn poll_write(&self, stream: &mut Stream, cx: &mut Cx<'_>) -> Result<(), ()> {
        let mut queue = self.queue.borrow_mut();
        let before = queue.out.len();
        if before == 0 {
            return Ok(());
        }
        let result = poll_write_all(stream, cx, &mut queue.out);
        let written = before - queue.out.len();
        self.context.counters.bytes_written.add(written as u64);
        queue.on_written(&self.context, written);
        self.move_on(written as u64);
        if queue.out.is_empty() {
            self.move_on(PROGRESS_BYTES);
        }
        self.is_stuck.set(result.is_pending());
        match result {
            Poll::Ready(Err(_)) => Err(()),
            _ => Ok(()),
        }
    }

    /// After more has come to be held: when memory is short, the clients that hold the most have to go, be it others or
    /// this one.
    pub(super) fn make_room(&self) {
        // When there is no room nevertheless, it is not clients who fill it: servers take no more requests then.
        let _ = self.context.budget.make_room();
    }

    pub(super) fn move_on(&self, count: u64) {
        self.progress.set(self.progress.get().wrapping_add(count));
    }

    /// What the client is at.
    pub(super) fn stage(&self) -> Stage {
        let queue = self.queue.borrow();
        if !queue.out.is_empty() {
            Stage::Unread
        } else if !queue.is_empty() {
            Stage::Waits
        } else if self.within_request.get() {
            Stage::Request
        } else {
            Stage::Idle
        }
    }

    /// What the byte budget knows of, and whether it is the client itself that keeps it there. `None`: not now, the
    /// session is at work.
    pub(super) fn held_bytes(&self) -> Option<(bool, usize)> {
        let replies = self.queue.try_borrow().ok()?.accounted();
        let of_input = self.input_held.get();
        Some((self.is_stuck.get() || of_input > replies, replies + of_input))
    }

    pub(super) fn leave(&self, how: Leave) {
        if self.leave.replace(how) != how {
            self.wake();
        }
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.get()
    }

    /// The client has to go: what it holds is freed at once.
    pub(super) fn condemn(&self) {
        if !self.condemned.replace(true) {
            self.gone.set(true);
            self.queue.borrow_mut().abandon(&self.context);
            // Freed when the session's task ends, which it does before this turn is over.
            self.context.budget.change(self.input_held.take(), 0);
            self.wake_task(); // even where it waits for its turn
        }
    }

    pub(super) fn end_batch(&self) {
        self.queue.borrow_mut().end_batch();
    }

    fn set_waker(&self, cx: &Cx<'_>) {
        self.awake.set(false);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if !self.awake.replace(true) {
            self.wake_task();
        }
    }

    /// Its turn has come.
    pub(super) fn wake_for_turn(&self) {
        self.is_in_line.set(false);
        self.wake_task();
    }

    fn wake_task(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The rest of its batch is not waited for any longer.
    pub(super) fn wake_partial(&self) {
        self.partial.set(false);
        self.wake();
    }

    fn on_progress(&self, progress: Progress) {
        match progress {
            Progress::None => {}
            Progress::Silent => {
                if self.waits_for_replies.get() {
                    self.wake();
                }
            }
            Progress::Batch => self.wake(),
            Progress::Partial => {
                if !self.awake.get()
                    && !self.partial.replace(true)
                    && let Some(this) = self.this.upgrade()
                {
                    turn::add_partial(this);
                }
            }
        }
    }
}

impl Sink for Session {
    fn hit(&self, token: u64, index: usize, reply: &Reply<'_>) {
        if self.gone.get() {
            return;
        }
        self.queue.borrow_mut().hit(&self.context, token, index, reply);
        self.make_room();
    }

    fn hits(&self, token: u64, values: &Values<'_>) {
        if self.gone.get() {
            return;
        }
        self.queue.borrow_mut().hits(&self.context, token, values);
        self.make_room();
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        if self.gone.get() {
            return;
        }
        let progress = self.queue.borrow_mut().fill(&self.context, token, reply);
        self.on_progress(progress);
        self.make_room();
    }

    fn is_waiting(&self) -> bool {
        !self.gone.get()
    }

    fn hold(&self, before: usize, now: usize) {
        self.context.on_held_by_routes(before, now);
    }

    fn has_room(&self) -> bool {
        !self.context.budget.is_over()
    }
}
