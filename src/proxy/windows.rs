//! Changes of pools that are young enough to be softened (`transition`): what the pools were before, the same for all workers.

use crate::config::{Config, Pool, Server};
use crate::route::Window;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

/// Changes of one pool that are remembered at once. With each one more server may be asked for a key that is nowhere; what
/// moved five changes ago is missed.
const CHANGES_COUNT_MAX: usize = 4;

/// By pool, the oldest first.
#[derive(Default)]
pub(super) struct Windows {
    config: Option<Arc<Config>>,
    open: HashMap<String, Vec<Arc<Window>>>,
}

impl Windows {
    /// Those of a configuration that takes the place of the one that `former` is of.
    pub(super) fn of(config: &Arc<Config>, former: &Self, now: Instant) -> Self {
        let mut open = HashMap::new();
        for pool in &config.pools {
            let windows = former.next(pool, now);
            if !windows.is_empty() {
                open.insert(pool.name.clone(), windows);
            }
        }
        Self { config: Some(Arc::clone(config)), open }
    }

    pub(super) fn of_pool(&self, name: &str) -> &[Arc<Window>] {
        self.open.get(name).map_or(&[], Vec::as_slice)
    }

    /// Servers of former pools that are not in the pool any more and are still asked, for so long as their windows are open.
    pub(super) fn gone<'a>(&'a self, pool: &Pool) -> impl Iterator<Item = (&'a Window, &'a Server)> {
        let windows = self.of_pool(&pool.name);
        let stay: HashSet<String> = match windows {
            [] => HashSet::new(), // as nearly always
            _ => pool.servers.iter().map(Server::label).collect(),
        };
        let of_window =
            |window: &'a Arc<Window>| window.former.servers.iter().map(|server| (&**window, server));
        windows.iter().flat_map(of_window).filter(move |(_, server)| !stay.contains(&server.label()))
    }

    /// All servers that are asked: those of the pools, and behind them those that are [gone](Self::gone).
    pub(super) fn asked<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Server> {
        let gone = config.pools.iter().flat_map(|pool| self.gone(pool)).map(|(_, server)| server);
        config.pools.iter().flat_map(|pool| &pool.servers).chain(gone)
    }

    /// When the last one of each pool ends.
    pub(super) fn ends(&self) -> Vec<Instant> {
        self.open.values().filter_map(|windows| windows.iter().map(|window| window.until).max()).collect()
    }

    /// The windows of a pool that is this from now on.
    fn next(&self, pool: &Pool, now: Instant) -> Vec<Arc<Window>> {
        let Some(settings) = pool.transition else { return Vec::new() };
        let before = self.of_pool(&pool.name);
        // A ring that is back is no former one: nothing has moved from there.
        let is_young = |window: &&Arc<Window>| window.until > now && !is_placed_alike(&window.former, pool);
        let mut windows: Vec<Arc<Window>> = before.iter().filter(is_young).cloned().collect();
        let was = self.config.as_ref().and_then(|config| config.pool(&pool.name));
        if let Some(was) = was
            && !was.servers.is_empty()
            && !is_placed_alike(was, pool)
        {
            let pace = before.last().map(|window| Arc::clone(window.pace())).unwrap_or_default();
            let window = Window::new(was.clone(), now + settings.time, settings, pace);
            keep_doubts(before, &window);
            windows.push(Arc::new(window));
        }
        let over_count = windows.len().saturating_sub(CHANGES_COUNT_MAX);
        windows.drain(..over_count);
        windows
    }
}

/// A server that is doubted stays so.
fn keep_doubts(before: &[Arc<Window>], window: &Window) {
    let doubted = |label: &str| {
        before.iter().any(|before| {
            let place = before.former.servers.iter().position(|server| server.label() == label);
            place.is_some_and(|place| before.doubts(place))
        })
    };
    for (place, server) in window.former.servers.iter().enumerate() {
        if doubted(&server.label()) {
            window.doubt(place);
        }
    }
}

/// Whether every key has the same server in both. Who is called the same is the same, wherever it is.
fn is_placed_alike(a: &Pool, b: &Pool) -> bool {
    let members = |pool: &Pool| {
        let mut members: Vec<_> = pool.servers.iter().map(|s| (s.label(), s.member.weight)).collect();
        if pool.hash.placement.hashes_names() {
            members.sort(); // their order does not count
        }
        members
    };
    a.hash == b.hash && a.servers.len() == b.servers.len() && members(a) == members(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, route};
    use std::time::Duration;

    const YOUNG: &str = "transition: {for: 10s}";

    fn config(pool: &str) -> Arc<Config> {
        let text = format!("pools: {{main: {{{pool}}}}}\nroute: main\n");
        Arc::new(config::from_text("test", &text, route::check).unwrap_or_else(|f| panic!("{f}")).0)
    }

    /// The servers of the rings that are remembered, after these pools have followed one another a second apart.
    fn remembered(pools: &[&str]) -> Vec<String> {
        let mut windows = Windows::default();
        let mut now = Instant::now();
        for pool in pools {
            windows = Windows::of(&config(pool), &windows, now);
            now += Duration::from_secs(1);
        }
        let labels = |window: &Arc<Window>| {
            let labels = window.former.servers.iter().map(|s| s.label().replace(":11211", ""));
            labels.collect::<Vec<_>>().join("")
        };
        windows.of_pool("main").iter().map(labels).collect()
    }

    fn of(servers: &str) -> String {
        format!("servers: [{servers}], {YOUNG}")
    }

    #[test]
    fn what_was_before_is_remembered_for_a_while() {
        let [abc, abcd, ab] = ["a, b, c", "a, b, c, d", "a, b"].map(of);
        assert!(remembered(&[&abc]).is_empty(), "nothing has moved at the start");
        assert!(remembered(&[&abc, &abc]).is_empty());
        assert_eq!(remembered(&[&abc, &abcd]), ["abc"]);
        assert_eq!(remembered(&[&abc, &abcd, &abcd]), ["abc"], "a change of something else");
        assert_eq!(remembered(&[&abc, &abcd, &ab]), ["abc", "abcd"]);
        assert_eq!(remembered(&[&abc, &abcd, &abc]), ["abcd"], "and back");
        let long: Vec<&str> = [&*abc, &*abcd].into_iter().chain([&*abcd; 10]).collect();
        assert!(remembered(&long).is_empty(), "it is over");
        assert!(remembered(&["servers: [a]", "servers: [a, b]"]).is_empty(), "nobody wants it");
        assert_eq!(remembered(&["servers: [a]", &ab]), ["a"], "the new one says what is wanted");
        let many = ["a", "b", "c", "d", "e", "f"].map(of);
        assert_eq!(remembered(&many.each_ref().map(String::as_str)), ["b", "c", "d", "e"]);
    }

    #[test]
    fn only_what_moves_keys_is_a_change() {
        for (before, after, is_one) in [
            ("servers: [a, b]", "servers: [b, a]", false),
            ("servers: [a, b], hash: ch3", "servers: [b, a], hash: ch3", true),
            ("servers: [a, b]", "servers: [a, b weight=2]", true),
            ("servers: [a, b]", "servers: [a, b], hash: jump", true),
            ("servers: [a, b]", "servers: [a, b], timeout: 3s", false),
            ("servers: [a name=x, b]", "servers: [c name=x, b]", false),
        ] {
            let count = remembered(&[before, &format!("{after}, {YOUNG}")]).len();
            assert_eq!(count, usize::from(is_one), "{before} → {after}");
        }
    }

    #[test]
    fn doubts_outlive_a_change() {
        let now = Instant::now();
        let first = Windows::of(&config(&of("a, b, c")), &Windows::default(), now);
        let second = Windows::of(&config(&of("a, b, c, d")), &first, now);
        second.of_pool("main")[0].doubt(1);
        let third = Windows::of(&config(&of("a, b, c, d, e")), &second, now);
        let doubted = |window: usize| {
            let window = &third.of_pool("main")[window];
            (0..window.former.servers.len()).filter(|place| window.doubts(*place)).collect::<Vec<_>>()
        };
        assert_eq!((doubted(0), doubted(1)), (vec![1], vec![1]));
    }
}
