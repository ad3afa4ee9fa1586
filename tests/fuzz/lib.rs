//! The targets of `tests/prove/fuzz`, for libFuzzer.

#[path = "../prove/fuzz/conversation.rs"]
#[allow(dead_code, reason = "shared with tests/prove")]
mod conversation;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared with tests/prove")]
mod random;
#[path = "../support/room.rs"]
#[allow(dead_code, reason = "shared with tests/prove")]
mod room;
#[path = "../prove/fuzz/targets.rs"]
#[allow(dead_code, reason = "shared with tests/prove")]
mod targets;

mod support {
    pub(crate) use crate::random::Random;
    pub(crate) use crate::room;
}

/// Tries one input. A panic in a task, which the runtime would catch, ends the process too.
pub fn run(name: &str, input: &[u8]) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            usual(info);
            std::process::abort();
        }));
    });
    let target = targets::TARGETS.iter().find(|t| t.name == name).expect("a target of this name");
    (target.run)(input);
}
