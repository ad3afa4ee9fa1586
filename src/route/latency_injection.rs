//! LatencyInjectionRoute: everything takes longer, for trying out what happens then.
//!
//! All operations: `before_latency_ms` pass before the child is asked and `after_latency_ms` after it has answered; with
//! `total_latency_ms` the answer is held back until so much has passed in all.

use super::gather::{Answers, answer_later};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::{OwnedRequest, Request};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) const KIND: Kind = Kind {
    name: "LatencyInjectionRoute",
    short: "latency_injection",
    bare: "child",
    keys: &[
        Key { name: "child", what: "where requests go" },
        Key { name: "before_latency_ms", what: "the time before the child is asked, 0 to 60000" },
        Key { name: "after_latency_ms", what: "the time after it has answered" },
        Key { name: "total_latency_ms", what: "the least time in all" },
    ],
    build,
};

/// Longer is a mistake.
const LATENCY_MS_MAX: usize = 60_000;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let child = params.child("child");
    let time = |key| {
        let count = params.count(key, 0..=LATENCY_MS_MAX);
        (count.is_some() || !params.has(key)).then(|| Duration::from_millis(count.unwrap_or(0) as u64))
    };
    let (before, after) = (time("before_latency_ms"), time("after_latency_ms"));
    let total = time("total_latency_ms");
    Some(Rc::new(LatencyInjection { child: child?, before: before?, after: after?, total: total? }))
}

struct LatencyInjection {
    child: Rc<dyn Route>,
    before: Duration,
    after: Duration,
    total: Duration,
}

impl Route for LatencyInjection {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let began = Instant::now();
        let (before, after, until) = (self.before, self.after, began + self.total);
        if before.is_zero() {
            let answer = Answers::of(&*self.child, request, call);
            return answer_later(slot, async move {
                let reply = answer.only().await;
                sleep(after).await;
                sleep_until(until).await;
                reply
            });
        }
        let (child, request, call) = (Rc::clone(&self.child), OwnedRequest::new(request), call.clone());
        answer_later(slot, async move {
            sleep(before).await;
            let reply = Answers::of(&*child, &request.as_request(), &call).only().await;
            sleep(after).await;
            sleep_until(until).await;
            reply
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let (before, after, total) = (self.before, self.after, self.total);
        let label =
            format!("latency_injection: {before:?} before, {after:?} after, {total:?} in all at least");
        Explained::new(label).with(When::Now, self.child.explain(request))
    }
}
