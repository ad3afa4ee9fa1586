//! How long an answer may take: by distance, by pool, by server. Each timeout differs from the others; what would act
//! without it is longer, mostly an hour.

use crate::support::{Client, Directory, Mock, Proxy};
use std::time::{Duration, Instant};

const TIMEOUT: &str = "SERVER_ERROR Reply timeout\r\n";

/// Takes requests and answers none.
fn silent() -> Mock {
    Mock::start(|peer| while peer.request().is_some() {})
}

/// A get of this key times out, not sooner than it should, and counts for the destination with this timeout.
fn ask_in_vain(client: &mut Client, key: &str, server: &Mock, pool: &str, timeout_ms: u64) {
    let asked = Instant::now();
    client.ask(format!("get {key}\r\n"), TIMEOUT);
    assert!(asked.elapsed() >= Duration::from_millis(timeout_ms), "{key}: after {:?}", asked.elapsed());
    client.send("stats servers\r\n");
    let destination = format!("STAT {}:ascii:plain:notcompressed-{timeout_ms} ", server.address());
    let lines = client.lines_to_end();
    let line = lines.iter().find(|line| line.starts_with(&destination));
    let line = line.unwrap_or_else(|| panic!("no {destination}in {lines:#?}"));
    assert!(line.contains(" timeout:1; "), "{line}");
    assert!(line.ends_with(&format!("pools:{pool} last_error:timeout")), "{line}");
}

#[test]
fn by_distance_by_pool_and_by_server() {
    let server = silent();
    let address = server.address();
    let proxy = Proxy::with(&format!(
        r#"within_cluster_timeout: 40ms
cross_cluster_timeout: 80ms
cross_region_timeout: 120ms
pools:
  near: {{servers: ["{address}"], tko: off, region: west, cluster: main}}
  beside: {{servers: ["{address}"], tko: off, region: west, cluster: web}}
  far: {{servers: ["{address}"], tko: off, region: east, cluster: main}}
  own: {{servers: ["{address}"], tko: off, region: west, cluster: main, timeout: 160ms}}
  slow: {{servers: [{{address: "{address}", timeout: 200ms}}], tko: off, timeout: 1h}}
routes: {{/west/main/: near, /west/web/: beside, /east/main/: far, /own/main/: own, /slow/main/: slow}}
default_route: /west/main/
"#
    ));
    let mut client = proxy.client();
    ask_in_vain(&mut client, "a", &server, "near", 40);
    ask_in_vain(&mut client, "/west/web/a", &server, "beside", 80);
    ask_in_vain(&mut client, "/east/main/a", &server, "far", 120);
    ask_in_vain(&mut client, "/own/main/a", &server, "own", 160);
    ask_in_vain(&mut client, "/slow/main/a", &server, "slow", 200);
}

#[test]
fn by_distance_with_mcrouters_file_and_flags() {
    let server = silent();
    let text = r#"{
  "pools": {
    "near": {"servers": ["SERVER"], "region": "west", "cluster": "main", "server_timeout": 60},
    "far": {"servers": ["SERVER"], "region": "east", "cluster": "main", "server_timeout": 1000000}
  },
  "routes": {"/west/main/": "PoolRoute|near", "/east/main/": "PoolRoute|far"}
}"#;
    let directory = Directory::new();
    let file = directory.write("mcrouter.json", &text.replace("SERVER", server.address()));
    let flags = ["--route-prefix", "/west/main/", "--cross-region-timeout-ms", "90"];
    let more = ["--within-cluster-timeout-ms", "0", "--listen", "127.0.0.1:0"];
    let proxy = Proxy::start(&[&["run", "-c", &file], &flags[..], &more[..]].concat());
    let mut client = proxy.client();
    ask_in_vain(&mut client, "a", &server, "near", 60);
    ask_in_vain(&mut client, "/east/main/a", &server, "far", 90);
    // a file alone knows no default route but its own
    let (code, said) = Proxy::ends(&["run", "-c", &file]);
    assert!(code == 2 && said.contains("invalid default route: /././"), "{code} {said}");
}

#[test]
fn a_server_with_another_timeout_is_connected_to_anew_and_its_neighbour_is_not() {
    let tells_its_connection = || {
        Mock::start(|peer| {
            while peer.answer_as_usual() {
                peer.report(&format!("connection {}", peer.number));
            }
        })
    };
    let (stays, changes) = (tells_its_connection(), tells_its_connection());
    let with = |more: &str| {
        format!(
            "pools:\n  main:\n    servers: [\"{}\", {{address: \"{}\"{more}}}]\nroute: {{all_sync: [\"Pool|main\"]}}\n",
            stays.address(),
            changes.address()
        )
    };
    let proxy = Proxy::with(&with(""));
    let mut client = proxy.client();
    let mut delete = |connection: &str| {
        client.ask("delete a\r\n", "NOT_FOUND\r\n");
        for (server, number) in [(&stays, "connection 0"), (&changes, connection)] {
            server.expect("delete a");
            server.expect(number);
        }
    };
    delete("connection 0");
    for (reloads, more, connection) in [
        (1, ", timeout: 700ms", "connection 1"),
        (2, ", timeout: 700ms, connect_timeout: 70ms", "connection 2"),
        (3, ", timeout: 700ms, connect_timeout: 70ms, weight: 2", "connection 2"),
    ] {
        proxy.rewrite(&with(more));
        proxy.client().await_stat("config_reloads", reloads);
        delete(connection);
    }
}
