//! What memcached 1.6.45 was asked and what it said, and the rules that need a moved clock.

use super::Talk;

/// Each conversation was held with a fresh memcached 1.6.45, one command at a time, so that cas uniques
/// are to be the same too. `#` begins one, `>` is said, `<` answered.
#[test]
fn the_answers_are_memcacheds() {
    let mut talk = Talk::new();
    let mut said = String::new();
    let mut title = "";
    let mut faults = Vec::new();
    for line in include_str!("answers.txt").lines() {
        if let Some(name) = line.strip_prefix("# ") {
            talk = Talk::new();
            title = name;
        } else if let Some(text) = line.strip_prefix("> ") {
            said = text.to_owned();
        } else if let Some(expected) = line.strip_prefix("< ") {
            let answer = talk.say(&unescape(&said));
            if answer != unescape(expected) {
                let answer = String::from_utf8_lossy(&answer).replace("\r\n", "\\r\\n");
                faults.push(format!("{title}: {said}\n  memcached: {expected}\n  we:        {answer}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} of them:\n{}", faults.len(), faults.join("\n"));
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, length) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'x', high, low, ..]) => {
                let digit = |d: u8| char::from(d).to_digit(16).unwrap() as u8;
                (digit(*high) << 4 | digit(*low), 4)
            }
            _ => (first, 1),
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out
}

#[test]
fn an_item_ends_when_its_time_is_up() {
    let talk = Talk::new();
    talk.expect("set a 0 10 1\r\n1\r\nset b 0 0 1\r\n2\r\n", "STORED\r\nSTORED\r\n");
    talk.wait(9);
    talk.expect("mg a t v\r\n", "VA 1 t1\r\n1\r\n");
    talk.wait(1);
    talk.expect("get a b\r\n", "VALUE b 0 1\r\n2\r\nEND\r\n");
    assert_eq!((talk.cache.stats().items, talk.cache.stats().expired), (1, 1), "dropped when it was read");
    talk.expect("add a 0 0 1\r\n3\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n3\r\nEND\r\n");
}

#[test]
fn a_dead_item_is_none_for_any_command() {
    for (command, answer) in [
        ("get a", "END"),
        ("gat 10 a", "END"),
        ("touch a 10", "NOT_FOUND"),
        ("incr a 1", "NOT_FOUND"),
        ("delete a", "NOT_FOUND"),
        ("append a 0 0 1\r\nx", "NOT_STORED"),
        ("replace a 0 0 1\r\nx", "NOT_STORED"),
        ("cas a 0 0 1 1\r\nx", "NOT_FOUND"),
        ("add a 0 0 1\r\nx", "STORED"),
        ("mg a k", "EN ka"),
        ("mg a N5 t", "HD t5 W"),
        ("md a", "NF"),
        ("ma a", "NF"),
        ("ma a N0 J7 v", "VA 1\r\n7"),
        ("me a", "EN"),
    ] {
        let talk = Talk::new();
        talk.expect("set a 0 1 1\r\n1\r\n", "STORED\r\n");
        talk.wait(1);
        talk.expect(&format!("{command}\r\n"), &format!("{answer}\r\n"));
    }
}

#[test]
fn a_touch_moves_the_end() {
    let talk = Talk::new();
    talk.expect("set a 0 5 1\r\n1\r\ntouch a 100\r\n", "STORED\r\nTOUCHED\r\n");
    talk.wait(50);
    talk.expect("gat 60 a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    talk.wait(59);
    talk.expect("mg a T0 t\r\n", "HD t-1\r\n");
    talk.wait(1_000_000);
    talk.expect("mg a t\r\n", "HD t-1\r\n");
}

#[test]
fn an_absolute_time_is_a_unix_time() {
    let talk = Talk::new();
    let at = super::START + 7;
    talk.expect(&format!("set a 0 {at} 1\r\n1\r\nmg a t\r\n"), "STORED\r\nHD t7\r\n");
    talk.wait(7);
    talk.expect("get a\r\n", "END\r\n");
    talk.expect("set a 0 2592001 1\r\n1\r\nget a\r\n", "STORED\r\nEND\r\n");
}

/// As observed: the first read marks, the second moves the time of last use.
#[test]
fn last_access_moves_from_the_second_read_on() {
    let talk = Talk::new();
    talk.expect("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    talk.wait(2);
    talk.expect("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    talk.wait(1);
    talk.expect("mg a l h\r\n", "HD l3 h1\r\n");
    talk.wait(1);
    talk.expect("mg a l h\r\nme a\r\n", "HD l1 h1\r\nME a exp=-1 la=0 cas=2 fetch=yes cls=1 size=61\r\n");
    talk.wait(5);
    talk.expect("add a 0 0 1\r\n2\r\nmg a l u\r\n", "NOT_STORED\r\nHD l0\r\n");
    talk.wait(5);
    talk.expect("incr a 1\r\nmg a l u\r\n", "2\r\nHD l0\r\n");
}

#[test]
fn a_win_is_given_again_only_after_a_set_or_an_invalidation() {
    let talk = Talk::new();
    talk.expect("ms a 1 T20\r\n1\r\n", "HD\r\n");
    talk.wait(15);
    talk.expect("mg a R10 t\r\nmg a R10 t\r\n", "HD t5 W\r\nHD t5 Z\r\n");
    talk.expect("md a I T30\r\nmg a\r\nmg a\r\n", "HD\r\nHD X W\r\nHD Z X\r\n");
    talk.expect("ms a 1\r\n2\r\nmg a v\r\n", "HD\r\nVA 1\r\n2\r\n");
}

#[test]
fn a_delayed_flush_takes_what_is_older_than_its_moment() {
    let talk = Talk::new();
    talk.expect(
        "set a 0 0 1\r\n1\r\nflush_all 3\r\nget a\r\n",
        "STORED\r\nOK\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    );
    talk.wait(1);
    talk.expect("set b 0 0 1\r\n2\r\nget b\r\n", "STORED\r\nVALUE b 0 1\r\n2\r\nEND\r\n");
    talk.wait(1);
    // Observed: memcached bites a second early, and then also at what is set in that second.
    talk.expect("get a b\r\nset b 0 0 1\r\n3\r\nget b\r\n", "END\r\nSTORED\r\nEND\r\n");
    talk.wait(1);
    talk.expect("set b 0 0 1\r\n4\r\nget a b\r\n", "STORED\r\nVALUE b 0 1\r\n4\r\nEND\r\n");
    talk.wait(100);
    talk.expect("get b\r\n", "VALUE b 0 1\r\n4\r\nEND\r\n");
}

#[test]
fn a_flush_at_once_ends_one_that_waits() {
    let talk = Talk::new();
    talk.expect("flush_all 10\r\nset a 0 0 1\r\n1\r\nflush_all\r\n", "OK\r\nSTORED\r\nOK\r\n");
    talk.expect("get a\r\nset a 0 0 1\r\n2\r\n", "END\r\nSTORED\r\n");
    talk.wait(20);
    talk.expect("get a\r\n", "VALUE a 0 1\r\n2\r\nEND\r\n");
    assert_eq!(talk.cache.stats().items, 1);
}

/// The header of 48, key and NUL, flags, value and CRLF, cas: 1 MiB and not a byte more.
#[test]
fn an_item_is_as_large_as_memcached_lets_it_be() {
    for (flags, length, fits) in
        [(0, 1_048_516, true), (0, 1_048_517, false), (1, 1_048_512, true), (1, 1_048_513, false)]
    {
        let talk = Talk::new();
        let value = "z".repeat(length);
        let answer = if fits { "STORED\r\n" } else { "SERVER_ERROR object too large for cache\r\n" };
        talk.expect(&format!("set a {flags} 0 {length}\r\n{value}\r\n"), answer);
        let answer = if fits { format!("HD s{length}\r\n") } else { "EN\r\n".to_owned() };
        talk.expect("mg a s\r\n", &answer);
    }
}

#[test]
fn a_value_that_is_too_large_takes_the_old_one_away_in_set_and_ms_only() {
    let big = "y".repeat(2_000_000);
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    for (command, old_stays) in [
        ("set a 0 0 2000000", false),
        ("add a 0 0 2000000", true),
        ("append a 0 0 2000000", true),
        ("cas a 0 0 2000000 1", true),
        ("ms a 2000000", false),
        ("ms a 2000000 ME k", false),
    ] {
        let talk = Talk::new();
        talk.expect("set a 0 0 1\r\n1\r\n", "STORED\r\n");
        talk.expect(&format!("{command}\r\n{big}\r\n"), too_large);
        talk.expect("mg a s\r\n", if old_stays { "HD s1\r\n" } else { "EN\r\n" });
    }
}

#[test]
fn a_join_that_gets_too_large_is_not_stored() {
    let talk = Talk::new();
    let value = "x".repeat(1_048_400);
    let more = "y".repeat(200);
    talk.expect(&format!("set a 0 0 1048400\r\n{value}\r\n"), "STORED\r\n");
    talk.expect(&format!("append a 0 0 200\r\n{more}\r\n"), "NOT_STORED\r\n");
    talk.expect(&format!("ms a 200 MA k s c\r\n{more}\r\n"), "NS ka s200 c0\r\n");
    talk.expect("mg a s\r\n", "HD s1048400\r\n");
}

/// What memcached keeps in pieces is no number, however it begins.
#[test]
fn a_number_may_be_half_a_mebibyte_long() {
    let talk = Talk::new();
    let length = 512 * 1024 - 60;
    let padding = " ".repeat(length - 1);
    talk.expect(&format!("set a 0 0 {length}\r\n1{padding}\r\nincr a 1\r\n"), "STORED\r\n2\r\n");
    talk.expect("get a\r\n", &format!("VALUE a 0 {length}\r\n2{padding}\r\nEND\r\n"));
    let answer = "STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    talk.expect(&format!("set a 0 0 {}\r\n1{padding} \r\nincr a 1\r\n", length + 1), answer);
}
