//! How much memory one thread takes: the program's own allocator, counting.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Taken and not given back by this thread since [`watch`]; what others took and it gives back counts as less.
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
    static LIVE_BYTES_MAX: Cell<i64> = const { Cell::new(0) };
}

/// Does something; the most that this thread held at a time because of it.
pub(crate) fn watch<T>(work: impl FnOnce() -> T) -> (T, u64) {
    LIVE_BYTES.set(0);
    LIVE_BYTES_MAX.set(0);
    let result = work();
    (result, u64::try_from(LIVE_BYTES_MAX.get()).unwrap_or(0))
}

fn count(bytes: usize, sign: i64) {
    // Never more than isize::MAX bytes, says Layout.
    let change = sign * i64::try_from(bytes).unwrap_or(i64::MAX);
    // A thread that ends frees after its locals are gone; that is nobody's input.
    let _ = LIVE_BYTES.try_with(|live| {
        live.set(live.get() + change);
        if sign > 0 && live.get() > LIVE_BYTES_MAX.get() {
            LIVE_BYTES_MAX.set(live.get());
        }
    });
}

// SAFETY: every call goes to the program's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both exist for a moment.
        count(size, 1);
        count(layout.size(), -1);
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}
