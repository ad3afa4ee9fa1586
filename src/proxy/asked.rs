//! Who asks for a reload through the admin port: however many ask, the main thread hears of it once, and one reload answers
//! them all.

use crate::admin::Reloaded;
use crate::sync::Lock;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where one of them is told.
type Answer = oneshot::Sender<Reloaded>;

/// Those who wait at one admin port.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Invariant: when there are any, an [`Asked`] is on its way. Those who have given up go when the next one comes, so there
    /// are no more than the port has connections.
    waiting: Arc<Lock<Vec<Answer>>>,
}

impl Asking {
    /// One more; `Some`: the main thread has to be told.
    pub(super) fn add(&self, answer: Answer) -> Option<Asked> {
        let mut waiting = self.waiting.lock();
        let is_told = !waiting.is_empty();
        waiting.retain(|answer| !answer.is_closed());
        waiting.push(answer);
        (!is_told).then(|| Asked { waiting: Some(Arc::clone(&self.waiting)) })
    }
}

/// Somebody waits. Whoever drops it lets them all go without an answer, and they are told that the process leaves.
#[derive(Debug)]
pub(super) struct Asked {
    /// `None` once it is taken: whoever comes later waits for another one.
    waiting: Option<Arc<Lock<Vec<Answer>>>>,
}

impl Asked {
    /// All that wait now.
    pub(super) fn take(mut self) -> Vec<Answer> {
        self.empty()
    }

    fn empty(&mut self) -> Vec<Answer> {
        let Some(waiting) = self.waiting.take() else { return Vec::new() };
        let mut answers = std::mem::take(&mut *waiting.lock());
        answers.retain(|answer| !answer.is_closed());
        answers
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        drop(self.empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn one_is_on_its_way_for_all_and_who_has_given_up_is_not_kept() {
        let asking = Asking::default();
        let (answer, mut first) = oneshot::channel();
        let asked = asking.add(answer).expect("nobody was told yet");
        for _ in 0..1000 {
            let (answer, gone) = oneshot::channel();
            drop(gone);
            assert!(asking.add(answer).is_none(), "it is told already");
        }
        assert!(asking.waiting.lock().len() <= 2);
        let answers = asked.take();
        assert_eq!(answers.len(), 1);
        // who comes while these are answered waits for the next one
        let (answer, mut second) = oneshot::channel();
        let next = asking.add(answer).expect("what was told is taken");
        for answer in answers {
            answer.send(Ok("new")).unwrap();
        }
        assert_eq!(first.try_recv(), Ok(Ok("new")));
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
        drop(next);
        assert_eq!(second.try_recv(), Err(TryRecvError::Closed), "nobody answers any more");
    }
}
