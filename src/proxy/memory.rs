//! Memory goes back to the system: soon when clients come and go, and after a burst also when nothing happens any more.
//! It does so in pages of the smallest size, unless ringway keeps the values itself.

use crate::client;
use crate::net::Budget;
use crate::raw;
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

/// Between two looks at whether there is something to give back. Often enough for a memory limit of a container, and
/// seldom enough that the millisecond which it takes does not count.
const PAUSE: Duration = Duration::from_secs(1);
/// Less is soon used again.
const FALL_BYTES_MIN: usize = 1 << 20;
/// So many clients that have left leave half a megabyte in small pieces.
const LEFT_CLIENTS_MIN: u64 = 256;

/// What is freed is used again at once or not soon. mimalloc's own second is enough for buffers that double, of a hundred
/// clients who read nothing, to leave as much again that nobody counts; a thousandth of it costs nothing (benches/README.md).
const FREED_KEPT: Duration = Duration::from_millis(1);

/// For the whole process, as early as can be: a huge page that is there stays. A configuration may want them later.
pub fn keep_little_memory() {
    raw::keep_freed_memory_for(FREED_KEPT);
    use_huge_pages(false);
}

/// Whether the kernel may use transparent huge pages, for which mimalloc asks. Then a small piece that somebody still has
/// keeps 2 MiB, and what was given back around it is filled in again some seconds later (khugepaged): 24 MB are resident at
/// rest, not 17, and 33 to 36 after thousands of clients, not 20. A proxy is not faster for it, but a large cache is, by a
/// seventh (benches/README.md). Three such pages that the allocator takes before `main` stay.
pub(super) fn use_huge_pages(are_wanted: bool) {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!are_wanted) {
        debug!(%error, "huge pages stay as they are: more memory than needed may be resident");
    }
}

/// Gives memory back until the task is ended.
pub(super) async fn give_back(context: Rc<client::Context>, budget: Rc<Budget>) {
    let mut gone_count = context.gone_count();
    loop {
        // Nothing is lost with whoever of the two is dropped.
        let is_due = tokio::time::timeout(PAUSE, context.much_is_dropped()).await.is_ok();
        let gone = context.gone_count();
        let fall = budget.held_bytes() + FALL_BYTES_MIN <= budget.highest_bytes();
        if is_due || fall || gone - gone_count >= LEFT_CLIENTS_MIN {
            raw::give_memory_back();
            budget.forget_highest();
            gone_count = gone;
        }
    }
}
