//! What routes make of several replies, whatever they are and in whatever order they come.

use super::failure::{Failure, Failures, severity};
use super::scripted::Say;
use super::stage::{Tree, run, settle, tree};
use crate::protocol::{Cause, Reply, Status};
use proptest::prelude::*;

/// Words that a child can answer a delete with. The lines differ even where the results do not, so that it shows whose
/// reply the answer is.
const WORDS: &[(Status, &str)] = &[
    (Status::Deleted, "DELETED"),
    (Status::NotFound, "NOT_FOUND"),
    (Status::ErrorLine, "SERVER_ERROR one"),
    (Status::ErrorLine, "SERVER_ERROR other"),
    (Status::ErrorLine, "CLIENT_ERROR bad"),
    (Status::Failed(Cause::Timeout), ""),
    (Status::Failed(Cause::Connect), ""),
    (Status::Failed(Cause::Tko), ""),
    (Status::Failed(Cause::Closed), ""),
    (Status::Failed(Cause::NoServer), ""),
    (Status::Failed(Cause::Aborted), ""),
];

fn reply(word: usize) -> Reply<'static> {
    match WORDS[word] {
        (Status::Failed(cause), _) => Reply::failed(cause),
        (status, line) => Reply::line(status, line.as_bytes()),
    }
}

fn text(word: usize) -> String {
    String::from_utf8_lossy(reply(word).line).into_owned()
}

/// Three children that answer with these words, in this order of arrival; what the client is told after each of them.
fn told(route: &str, words: [usize; 3], order: &[usize]) -> Vec<Option<String>> {
    let wait = || vec![Say::Wait];
    let tree: Tree = tree(route, [("a", wait()), ("b", wait()), ("c", wait())]);
    let mut told = Vec::new();
    run(async {
        let waiting = tree.send("delete k").await;
        for &child in order {
            tree.finish(["a", "b", "c"][child], &reply(words[child]));
            settle().await;
            told.push(waiting.reply());
        }
    });
    told
}

fn words() -> impl Strategy<Value = [usize; 3]> {
    prop::array::uniform3(0..WORDS.len())
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just(vec![0, 1, 2]).prop_shuffle()
}

proptest! {
    #[test]
    fn all_sync_is_the_worst_whoever_is_faster(words in words(), order in order()) {
        let told = told("{all_sync: [a, b, c]}", words, &order);
        prop_assert_eq!(&told[..2], &[None, None], "all are waited for");
        let worst = words.iter().map(|word| severity(&reply(*word))).max();
        let first = words.iter().find(|word| Some(severity(&reply(**word))) == worst);
        prop_assert_eq!(told[2].clone(), first.map(|word| text(*word)));
    }

    #[test]
    fn all_fastest_is_the_first_that_is_no_failure(words in words(), order in order()) {
        let told = told("{all_fastest: [a, b, c]}", words, &order);
        let good = order.iter().position(|child| !Failures::FAILOVER.has(&reply(words[*child])));
        for (step, told) in told.into_iter().enumerate() {
            let expected = (step == good.unwrap_or(2)).then(|| text(words[order[step]]));
            prop_assert_eq!(told, expected, "after {} replies", step + 1);
        }
    }

    #[test]
    fn all_majority_is_what_most_say(words in words(), order in order()) {
        let told = told("{all_majority: [a, b, c]}", words, &order);
        let result = |child: usize| Failure::of(&reply(words[child])).ok_or(WORDS[words[child]].0);
        let votes = |of| (0..3).filter(|child| result(*child) == of).count();
        let answered = told.iter().position(Option::is_some);
        prop_assert_eq!(told.iter().flatten().count(), 1, "one answer");
        let answer = told.into_iter().flatten().next();
        let Some(most) = (0..3).find(|child| votes(result(*child)) > 1) else {
            prop_assert_eq!(answered, Some(2), "nobody has the majority: all are waited for");
            let worst = words.iter().map(|word| severity(&reply(*word))).max();
            let told = words.iter().filter(|word| answer == Some(text(**word)));
            prop_assert_eq!(told.map(|word| severity(&reply(*word))).max(), worst);
            return Ok(());
        };
        let first = order.iter().find(|child| result(**child) == result(most));
        prop_assert_eq!(answer, first.map(|child| text(words[*child])), "its first reply");
        let second = order.iter().filter(|child| result(**child) == result(most)).nth(1);
        prop_assert_eq!(answered, order.iter().position(|child| Some(child) == second), "as soon as it is clear");
    }

    #[test]
    fn all_initial_is_the_first_childs(words in words(), order in order()) {
        let told = told("{all_initial: [a, b, c]}", words, &order);
        for (step, told) in told.into_iter().enumerate() {
            prop_assert_eq!(told, (order[step] == 0).then(|| text(words[0])));
        }
    }
}
