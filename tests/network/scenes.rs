//! What happens to pods, names and wires, each under load, and what it may cost.

use crate::load::Load;
use crate::node::{Cluster, Pod, TTL, Trouble, moved, owner};
use crate::support::dns::Fault;
use crate::table::{Row, Table};
use std::time::{Duration, Instant};

type Scene = fn(&mut Table);

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("a pod is killed and comes back elsewhere", killed_and_back),
    ("from three to sixty to none to three", scaled),
    ("the name server is silent", silent_names),
    ("a record flaps", flapping),
    ("a wire is cut", cut_off),
    ("packets are lost", lossy),
    ("a wire is slow", slow),
];

/// All that is known must be in place by then.
const CONVERGED_MAX: Duration = TTL.saturating_add(Duration::from_secs(1));
/// A question that was lost is given up after a second, and the next one comes a TTL and a quarter of it later at most.
const ASKED_AGAIN_MAX: Duration = Duration::from_millis(2_750);
/// Between two changes, so that the second is not held down.
const QUIET: Duration = Duration::from_millis(2_200);

/// Only keys of this pod have failed.
fn only_of(pod: usize, names: &[usize], row: &Row) {
    for key in &row.seen.keys_failed {
        assert_eq!(owner(names, key), pod, "{key} has failed, which another pod has");
    }
}

fn in_time(row: &Row, max: Duration) {
    let took = row.converged.unwrap();
    assert!(took < max, "{} after {took:?}", row.what);
}

fn killed_and_back(table: &mut Table) {
    let mut cluster = Cluster::of(3, "");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    load.for_a_while(Duration::from_millis(500));
    let connects = cluster.connects();
    assert!(load.take().failed.is_empty());
    drop(cluster.pods.remove(&1));
    cluster.publish();
    load.for_a_while(TTL * 4);
    let row = Row {
        what: "a pod is killed; its name is gone",
        seen: load.take(),
        keys_moved: (0, before.len()),
        connects: cluster.connects() - connects,
        converged: None,
    };
    only_of(1, &[0, 1, 2], &row);
    assert!(!row.seen.failed.is_empty());
    assert_eq!(cluster.client.stat("discovery_members"), 3, "it keeps its place");
    table.add(row);
    let connects = cluster.connects();
    cluster.pods.insert(1, Pod::start());
    let began = Instant::now();
    cluster.publish();
    let converged = cluster.await_served(1, began);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "and comes back with another address",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    only_of(1, &[0, 1, 2], &row);
    in_time(&row, CONVERGED_MAX);
    assert_eq!(row.keys_moved.0, 0);
    assert!(load.take().failed.is_empty());
    cluster.assert_one_connection_each();
    table.add(row);
}

fn scaled(table: &mut Table) {
    let mut cluster = Cluster::of(3, ", leave_after: 0s, on_empty: error");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    load.for_a_while(QUIET);
    let connects = cluster.connects();
    load.take();
    cluster.pods.extend((3..60).map(|name| (name, Pod::start())));
    load.take();
    let began = Instant::now();
    cluster.publish();
    let converged = cluster.await_members(60, began);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "three pods become sixty",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
    in_time(&row, CONVERGED_MAX);
    assert_eq!(row.connects, 57);
    load.for_a_while(QUIET);
    assert!(load.take().failed.is_empty());
    cluster.assert_one_connection_each();
    table.add(row);
    let connects = cluster.connects();
    let gone = std::mem::take(&mut cluster.pods);
    let began = Instant::now();
    cluster.publish();
    gone.values().for_each(Pod::kill);
    let converged = cluster.await_members(0, began);
    let row = Row {
        what: "sixty become none, at once",
        seen: load.take(),
        keys_moved: (0, before.len()),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    drop(gone);
    in_time(&row, CONVERGED_MAX);
    table.add(row);
    load.for_a_while(QUIET);
    let connects = cluster.connects();
    cluster.pods.extend((0..3).map(|name| (name, Pod::start())));
    load.take();
    let began = Instant::now();
    cluster.publish();
    let converged = cluster.await_members(3, began);
    let seen = load.take();
    let again = cluster.owners();
    let row = Row {
        what: "none become three, elsewhere",
        seen,
        keys_moved: moved(&before, &again),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    in_time(&row, CONVERGED_MAX);
    assert_eq!(row.keys_moved.0, 0, "they are who they were");
    assert!(load.take().failed.is_empty());
    cluster.assert_one_connection_each();
    table.add(row);
}

fn silent_names(table: &mut Table) {
    let mut cluster = Cluster::of(3, "");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    let connects = cluster.connects();
    load.take();
    cluster.dns.set_fault(Fault::Silent);
    load.for_a_while(TTL * 12);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "the name server is silent for twelve times the TTL",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: None,
    };
    assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
    assert_eq!((row.connects, row.keys_moved.0), (0, 0));
    table.add(row);
    cluster.pods.insert(3, Pod::start());
    cluster.publish();
    load.take();
    let began = Instant::now();
    cluster.dns.set_fault(Fault::None);
    let converged = cluster.await_members(4, began);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "it answers again, and a fourth pod has come",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
    assert_eq!(row.connects, 1);
    in_time(&row, ASKED_AGAIN_MAX);
    table.add(row);
}

fn flapping(table: &mut Table) {
    for (what, pool, changes_max) in
        [("a record comes and goes", "", 0), ("the same with `leave_after: 0s`", ", leave_after: 0s", 4)]
    {
        let mut cluster = Cluster::of(3, pool);
        let load = Load::on(cluster.proxy.address());
        let before = cluster.owners();
        let connects = cluster.connects();
        load.take();
        for _ in 0..5 {
            // the pod serves on, only its record is gone for a while
            let flaps = cluster.pods.remove(&2).unwrap();
            cluster.publish();
            load.for_a_while(TTL);
            cluster.pods.insert(2, flaps);
            cluster.publish();
            load.for_a_while(TTL);
        }
        let seen = load.take();
        cluster.await_members(3, Instant::now());
        let changes = cluster.client.stat("discovery_changes");
        let after = cluster.owners();
        let row = Row {
            what,
            seen,
            keys_moved: moved(&before, &after),
            connects: cluster.connects() - connects,
            converged: None,
        };
        assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
        assert!(changes <= changes_max, "{changes} changes");
        assert_eq!(row.keys_moved.0, 0);
        assert!(row.connects <= changes, "{} connections", row.connects);
        cluster.assert_one_connection_each();
        table.add(row);
    }
}

fn cut_off(table: &mut Table) {
    let mut cluster = Cluster::of(3, "");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    let connects = cluster.connects();
    load.take();
    let trouble = Trouble::cut(cluster.pods[&1].ip);
    load.for_a_while(TTL * 5);
    let row = Row {
        what: "a pod's wire is cut; its name stays",
        seen: load.take(),
        keys_moved: (0, before.len()),
        connects: cluster.connects() - connects,
        converged: None,
    };
    only_of(1, &[0, 1, 2], &row);
    table.add(row);
    let connects = cluster.connects();
    load.take();
    let began = Instant::now();
    drop(trouble);
    let converged = cluster.await_served(1, began);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "and is whole again",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: Some(converged),
    };
    only_of(1, &[0, 1, 2], &row);
    in_time(&row, CONVERGED_MAX);
    assert_eq!(row.keys_moved.0, 0);
    cluster.assert_one_connection_each();
    table.add(row);
}

fn lossy(table: &mut Table) {
    // the kernel sends again after 200 ms at first
    let mut cluster = Cluster::with_timeout("2s", 3, "");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    let connects = cluster.connects();
    load.take();
    let trouble = Trouble::loss(2);
    load.for_a_while(TTL * 5);
    drop(trouble);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what: "two of a hundred packets are lost, both ways",
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: None,
    };
    assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
    assert_eq!(row.keys_moved.0, 0);
    table.add(row);
}

fn slow(table: &mut Table) {
    let mut cluster = Cluster::with_timeout("2s", 3, "");
    let load = Load::on(cluster.proxy.address());
    let before = cluster.owners();
    let connects = cluster.connects();
    load.take();
    let Some((slow, what)) = cluster.pods[&1].slow() else { return };
    load.for_a_while(TTL * 4);
    drop(slow);
    let seen = load.take();
    let after = cluster.owners();
    let row = Row {
        what,
        seen,
        keys_moved: moved(&before, &after),
        connects: cluster.connects() - connects,
        converged: None,
    };
    assert!(row.seen.failed.is_empty(), "{:?}", row.seen.failed);
    assert!(row.seen.slowest > Duration::from_millis(20), "{:?}", row.seen.slowest);
    assert_eq!((row.connects, row.keys_moved.0), (0, 0));
    table.add(row);
}
