//! The small loops that are measured twice: as time by criterion, as instructions under callgrind (`scripts/icount`).
//! One table, so that both mean the same by a name.

#![allow(dead_code, reason = "each bench uses its own part of the table")]

pub(crate) mod parse;
pub(crate) mod route;
pub(crate) mod session;

/// One thing to do over and over.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Bytes that one operation looks at; 0 where that says nothing.
    pub(crate) bytes: usize,
    /// Operations that one call does.
    pub(crate) batch: usize,
    pub(crate) call: Box<dyn FnMut()>,
}

impl Case {
    fn new(name: &'static str, bytes: usize, call: impl FnMut() + 'static) -> Self {
        Self { name, bytes, batch: 1, call: Box::new(call) }
    }
}

/// The cases of one group; built when they are run, for some of them start a server.
type Group = (&'static str, fn() -> Vec<Case>);

pub(crate) const GROUPS: [Group; 3] =
    [("parse", parse::cases), ("route", route::cases), ("session", session::cases)];

/// 30 bytes each, a common length, and never two that hash alike.
pub(crate) fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("user:{:09}:profile:v2:abcde", i * 7_919).into_bytes()).collect()
}
