//! From a parsed line to whoever answers it: a leaf, several of them, or the program itself.

use super::multi::Piece;
use super::reply_queue::{How, PARTS_MAX, ReplyQueue, part_token};
use super::session::Session;
use super::turn;
use crate::admin::KEY_PREFIX;
use crate::protocol::{Admin, Cause, Class, Keys, Line, Meta, MultiGet, Op, Request};
use crate::route::{Call, Leaf, Root, Route, Sink, Slot};
use std::rc::Rc;

/// What the session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    /// The same, but others have their turn first: it was as much work as many requests.
    GoLater,
    /// So many keys of the get are on their way. The others come when these are answered, and before any other request.
    KeysLeft {
        sent_count: usize,
    },
    /// No more requests; the connection ends when those so far are answered.
    Close,
}

/// Keys of one get that are under way at a time: a piece of it. A get may have a hundred thousand, and a memcached that is asked
/// for so many at once answers nobody else for as long as it looks for them. An ordinary get is one piece, and fails as one.
pub(super) const PIECE_KEYS_COUNT_MAX: usize = 2_048;
/// Those of them that travel alone: each has a place in a server's queue.
const ALONE_COUNT_MAX: usize = 256;
/// So many go together however many requests of others wait.
const ALONE_COUNT_MIN: usize = 32;

/// memcached's answer to a value over its item size.
pub(super) const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

impl Session {
    /// Sends a request, complete with its value, on its way.
    pub(super) fn dispatch(self: &Rc<Self>, line: &Line<'_>) -> Next {
        turn::count_request();
        match line {
            Line::Request(request) | Line::Storage(request, _) => self.request(request),
            Line::MultiGet(request) => return self.multi_get(request, Piece::Whole),
            Line::Admin(admin) => return self.admin(admin),
        }
        Next::Go
    }

    fn request(self: &Rc<Self>, request: &Request<'_>) {
        count(&self.context.counters, request.op, 1);
        let root = self.context.root();
        // the first byte alone tells it of nearly all keys
        if request.key.first() == Some(&b'_')
            && request.key.starts_with(KEY_PREFIX)
            && matches!(request.op, Op::Get | Op::MetaGet)
        {
            return self.admin_key(request, &root);
        }
        let mut how = How::plain(request.op, request.quiet);
        how.value_bytes = u32::try_from(request.value.len()).unwrap_or(u32::MAX);
        if request.op == Op::MetaGet && root.tells_misses() {
            how.miss_line = miss_line(&request.meta);
        }
        let (token, call) = self.begin(1, |queue| queue.push(how));
        root.send(request, &call, self.slot(token));
    }

    /// A place for a request for so many keys, and what travels with it.
    fn begin(self: &Rc<Self>, keys: usize, push: impl FnOnce(&mut ReplyQueue) -> u64) -> (u64, Call) {
        let mut queue = self.queue.borrow_mut();
        let moves = queue.moves(keys);
        (push(&mut queue), Call::of(Rc::clone(self) as Rc<dyn Sink>, self.client, moves))
    }

    /// Each server gets its own keys in one request, as many as may be under way. Keys for which more is to be done than to
    /// choose a server travel alone. `piece`: what of the client's get this is.
    pub(super) fn multi_get(self: &Rc<Self>, request: &MultiGet<'_>, piece: Piece) -> Next {
        let root = self.context.root();
        let Some(pool) = root.only_pool() else { return self.multi_get_apart(request, &root, piece) };
        let keys = request.keys.first(PIECE_KEYS_COUNT_MAX);
        let (next, piece) = after_sending(request, keys.len(), piece);
        count(&self.context.counters, request.op, keys.len() as u64);
        let mut split = self.context.spare_split();
        pool.pick_many(&keys, &mut split.leaves);
        if split.leaves.len() != keys.len() {
            // the pool has no server: none is found in the first place either
            debug_assert!(pool.leaf(0).is_none(), "a key without a server, and a server");
            split.leaves.clear();
            split.leaves.resize(keys.len(), 0);
        }
        let mut multi = self.context.spare_multi();
        multi.split(&keys, &mut split);
        multi.piece = piece;
        debug_assert!(split.parts().len() <= PARTS_MAX, "more servers than a token can tell apart");
        let how = How::plain(request.op, false);
        let (token, mut call) = self.begin(keys.len(), |queue| queue.push_multi(how, multi));
        call.share(split.parts().len());
        for (index, (leaf, ranges)) in split.parts().iter().enumerate() {
            let slot = self.slot(part_token(token, index));
            let keys = Keys { text: request.keys.text, ranges };
            match pool.leaf(*leaf) {
                Some(leaf) => leaf.send_multi(&MultiGet { keys, ..*request }, &call, slot),
                None => slot.fill(&pool.no_server()),
            }
        }
        self.context.give_back_split(split);
        next
    }

    /// As [`Self::multi_get`] where routes are on the way: keys that only have to be placed travel together, all others
    /// alone, each through the tree, and no more of these at a time than the client may have under way.
    fn multi_get_apart(self: &Rc<Self>, request: &MultiGet<'_>, root: &Root, piece: Piece) -> Next {
        let alone_count_max = self.alone_count_max();
        let mut alone_count = 0;
        let mut split = self.context.spare_split();
        let mut targets: Vec<Option<&Rc<dyn Leaf>>> = Vec::new();
        // those of `targets` that are leaves: few, whatever the number of keys
        let mut leaves: Vec<(&Rc<dyn Leaf>, u32)> = Vec::new();
        for key in request.keys.first(PIECE_KEYS_COUNT_MAX).iter() {
            let leaf = root.pool(request.op, key).and_then(|pool| pool.leaf(pool.pick(key)?));
            let leaf = leaf.filter(|leaf| !leaf.is_tree());
            if leaf.is_none() && alone_count == alone_count_max {
                break;
            }
            let known = leaf.and_then(|leaf| leaves.iter().find(|(known, _)| Rc::ptr_eq(known, leaf)));
            let target = known.map_or_else(|| u32::try_from(targets.len()).unwrap_or(u32::MAX), |(_, t)| *t);
            if known.is_none() {
                targets.push(leaf);
                leaves.extend(leaf.map(|leaf| (leaf, target)));
            }
            alone_count += usize::from(leaf.is_none());
            split.leaves.push(target);
        }
        debug_assert!(targets.len() <= PARTS_MAX, "more servers than a token can tell apart");
        let sent_count = split.leaves.len();
        count(&self.context.counters, request.op, sent_count as u64);
        let (next, piece) = after_sending(request, sent_count, piece);
        let mut multi = self.context.spare_multi();
        multi.split(&request.keys, &mut split);
        multi.alone_count = alone_count;
        multi.piece = piece;
        let how = How::plain(request.op, false);
        let (token, mut call) = self.begin(sent_count, |queue| queue.push_multi(how, multi));
        call.share(split.parts().len());
        for (index, (target, ranges)) in split.parts().iter().enumerate() {
            let slot = self.slot(part_token(token, index));
            let keys = Keys { text: request.keys.text, ranges };
            match targets.get(*target).copied().flatten() {
                Some(leaf) => leaf.send_multi(&MultiGet { keys, ..*request }, &call, slot),
                None => {
                    let alone = Request { exptime: request.exptime, ..Request::new(request.op, keys.key(0)) };
                    root.send(&alone, &call, slot);
                }
            }
        }
        self.context.give_back_split(split);
        next
    }

    /// Keys that may travel alone now: at least one.
    fn alone_count_max(&self) -> usize {
        let context = &self.context;
        let under_way_count = self.queue.borrow().requests_count();
        let room_below = |count_max: usize, least| count_max.saturating_sub(under_way_count).max(least);
        let of_its_own = room_below(context.limits().client_outstanding_count_max, 1);
        of_its_own.min(room_below(context.share_count(), ALONE_COUNT_MIN)).min(ALONE_COUNT_MAX)
    }

    /// A value over the bound. memcached drops the old item when a `set` is too large, so that nobody goes on
    /// reading what was meant to be replaced: the server is told to, the client is told why.
    pub(super) fn too_large(self: &Rc<Self>, request: &Request<'_>) {
        self.refuse_value(request, TOO_LARGE);
    }

    pub(super) fn refuse_value(self: &Rc<Self>, request: &Request<'_>, text: &'static str) {
        let context = &self.context;
        context.counters.client_errors.add(1);
        count(&context.counters, request.op, 1);
        let unlinks = matches!(request.op, Op::Set | Op::MetaSet);
        let quiet = request.quiet && !request.op.is_meta();
        if !unlinks {
            if !quiet {
                self.queue.borrow_mut().push_line(context, text);
            }
            return;
        }
        let mut delete = Request::new(Op::Delete, request.key);
        if request.op.is_meta() {
            delete.op = Op::MetaDelete;
            delete.meta = Meta { token: request.meta.token, token_count: 2, ..Meta::EMPTY };
            if request.meta.has(b'b') {
                delete.meta.flags = b"b";
                delete.meta.letters = crate::protocol::letter_bit(b'b');
                delete.meta.token_count = 3;
            }
        }
        let mut how = How::plain(delete.op, quiet);
        how.instead = Some(text);
        let (token, call) = self.begin(1, |queue| queue.push(how));
        context.root().send(&delete, &call, self.slot(token));
    }

    fn admin(self: &Rc<Self>, admin: &Admin<'_>) -> Next {
        let context = &self.context;
        let say = |text: &str| self.queue.borrow_mut().push_line(context, text);
        match admin {
            Admin::Version => say(crate::admin::VERSION_LINE),
            Admin::MetaNoop => say("MN"),
            Admin::Verbosity { quiet: false } => say("OK"),
            Admin::Verbosity { quiet: true } => {}
            Admin::Quit => return Next::Close,
            Admin::Stats(what) => {
                let text = context.admin.stats(what);
                self.queue.borrow_mut().push_bytes(context, &[text.as_bytes()]);
                return Next::GoLater;
            }
            Admin::FlushAll { delay, quiet } => self.flush_all(*delay, *quiet),
        }
        Next::Go
    }

    /// `get __mcrouter__.…`: answered here, to those who may ask.
    #[cold]
    fn admin_key(&self, request: &Request<'_>, root: &Root) {
        let context = &self.context;
        let value = context.admin.value_of(request.key, root, self.is_near);
        let counters = &context.counters;
        if value.is_some() { &counters.get_hits } else { &counters.get_misses }.add(1);
        let mut queue = self.queue.borrow_mut();
        match (value, request.op.is_meta()) {
            (None, true) if request.quiet => {}
            (None, true) => {
                let line = miss_line(&request.meta).unwrap_or_else(|| (*b"EN").into());
                queue.push_bytes(context, &[&line, b"\r\n"]);
            }
            (None, false) => queue.push_line(context, "END"),
            (Some(value), true) => {
                let line = hit_line(&request.meta, value.len());
                let block: &[&[u8]] = if request.meta.has(b'v') { &[value.as_bytes(), b"\r\n"] } else { &[] };
                queue.push_bytes(context, &[&[&line[..]], block].concat());
            }
            (Some(value), false) => {
                let length = format!(" 0 {}\r\n", value.len());
                let parts = [b"VALUE ", request.key, length.as_bytes(), value.as_bytes(), b"\r\nEND\r\n"];
                queue.push_bytes(context, &parts);
            }
        }
    }

    /// To every server of every pool; one answer.
    fn flush_all(self: &Rc<Self>, delay: i32, quiet: bool) {
        let context = &self.context;
        context.counters.cmd_flush.add(1);
        if !context.admin.allows_flush() {
            if !quiet {
                self.queue.borrow_mut().push_line(
                    context,
                    "CLIENT_ERROR flush_all not allowed (set allow_flush: true to pass it to every server)",
                );
            }
            return;
        }
        let root = context.root();
        let servers = root.servers();
        if servers.is_empty() {
            if !quiet {
                self.queue.borrow_mut().push_line(context, Cause::NoServer.line());
            }
            return;
        }
        let token = self.queue.borrow_mut().push_all(servers.len(), quiet);
        for leaf in servers {
            leaf.flush_all(delay, self.slot(token));
        }
    }

    fn slot(self: &Rc<Self>, token: u64) -> Slot {
        Slot::new(Rc::clone(self) as Rc<dyn Sink>, token)
    }
}

/// What comes after so many keys of a get, and which piece of the client's get these are then.
const fn after_sending(request: &MultiGet<'_>, sent_count: usize, piece: Piece) -> (Next, Piece) {
    match sent_count == request.keys.len() {
        true => (Next::Go, piece),
        false => (Next::KeysLeft { sent_count }, Piece::Front),
    }
}

/// `EN` with the echoes that the client asked for, so that it can tell which of its requests missed.
fn miss_line(meta: &Meta<'_>) -> Option<Box<[u8]>> {
    if meta.opaque.is_none() && !meta.has(b'k') {
        return None;
    }
    let mut line = b"EN".to_vec();
    for (letter, token) in meta.iter() {
        match letter {
            b'O' => {
                line.extend_from_slice(b" O");
                line.extend_from_slice(token);
            }
            b'k' => {
                line.extend_from_slice(b" k");
                line.extend_from_slice(meta.token);
            }
            b'b' => line.extend_from_slice(b" b"),
            _ => {}
        }
    }
    Some(line.into())
}

/// The line of a meta hit that ringway itself answers, with what the client asked for.
fn hit_line(meta: &Meta<'_>, length: usize) -> Vec<u8> {
    let mut line = if meta.has(b'v') { format!("VA {length}").into_bytes() } else { b"HD".to_vec() };
    for (letter, token) in meta.iter() {
        let length = length.to_string();
        let told: &[u8] = match letter {
            b'f' | b'c' | b'l' => b"0",
            b't' => b"-1",
            b'h' => b"1",
            b's' => length.as_bytes(),
            b'k' => meta.token,
            b'O' => token,
            b'b' => b"",
            _ => continue,
        };
        line.extend([b' ', letter]);
        line.extend_from_slice(told);
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn count(counters: &crate::stats::Counters, op: Op, keys: u64) {
    match op.class() {
        Class::GetLike => counters.cmd_get.add(keys),
        Class::UpdateLike => counters.cmd_set.add(1),
        Class::DeleteLike => counters.cmd_delete.add(1),
        Class::ArithmeticLike => counters.cmd_incr_decr.add(1),
        Class::Other => {}
    }
    if matches!(op, Op::Touch | Op::Gat | Op::Gats) {
        counters.cmd_touch.add(keys);
    }
    if op.is_meta() {
        counters.cmd_meta.add(1);
    }
}
