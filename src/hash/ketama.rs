//! The three rings of md5 points: libmemcached's weighted ketama, twemproxy's, spymemcached's.
//!
//! Sources: libmemcached `hosts.cc` (`update_continuum`), twemproxy `nc_ketama.c` and `nc_conf.c` (`conf_add_server`),
//! spymemcached `KetamaNodeLocator` and `KetamaNodeKeyFormatter.Format.LIBMEMCACHED`. A digest of `<name>-<k>` gives four
//! points. Strings are hashed as configured, never as resolved.

use super::points::Points;
use super::{Member, SpecError, md5};

/// The port that is left out of a server's name.
const PORT_DEFAULT: u16 = 11211;
/// 160 points for a server of average weight, four to a digest.
const DIGESTS_PER_SERVER: u32 = 40;

/// libmemcached. Of equal points the lower server's wins (`continuum_item_cmp`).
pub(super) fn libmemcached(members: &[Member]) -> Result<Points, SpecError> {
    weighted(members, libmemcached_name)
}

/// twemproxy. Of equal points its `qsort` leaves the choice to the C library; we take the lower server's.
pub(super) fn twemproxy(members: &[Member]) -> Result<Points, SpecError> {
    weighted(members, twemproxy_name)
}

/// spymemcached with `KETAMA_HASH` and the key format `LIBMEMCACHED`: no weights, and 40 digests even where the float rule of
/// the others makes 39 of them. Its other format, `SPYMEMCACHED`, needs each server's name *and* address: give
/// `name: host/ip:port`. Of equal points the later server's wins (a map is overwritten).
pub(super) fn spymemcached(members: &[Member]) -> Result<Points, SpecError> {
    let mut points = std::collections::BTreeMap::new();
    for (server, member) in members.iter().enumerate() {
        points.extend(points_of(&libmemcached_name(member), server, DIGESTS_PER_SERVER));
    }
    build(points.into_iter().collect())
}

fn weighted(members: &[Member], name_of: fn(&Member) -> String) -> Result<Points, SpecError> {
    let total = members.iter().map(|member| u64::from(member.weight)).sum();
    let mut points = Vec::new();
    for (server, member) in members.iter().enumerate() {
        let digests = digests(member.weight, total, members.len());
        points.extend(points_of(&name_of(member), server, digests));
    }
    build(points)
}

/// In 32-bit floats, as the originals: where the share is not exact, equal weights make 39 digests instead of 40 (25, 47, 50
/// servers and others), and a ring that has 40 there sends 3 % of the keys elsewhere.
fn digests(weight: u32, total: u64, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    (share * 160.0 / 4.0 * servers as f32 + 0.000_000_000_1).floor() as u32
}

fn points_of(name: &str, server: usize, digests: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..digests)
        .flat_map(move |k| md5::words(format!("{name}-{k}").as_bytes()))
        .map(move |value| (value, server as u32))
}

fn build(points: Vec<(u32, u32)>) -> Result<Points, SpecError> {
    Points::build(points).ok_or_else(no_points)
}

fn no_points() -> SpecError {
    SpecError("no server weighs enough for a point on the ring".into())
}

/// Whether there is a point on the ring, by weight.
pub(super) fn check(members: &[Member]) -> Result<(), SpecError> {
    let total = members.iter().map(|member| u64::from(member.weight)).sum();
    let has_points = members.iter().any(|member| digests(member.weight, total, members.len()) > 0);
    if has_points { Ok(()) } else { Err(no_points()) }
}

/// A unix socket has port 0 in libmemcached.
fn libmemcached_name(member: &Member) -> String {
    match (&member.name, member.port) {
        (Some(name), _) => name.clone(),
        (None, Some(PORT_DEFAULT)) => member.host.clone(),
        (None, port) => format!("{}:{}", member.host, port.unwrap_or(0)),
    }
}

/// twemproxy cuts the name of a unix socket out of `path:weight` one byte late: the colon belongs to it (seen in nutcracker
/// 0.5.0: 500 of 500 keys).
fn twemproxy_name(member: &Member) -> String {
    match (&member.name, member.port) {
        (None, None) => format!("{}:", member.host),
        _ => libmemcached_name(member),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{equal, member, weighted as members_weighing};
    use super::*;

    fn count_per_server(points: &Points, servers: usize) -> Vec<u32> {
        let mut counts = vec![0; servers];
        (0..points.len()).for_each(|at| counts[points.point(at).1 as usize] += 1);
        counts
    }

    #[test]
    fn points_by_weight() {
        let points = libmemcached(&members_weighing(&[600, 300, 200, 350, 1000, 800, 950, 100])).unwrap();
        assert_eq!(count_per_server(&points, 8), [176, 88, 56, 104, 296, 236, 280, 28]);
        assert_eq!(points.len(), 1264);
    }

    #[test]
    fn floats_round_down_at_some_numbers_of_servers() {
        let short: Vec<usize> =
            (1..128).filter(|&servers| digests(1, servers as u64, servers) != 40).collect();
        assert_eq!(short, [25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115, 122]);
        for servers in [25, 47, 50] {
            let members = equal(servers, 11211);
            assert_eq!(count_per_server(&twemproxy(&members).unwrap(), servers), vec![156; servers]);
            assert_eq!(count_per_server(&spymemcached(&members).unwrap(), servers), vec![160; servers]);
        }
    }

    #[test]
    fn first_and_last_of_480() {
        let points = twemproxy(&equal(3, 11211)).unwrap();
        assert_eq!(points.len(), 480);
        assert_eq!([0, 1, 2].map(|at| points.point(at)), [(5_678_703, 2), (8_407_540, 0), (21_369_089, 0)]);
        assert_eq!(points.point(479), (4_289_187_182, 1));
        assert_eq!(points.owner(4_289_187_183), points.owner(0));
    }

    #[test]
    fn names() {
        let named = Member { name: Some("shard-a".into()), ..member("mc-0", 11212, 1) };
        let socket = Member { port: None, ..member("/run/mc.sock", 0, 1) };
        for (member, libmemcached, twemproxy) in [
            (member("mc-0", 11211, 7), "mc-0", "mc-0"),
            (member("mc-0", 11212, 7), "mc-0:11212", "mc-0:11212"),
            (named, "shard-a", "shard-a"),
            (socket, "/run/mc.sock:0", "/run/mc.sock:"),
        ] {
            assert_eq!((&*libmemcached_name(&member), &*twemproxy_name(&member)), (libmemcached, twemproxy));
        }
    }
}
