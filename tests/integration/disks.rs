//! File systems that fill up, or that cannot be written: the client of a delete is told, and what was accepted stays.

use crate::feed::fed;
use crate::spool::{spool_directory, spool_verb, spooled};
use crate::support::proxy::can_mount;
use crate::support::{Client, Memcached, Proxy, has_memcached};

/// A file system of 512 KiB where `path` is, most of it taken by a file that can be removed.
fn small(path: &str) -> String {
    format!(
        "mount -t tmpfs -o size=512k,mode=0700 tmpfs {path} && mkdir -m 0700 {path}/spool \\\n\
         && head -c 400000 /dev/zero >{path}/filler"
    )
}

/// Deletes `PREFIX0` …, all at once: how many were accepted, and what the others were told.
fn delete_all(client: &mut Client, prefix: &str, count: usize) -> (usize, Vec<String>) {
    let lines: String = (0..count).map(|key| format!("delete {prefix}{key}\r\n")).collect();
    let sending = client.send_beside(lines.into_bytes());
    let answers: Vec<String> = (0..count).map(|_| client.line()).collect();
    sending.join().unwrap().unwrap();
    let (done, refused): (Vec<String>, Vec<String>) =
        answers.into_iter().partition(|line| line == "DELETED" || line == "NOT_FOUND");
    (done.len(), refused)
}

/// Deletes until there is no room left: how many were accepted, and what the others were told.
fn fill(client: &mut Client) -> (usize, Vec<String>) {
    let mut accepted = 0;
    for round in 0..100 {
        let (more, refused) = delete_all(client, &format!("{}{round}-", "k".repeat(100)), 50);
        accepted += more;
        if !refused.is_empty() {
            return (accepted, refused);
        }
    }
    panic!("{accepted} deletes have room");
}

#[test]
fn on_a_full_disk_the_client_is_told_and_later_all_works_again() {
    if !has_memcached() || !can_mount() {
        return;
    }
    let (mut server, directory) = (Memcached::start(), spool_directory());
    let disk = directory.file("spool");
    for sync in ["none", "each"] {
        server.kill();
        let config = spooled(&[server.address()], &directory, &format!("/spool, sync: {sync}"));
        let proxy = Proxy::with_mounts(&config, &small(&disk));
        let mut client = proxy.client();
        let (accepted, refused) = fill(&mut client);
        assert!(accepted > 100, "{accepted}");
        let told = "SERVER_ERROR the spool is full, the delete is lost";
        assert!(refused.iter().all(|line| line == told), "{:?}", refused[0]);
        assert!(client.stat("spool_disk_errors") > 0);
        let pending = client.stat("spool_pending");
        assert!(pending >= accepted as u64, "{pending} {accepted}");
        std::fs::remove_file(proxy.inside(&format!("{disk}/filler"))).unwrap();
        client.ask("delete later\r\n", "DELETED\r\n");
        // what has been accepted is found in the files, and reaches the server
        let (code, said) = spool_verb(&["list", &proxy.inside(&format!("{disk}/spool"))]);
        assert!(code == 0 && said.contains("in use, "), "{said}");
        server.restart();
        client.await_stat("spool_pending", 0);
        client.await_more("spool_replayed", accepted as u64);
    }
}

#[test]
fn a_feed_on_a_full_disk_is_told_of_and_goes_on_without_a_gap() {
    if !has_memcached() || !can_mount() {
        return;
    }
    let (here, there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    let disk = directory.file("spool");
    let config = fed(&[here.address()], &directory, "")
        .replace(&format!("dir: {disk}"), &format!("dir: {disk}/spool"))
        .replace(&directory.file("feed"), &format!("{disk}/feed"));
    let proxy = Proxy::with_mounts(&config, &small(&disk));
    let mut client = proxy.client();
    let (accepted, refused) = fill(&mut client);
    assert!(accepted > 100, "{accepted}");
    let told = "SERVER_ERROR the delete is done, but the feed cannot be written";
    assert!(refused.iter().all(|line| line == told), "{:?}", refused[0]);
    assert_eq!(client.stat("spool_feed_refused"), refused.len() as u64);
    std::fs::remove_file(proxy.inside(&format!("{disk}/filler"))).unwrap();
    let (later, refused) = delete_all(&mut client, "later", 100);
    assert_eq!((later, refused.len()), (100, 0));
    let feed = proxy.inside(&format!("{disk}/feed"));
    let (code, said) = spool_verb(&["follow", &feed, "--to", there.address(), "--stop-at-end"]);
    let count: usize = said.lines().next().unwrap().split(' ').next().unwrap().parse().unwrap();
    // a delete of a write that failed may be there as well
    assert!(code == 0 && count >= accepted + later, "{said}");
}

#[test]
fn a_disk_that_cannot_be_written_is_refused_at_start() {
    if !can_mount() {
        return;
    }
    let directory = spool_directory();
    let disk = directory.file("spool");
    let read_only = format!("mount -t tmpfs -o ro,mode=0700 tmpfs {disk}");
    let config = spooled(&["127.0.0.1:1"], &directory, "");
    let (code, said) = Proxy::refuses_with_mounts(&config, &read_only);
    assert!(code == 1 && said.contains("Read-only file system"), "{code}: {said}");
}
