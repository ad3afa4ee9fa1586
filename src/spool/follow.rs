//! A feed followed into another ringway or memcached: each delete is told there until it has answered, at least once.

use super::courier::{Answer, Courier, UNDER_WAY_COUNT_MAX, Words};
use super::feed::{FeedError, Position, Reader, Start, Told};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a feed that has nothing new is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long to wait for a target that has failed: twice as long each time.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the position is kept while there is more to do.
const KEEP_EVERY: Duration = Duration::from_millis(200);

/// What is followed, and where to.
pub struct Follow<'a> {
    pub feed: &'a Path,
    pub to: &'a str,
    pub start: Start,
    /// Deletes that the target is told of in a second.
    pub per_second_max: usize,
    /// The target knows no meta commands: it cannot be told that deletes come from a feed.
    pub is_plain: bool,
    /// Ends when there is nothing new.
    pub stops_at_end: bool,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("{0}")]
    Feed(#[from] FeedError),
    #[error("the position cannot be kept: {0}")]
    Position(io::Error),
}

/// What was done.
#[derive(Debug, Default)]
pub struct Followed {
    pub told_count: u64,
    pub refused_count: u64,
    pub broken_count: u64,
    pub position: Option<Position>,
}

impl Follow<'_> {
    /// Follows. `keep` is given positions up to which the target has answered; `say` hears of trouble.
    ///
    /// # Errors
    /// When something is missing in the feed, or it cannot be read, or the position cannot be kept. What a target does is
    /// waited out.
    pub fn run(
        self,
        mut keep: impl FnMut(&Position) -> io::Result<()>,
        mut say: impl FnMut(&str),
    ) -> Result<Followed, FollowError> {
        let mut reader = Reader::new(self.feed, self.start);
        let words = if self.is_plain { Words::Plain } else { Words::Relayed };
        let mut target = Target { address: self.to, words, server: None, followed: Followed::default() };
        let mut kept: Option<Position> = None;
        let mut kept_at = Instant::now();
        let began = Instant::now();
        let mut sent_count = 0;
        loop {
            let read = reader.read(UNDER_WAY_COUNT_MAX);
            let batch = match read {
                Ok(batch) => batch,
                Err(error) => {
                    keep_new(target.followed.position.as_ref(), &mut kept, &mut keep)?;
                    return Err(error.into());
                }
            };
            if reader.broken_count > target.followed.broken_count {
                target.followed.broken_count = reader.broken_count;
                say(
                    "a line in it is none, and passed by: the number behind it tells whether a delete was lost with it",
                );
            }
            target.tell(&batch, &mut say);
            target.followed.position = reader.position().cloned();
            if batch.is_empty() || kept_at.elapsed() >= KEEP_EVERY {
                keep_new(target.followed.position.as_ref(), &mut kept, &mut keep)?;
                kept_at = Instant::now();
            }
            if batch.is_empty() && self.stops_at_end {
                return Ok(target.followed);
            }
            sent_count += batch.len();
            let due = Duration::from_secs_f64(sent_count as f64 / self.per_second_max as f64);
            pause(if batch.is_empty() { LOOK_EVERY } else { due.saturating_sub(began.elapsed()) });
        }
    }
}

fn keep_new(
    position: Option<&Position>,
    kept: &mut Option<Position>,
    keep: &mut impl FnMut(&Position) -> io::Result<()>,
) -> Result<(), FollowError> {
    let Some(position) = position.filter(|position| kept.as_ref() != Some(position)) else { return Ok(()) };
    keep(position).map_err(FollowError::Position)?;
    *kept = Some(position.clone());
    Ok(())
}

/// Who is told.
struct Target<'a> {
    address: &'a str,
    words: Words,
    server: Option<Courier>,
    followed: Followed,
}

impl Target<'_> {
    /// Tells it until it has answered to all of them.
    fn tell(&mut self, batch: &[Told], say: &mut impl FnMut(&str)) {
        let (mut left, mut wait, mut has_failed) = (batch, RETRY_MIN, false);
        while !left.is_empty() {
            match self.try_to_tell(&mut left, say) {
                Ok(()) => {}
                Err(error) => {
                    self.server = None;
                    if !has_failed {
                        say(&format!("{}: {error}; trying again until it answers", self.address));
                    }
                    has_failed = true;
                    pause(wait);
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
        if has_failed {
            say(&format!("{}: it answers again", self.address));
        }
    }

    /// What has been answered is taken off `left`.
    fn try_to_tell(&mut self, left: &mut &[Told], say: &mut impl FnMut(&str)) -> io::Result<()> {
        let server = match &mut self.server {
            Some(server) => server,
            none => none.insert(Courier::connect(self.address)?),
        };
        server.send(left.iter().map(|told| told.key.as_slice()), self.words)?;
        while let Some((first, rest)) = left.split_first() {
            match server.answer()? {
                Answer::Done => self.followed.told_count += 1,
                Answer::Refused(line) => {
                    self.followed.refused_count += 1;
                    let key = first.key.escape_ascii();
                    say(&format!(
                        "{}: it does not take delete {} of `{key}`: {line}",
                        self.address, first.number
                    ));
                }
                Answer::Error(line) => return Err(io::Error::other(format!("it answered: {line}"))),
            }
            *left = rest;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a verb of the command line, no worker")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
