//! The load tool against small servers that answer well, badly, late or not at all.

use super::{Dialect, Failure, Plan, Report, Share, Sizes, Target, run};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A plan for the tests of the parts: ten short keys.
pub(super) fn plan() -> Plan {
    Plan {
        target: Target::Unix("/nowhere".into()),
        connections_count: 4,
        pipeline_count: 2,
        keys_count: 10,
        key_prefix: "k".into(),
        value_bytes: Sizes { bytes_min: 5, bytes_max: 300, logarithmic: false },
        sets: Share(0.1),
        keys_per_get: 1,
        dialect: Dialect::Classic,
        rate: None,
        tick: Duration::from_millis(1),
        duration: Duration::from_millis(150),
        warm_up: Duration::ZERO,
        fill: true,
        seed: 1,
        threads_count: 1,
        pids: Vec::new(),
    }
}

/// How the server treats an answer to a get, given how many it has answered on that connection.
type Spoil = fn(u64, Vec<u8>) -> Option<Vec<u8>>;

/// Serves classic and meta gets and sets on a port of its own, each connection with a store of its own that
/// is filled by the tool; `spoil` has the last word on every get, `None` closes.
fn server(spoil: Spoil) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store = std::sync::Arc::new(crate::sync::Lock::new(HashMap::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let store = std::sync::Arc::clone(&store);
            std::thread::spawn(move || serve(stream.unwrap(), &store, spoil));
        }
    });
    Target::Tcp(address.to_string(), address)
}

fn serve(stream: TcpStream, store: &crate::sync::Lock<HashMap<String, Vec<u8>>>, spoil: Spoil) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    let (mut line, mut answered) = (String::new(), 0);
    loop {
        line.clear();
        input.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let answer = match words[0] {
            "set" | "ms" => {
                let mut value = vec![0; words.last()?.parse::<usize>().ok()? + 2];
                input.read_exact(&mut value).ok()?;
                store.lock().insert(words[1].into(), value);
                if words[0] == "set" { b"STORED\r\n".to_vec() } else { b"HD\r\n".to_vec() }
            }
            command => {
                let mut answer = Vec::new();
                let keys = if command == "mg" { &words[1..2] } else { &words[1..] };
                for key in keys {
                    let Some(value) = store.lock().get(*key).cloned() else { continue };
                    let len = value.len() - 2;
                    let head = if command == "mg" {
                        format!("VA {len}\r\n")
                    } else {
                        format!("VALUE {key} 0 {len}\r\n")
                    };
                    answer.extend_from_slice(head.as_bytes());
                    answer.extend_from_slice(&value);
                }
                match (command, answer.is_empty()) {
                    ("mg", true) => answer.extend_from_slice(b"EN\r\n"),
                    ("mg", false) => {}
                    _ => answer.extend_from_slice(b"END\r\n"),
                }
                answered += 1;
                spoil(answered, answer)?
            }
        };
        output.write_all(&answer).ok()?;
    }
}

fn report(plan: Plan) -> Report {
    run(plan).unwrap()
}

#[test]
fn a_good_server_is_found_good_in_every_shape_of_load() {
    let good = server(|_, answer| Some(answer));
    let base = Plan { target: good, ..plan() };
    let shapes = [
        base.clone(),
        Plan { pipeline_count: 16, threads_count: 2, ..base.clone() },
        Plan { keys_per_get: 7, ..base.clone() },
        Plan { dialect: Dialect::Meta, ..base.clone() },
        Plan { rate: Some(2_000.0), threads_count: 2, ..base.clone() },
        Plan { value_bytes: Sizes { bytes_min: 0, bytes_max: 300_000, logarithmic: true }, ..base.clone() },
        Plan { warm_up: Duration::from_millis(50), ..base.clone() },
    ];
    for shape in shapes {
        let report = report(shape);
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.misses, report.unsent), (0, 0), "{report}");
        assert!(report.hits > 0 && report.latency_us.p50 > 0.0, "{report}");
    }
    let rated = report(Plan { rate: Some(2_000.0), ..base.clone() });
    assert!((290..=301).contains(&rated.requests), "{rated}");
    let missing = report(Plan { key_prefix: "other".into(), fill: false, sets: Share(0.0), ..base });
    assert!(missing.is_clean() && missing.hits == 0 && missing.misses == missing.requests, "{missing}");
}

#[test]
fn a_wrong_byte_is_found() {
    let target = server(|count, mut answer| {
        if count == 20 {
            answer[12] ^= 1;
        }
        Some(answer)
    });
    let sizes = Sizes { bytes_min: 100, bytes_max: 100, logarithmic: false };
    let report = report(Plan { target, value_bytes: sizes, ..plan() });
    assert!(!report.is_clean() && report.wrong > 0 && report.first_wrong.is_some(), "{report}");
}

#[test]
fn error_answers_are_counted_with_the_first_text() {
    let target =
        server(
            |count, answer| {
                if count % 10 == 0 { Some(b"SERVER_ERROR tired\r\n".to_vec()) } else { Some(answer) }
            },
        );
    let report = report(Plan { target, ..plan() });
    assert!(report.errors > 0 && report.wrong == 0, "{report}");
    assert_eq!(report.first_error.as_deref(), Some("SERVER_ERROR tired"));
}

#[test]
fn lost_connections_are_counted_and_made_again() {
    let target = server(|count, answer| (count < 50).then_some(answer));
    let report = report(Plan { target, connections_count: 1, duration: Duration::from_secs(1), ..plan() });
    assert!(report.errors > 0 && report.requests > 70, "{report}");
    assert!(report.first_error.as_ref().is_some_and(|e| e.starts_with("connection lost")), "{report}");
}

#[test]
fn what_cannot_be_sent_at_the_rate_is_told_and_counted_as_late() {
    // The server reads nothing for longer than the run, then leaves.
    let target = server(|count, answer| {
        if count > 3 {
            std::thread::park_timeout(Duration::from_millis(400));
            return None;
        }
        Some(answer)
    });
    let slow = Plan { target, rate: Some(200_000.0), connections_count: 1, ..plan() };
    let report = report(slow);
    assert!(report.unsent > 0 && report.latency_us.p50 > 1_000.0, "{report}");
}

#[test]
fn there_is_a_reason_when_nothing_can_be_measured() {
    let nowhere = Plan { target: "127.0.0.1:1".parse().unwrap(), ..plan() };
    let refused = run(nowhere).unwrap_err();
    assert!(
        matches!(&refused, Failure::Connect { .. }) && refused.to_string().contains("127.0.0.1:1"),
        "{refused}"
    );
    let target = server(|_, answer| Some(answer));
    let nobody = run(Plan { target, pids: vec![u32::MAX], ..plan() }).unwrap_err();
    assert!(nobody.to_string().contains("no such process"), "{nobody}");
    for (bad, flag) in [
        (Plan { connections_count: 0, ..plan() }, "--connections"),
        (Plan { keys_per_get: 11, ..plan() }, "--keys-per-get"),
        (Plan { keys_per_get: 2, dialect: Dialect::Meta, ..plan() }, "--keys-per-get"),
        (Plan { threads_count: 9, ..plan() }, "--threads"),
        (Plan { key_prefix: "a b".into(), ..plan() }, "--key-prefix"),
        (Plan { duration: Duration::ZERO, ..plan() }, "--duration"),
        (Plan { rate: Some(f64::NAN), ..plan() }, "--rate"),
    ] {
        let fault = run(bad).unwrap_err().to_string();
        assert!(fault.starts_with(flag), "{fault}");
    }
}
