//! A server that stalls, resets, lies or leaves: no client ever gets an answer that is not its own.

use crate::support::{
    Client, Memcached, Mock, PATIENCE, Proxy, dead_address, has_memcached, pool_of, usual_answer,
};
use std::time::{Duration, Instant};

const CLOSED: &str = "SERVER_ERROR Connection closed by the server.";
const UNEXPECTED: &str = "SERVER_ERROR Received unexpected data from the server.";
const UNAVAILABLE: &str = "SERVER_ERROR Server unavailable. Reason: ";
const TIMEOUT: &str = "SERVER_ERROR Reply timeout\r\n";

#[test]
fn greets_a_server_with_version_before_the_first_request() {
    let mock = Mock::start(|peer| {
        peer.no_handshake();
        peer.expect("version");
        peer.wait();
        peer.say("VERSION 1.6.45\r\n");
        peer.expect("get a");
        peer.say("END\r\n");
        peer.expect_closed();
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("get a\r\n");
    mock.expect("version");
    mock.expect_nothing(); // the request waits for the greeting
    mock.go();
    client.expect("END\r\n");
}

#[test]
fn a_server_that_greets_wrongly_is_not_asked() {
    let mock = Mock::start(|peer| {
        peer.no_handshake();
        while let Some(asked) = peer.request() {
            assert_eq!(asked.line, "version");
            peer.say("HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    proxy.client().ask_line("get a\r\n", "SERVER_ERROR ");
    mock.expect("version");
}

#[test]
fn a_server_that_accepts_and_never_greets_is_a_timeout() {
    let mock = Mock::start(|peer| {
        peer.no_handshake();
        while peer.request().is_some() {}
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 2s\nconnect_timeout: 200ms");
    let mut client = proxy.client();
    let line = client.ask_line("get a\r\n", "SERVER_ERROR ");
    assert!(line.contains("timeout"), "{line}");
    mock.expect("version");
    client.expect_nothing();
}

#[test]
fn an_answer_before_the_data_was_sent_leaves_nothing_out_of_step() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect_line_only("set a 0 0 1000000");
            peer.say("SERVER_ERROR object too large for cache\r\n");
            peer.swallow(1_000_002);
        }
        while let Some(asked) = peer.request() {
            peer.say(if asked.line == "get b" {
                "VALUE b 0 2\r\nok\r\nEND\r\n".into()
            } else {
                usual_answer(&asked)
            });
        }
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 20s");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.send(format!("set a 0 0 1000000\r\n{}\r\nget b\r\n", "v".repeat(1_000_000)));
    one.expect_line("SERVER_ERROR ");
    one.expect("VALUE b 0 2\r\nok\r\nEND\r\n");
    two.ask("get b\r\n", "VALUE b 0 2\r\nok\r\nEND\r\n");
}

/// The server refuses a large value before it has read it, and dies: what was not sent of the value must never
/// reach the next connection, where it would be taken for commands.
#[test]
fn the_rest_of_a_refused_value_is_not_sent_to_the_next_connection() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect_line_only("set a 0 0 16000000");
            peer.say("SERVER_ERROR object too large for cache\r\n");
            peer.wait(); // until the client has that answer, while the rest of the value does not fit the socket
            return peer.close();
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::with(&format!(
        "limits: {{value_bytes_max: 32MiB}}\n{}",
        pool_of(&[mock.address()], "timeout: 20s")
    ));
    let mut client = proxy.client();
    // A value made of commands.
    client.send(format!("set a 0 0 16000000\r\n{}\r\n", "flush_all\r\nabcde".repeat(1_000_000)));
    client.expect_line("SERVER_ERROR object too large");
    mock.expect("set a 0 0 16000000");
    mock.go();
    while !client.ask_line("get b\r\n", "").starts_with("END") {}
    mock.expect("get b");
}

#[test]
fn a_stalled_server_costs_a_timeout_and_its_late_reply_goes_to_nobody() {
    let mock = Mock::start(|peer| {
        peer.expect("get slow");
        peer.wait();
        peer.say("VALUE slow 0 4\r\nlate\r\nEND\r\n");
        peer.expect("get quick");
        peer.say("VALUE quick 0 2\r\nok\r\nEND\r\n");
        peer.expect("get again");
        peer.say("END\r\n");
        assert_eq!(peer.number, 0, "the connection is kept");
        peer.expect_closed();
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 300ms");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("get slow\r\n", TIMEOUT);
    two.send("get quick\r\n");
    mock.expect("get slow");
    mock.go();
    two.expect("VALUE quick 0 2\r\nok\r\nEND\r\n");
    one.ask("get again\r\n", "END\r\n");
    one.expect_nothing();
    two.expect_nothing();
}

#[test]
fn late_replies_are_swallowed_in_order_whatever_they_are() {
    let mock = Mock::start(|peer| {
        peer.expect("get a b c");
        peer.expect("set d 0 0 1");
        peer.expect("mg e v O1");
        peer.expect("incr f 1");
        peer.wait();
        peer.say("VALUE a 0 5\r\nEND\r\n\r\nVALUE c 0 0\r\n\r\nEND\r\nSTORED\r\nVA 2 O1\r\nhi\r\n7\r\n");
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 400ms\ntko: off");
    let mut client = proxy.client();
    client.send("get a b c\r\nset d 0 0 1\r\n1\r\nmg e v O1\r\nincr f 1\r\n");
    for _ in 0..4 {
        client.expect(TIMEOUT);
    }
    mock.go();
    client.ask("get x\r\n", "END\r\n");
    client.ask("set x 0 0 1\r\n1\r\n", "STORED\r\n");
    client.expect_nothing();
}

#[test]
fn half_a_reply_and_then_silence_is_a_timeout_too() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a");
            peer.say("VALUE a 0 10\r\n12345");
            peer.wait();
            peer.say("67890\r\nEND\r\n");
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 300ms");
    let mut client = proxy.client();
    client.ask("get a\r\n", TIMEOUT);
    mock.go();
    client.ask("get b\r\n", "END\r\n");
    client.expect_nothing();
}

#[test]
fn a_timeout_counts_from_the_moment_of_asking() {
    let mock = Mock::start(|peer| while peer.request().is_some() {});
    let proxy = Proxy::before(&[mock.address()], "timeout: 500ms");
    let mut client = proxy.client();
    let asked = Instant::now();
    client.ask("get a\r\n", TIMEOUT);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "took {took:?}");
}

#[test]
fn a_reset_in_the_middle_of_a_reply_is_an_error_and_the_next_request_works() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a");
            peer.say("VALUE a 0 10\r\n12345");
            peer.reset();
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("get a\r\n", "SERVER_ERROR ");
    client.ask("get b\r\n", "END\r\n");
    client.expect_nothing();
}

#[test]
fn a_close_in_the_middle_of_a_reply_says_so() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a");
            peer.say("VALUE a 0 10\r\n12345");
            peer.close();
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("get a\r\n", CLOSED);
    client.ask("get b\r\n", "END\r\n");
}

#[test]
fn a_multi_get_that_was_cut_off_is_no_mixture() {
    let mock = Mock::start(|peer| {
        peer.expect("get a b");
        if peer.number == 0 {
            peer.say("VALUE a 0 3\r\nold\r\nVALUE b 0 3\r\no");
        } else {
            peer.say("VALUE b 0 3\r\nnew\r\nEND\r\n");
            peer.expect_closed();
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("get a b\r\n", CLOSED);
    client.ask("get a b\r\n", "VALUE b 0 3\r\nnew\r\nEND\r\n");
}

#[test]
fn a_dropped_connection_fails_what_was_written_on_it_and_nothing_else() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("set a 0 0 1");
            peer.say("STORED\r\n");
            peer.expect("set b 0 0 1");
            peer.expect("set c 0 0 1");
            peer.close();
            return;
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nset c 0 0 1\r\n3\r\n");
    client.expect("STORED\r\n");
    client.expect_line(CLOSED);
    client.expect_line(CLOSED);
    client.ask("set d 0 0 1\r\n4\r\n", "STORED\r\n");
    client.expect_nothing();
}

#[test]
fn garbage_fails_the_request_and_the_connection() {
    for garbage in [
        "what?\r\n",
        "VALUE a 0\r\n",
        "VALUE a 0 x\r\n1\r\nEND\r\n",
        "VALUE a 0 -1\r\n",
        "VALUE a 0 1\r\n123\r\nEND\r\n",
        "VALUE a 0 18446744073709551616\r\n1\r\nEND\r\n",
        "VALUE a 0 4294967297\r\n1\r\nEND\r\n",
        "STORED\r\n",
        "HD\r\n",
        "\0\0\0\0\r\n",
        "\r\n",
        "END \r\nEND\r\n",
        "END\n",
        "VALUE a 0 1\n1\r\nEND\r\n",
        &format!("get {}", "a".repeat(4096)),
    ] {
        let text = garbage.to_owned();
        let mock = Mock::start(move |peer| {
            if peer.number == 0 {
                peer.expect("get a");
                peer.say(&text);
                peer.expect_closed();
                return;
            }
            while peer.answer_as_usual() {}
        });
        let proxy = Proxy::before(&[mock.address()], "");
        let mut client = proxy.client();
        client.send("get a\r\n");
        let line = client.line();
        assert!(line.starts_with(UNEXPECTED), "after {garbage:?}: {line}");
        client.ask("get b\r\n", "END\r\n");
        client.expect_nothing();
    }
}

#[test]
fn garbage_without_end_does_not_fill_the_memory() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a");
            for _ in 0..200 {
                peer.say(vec![b'x'; 64 << 10]);
            }
            peer.expect_closed();
            return;
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("get a\r\n", UNEXPECTED);
    client.ask("get b\r\n", "END\r\n");
}

#[test]
fn a_value_for_another_key_reaches_nobody() {
    for wrong in [
        "VALUE b 0 6\r\nsecret\r\nEND\r\n",
        "VALUE aa 0 6\r\nsecret\r\nEND\r\n",
        "VALUE a 0 1\r\n1\r\nVALUE a 0 6\r\nsecret\r\nEND\r\n",
    ] {
        let mock = Mock::start(move |peer| {
            if peer.number == 0 {
                peer.expect("get a");
                peer.say(wrong);
                peer.expect_closed();
                return;
            }
            while peer.answer_as_usual() {}
        });
        let proxy = Proxy::before(&[mock.address()], "");
        let mut client = proxy.client();
        client.ask_line("get a\r\n", UNEXPECTED);
        client.ask("get b\r\n", "END\r\n");
        client.expect_nothing();
    }
}

#[test]
fn values_out_of_order_in_a_multi_get_reach_nobody() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a b c");
            peer.say("VALUE b 0 1\r\n2\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
            peer.expect_closed();
            return;
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("get a b c\r\n", UNEXPECTED);
    client.ask("get a b c\r\n", "END\r\n");
}

#[test]
fn a_meta_reply_with_another_opaque_reaches_nobody() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            let asked = peer.request().unwrap();
            assert!(asked.line.starts_with("mg a v"), "{}", asked.line);
            peer.say("VA 6 O99999999\r\nsecret\r\n");
            peer.expect_closed();
            return;
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask_line("mg a v\r\n", UNEXPECTED);
    client.ask("mg a v\r\n", "EN\r\n");
}

#[test]
fn a_surplus_reply_is_for_nobody() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            peer.expect("get a");
            peer.say("END\r\nVALUE b 0 6\r\nsecret\r\nEND\r\n");
            peer.expect_closed();
            return;
        }
        while let Some(asked) = peer.request() {
            peer.say(if asked.line == "get b" {
                "VALUE b 0 2\r\nok\r\nEND\r\n".into()
            } else {
                usual_answer(&asked)
            });
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.send("get a\r\n");
    let line = one.line();
    assert!(line == "END" || line.starts_with("SERVER_ERROR"), "{line}");
    two.ask("get b\r\n", "VALUE b 0 2\r\nok\r\nEND\r\n");
    one.ask("get b\r\n", "VALUE b 0 2\r\nok\r\nEND\r\n");
}

#[test]
fn words_from_an_idle_server_close_the_connection() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        peer.say("END\r\n");
        if peer.number == 0 {
            peer.wait();
            peer.say("VALUE a 0 6\r\nsecret\r\nEND\r\n");
            peer.expect_closed();
            peer.report("closed");
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    mock.expect("get a");
    mock.go();
    mock.expect("closed");
    client.ask("get a\r\n", "END\r\n");
    client.expect_nothing();
    client.ask("stats reset\r\n", "RESET\r\n");
    assert_eq!(client.stat("desync_detected"), 1, "nobody may hide it");
}

#[test]
fn an_error_line_of_a_server_is_an_answer_in_step() {
    let errors = [
        "ERROR\r\n",
        "CLIENT_ERROR bad command line format\r\n",
        "SERVER_ERROR out of memory storing object\r\n",
        "SERVER_ERROR out of memory writing get response\r\n",
    ];
    let mock = Mock::start(move |peer| {
        assert_eq!(peer.number, 0, "the connection is kept");
        for error in errors {
            peer.request().unwrap();
            peer.say(error);
            peer.request().unwrap();
            peer.say(error);
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for error in errors {
        client.ask("get a\r\n", error);
        client.ask("set a 0 0 1\r\n1\r\n", error);
    }
    client.ask("get a\r\n", "END\r\n");
}

#[test]
fn an_error_line_in_the_middle_of_values_takes_the_place_of_the_whole_answer() {
    let mock = Mock::start(|peer| {
        peer.expect("get a b c");
        peer.say("VALUE a 0 1\r\n1\r\nSERVER_ERROR out of memory writing get response\r\n");
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("get a b c\r\n", "SERVER_ERROR out of memory writing get response\r\n");
    client.ask("get a\r\n", "END\r\n");
}

#[test]
fn a_get_that_meets_a_closed_connection_is_sent_once_more() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        if peer.number == 0 {
            peer.say("END\r\n");
            peer.expect("get a");
            peer.close(); // no byte of an answer
        } else {
            peer.say("VALUE a 0 2\r\nhi\r\nEND\r\n");
            peer.expect_closed();
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    client.ask("get a\r\n", "VALUE a 0 2\r\nhi\r\nEND\r\n");
}

#[test]
fn a_server_that_closes_while_idle_is_not_noticed_by_gets() {
    let mock = Mock::start(|peer| {
        assert!(peer.answer_as_usual());
        peer.close();
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for _ in 0..50 {
        client.ask("get a\r\n", "END\r\n");
    }
}

#[test]
fn a_server_that_closes_while_idle_costs_a_set_an_error_at_most() {
    let mock = Mock::start(|peer| {
        assert!(peer.answer_as_usual());
        peer.close();
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for number in 0..50 {
        client.send("set a 0 0 1\r\n1\r\n");
        let line = client.line();
        assert!(line == "STORED" || (number > 0 && line.starts_with(CLOSED)), "{line}");
    }
    client.expect_nothing();
}

#[test]
fn a_set_is_never_sent_twice() {
    let mock = Mock::start(|peer| {
        if peer.request().is_some() {
            peer.close();
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for op in
        ["set a 0 0 1\r\n1\r\n", "incr a 1\r\n", "delete a\r\n", "ms a 1\r\n1\r\n", "append a 0 0 1\r\n1\r\n"]
    {
        client.ask_line(op, CLOSED);
        mock.heard();
        client.expect_nothing();
        mock.expect_nothing();
    }
}

#[test]
fn a_refused_connection_says_so_and_comes_back() {
    let address = dead_address();
    let proxy = Proxy::before(&[&address], "");
    let mut client = proxy.client();
    client.ask_line("get a\r\n", "SERVER_ERROR connection error");
    client.ask_line("set a 0 0 1\r\n1\r\n", UNAVAILABLE);
    let listener = std::net::TcpListener::bind(&address).unwrap();
    let _mock = Mock::on(listener, |peer| while peer.answer_as_usual() {});
    // probes come with a growing pause: ask until one has come through
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.send("get a\r\n");
        let line = client.line();
        if line == "END" {
            break;
        }
        assert!(line.starts_with("SERVER_ERROR "), "{line}");
        assert!(Instant::now() < deadline, "never reconnected");
    }
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
}

#[test]
fn a_server_that_does_not_accept_costs_the_connect_timeout() {
    // the queue of a listener with backlog 0 that nobody empties is soon full
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let proxy = Proxy::before(&[&address.to_string()], "timeout: 5s\nconnect_timeout: 300ms");
    let mut client = proxy.client();
    let asked = Instant::now();
    client.ask("get a\r\n", "SERVER_ERROR connection timeout\r\n");
    assert!(asked.elapsed() < Duration::from_secs(4), "took {:?}", asked.elapsed());
}

#[test]
fn one_dead_server_does_not_harm_the_others() {
    if !has_memcached() {
        return;
    }
    let (one, dead) = (Memcached::start(), dead_address());
    let proxy = Proxy::before(&[one.address(), &dead], "hash: modula\nkey_hash: md5");
    let mut client = proxy.client();
    let (mut good, mut bad) = (0, 0);
    for key in 0..200 {
        client.send(format!("set key{key} 0 0 1\r\n1\r\n"));
        match client.line().as_str() {
            "STORED" => good += 1,
            line => {
                let is_first = bad == 0 && line.starts_with("SERVER_ERROR connection error");
                assert!(is_first || line.starts_with(UNAVAILABLE), "{line}");
                bad += 1;
            }
        }
    }
    assert!(good > 50 && bad > 50, "{good} good, {bad} bad");
}

#[test]
fn a_client_that_leaves_in_the_middle_disturbs_nobody() {
    let mock = Mock::start(|peer| {
        peer.expect("get mine");
        peer.expect("get yours");
        peer.wait();
        peer.say("VALUE mine 0 6\r\nsecret\r\nEND\r\nVALUE yours 0 2\r\nok\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 20s");
    let mut two = proxy.client();
    let mut one = proxy.client();
    one.send("get mine\r\n");
    mock.expect("get mine");
    drop(one);
    two.send("get yours\r\n");
    mock.expect("get yours");
    mock.go();
    two.expect("VALUE yours 0 2\r\nok\r\nEND\r\n");
    two.expect_nothing();
}

#[test]
fn a_client_that_leaves_in_a_data_block_sends_nothing() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut one = proxy.client();
    one.send("set a 0 0 100\r\n12345");
    drop(one);
    let mut two = proxy.client();
    two.ask("get b\r\n", "END\r\n");
    mock.expect("get b");
    mock.expect_nothing();
}

#[test]
fn many_clients_on_a_server_that_comes_and_goes_get_their_own_values_or_an_error() {
    // every value is its key; the server closes or resets after some answers, sometimes in mid-reply
    let mock = Mock::start(|peer| {
        for turn in 0.. {
            let Some(asked) = peer.request() else { return };
            let key = asked.words()[1].to_owned();
            let answer = format!("VALUE {key} 0 {}\r\n{key}\r\nEND\r\n", key.len());
            match (peer.number + turn) % 23 {
                7 => {
                    peer.say(&answer[..answer.len() / 2]);
                    return peer.reset();
                }
                13 => return peer.close(),
                17 => {
                    peer.say(answer + "VALUE");
                    return;
                }
                _ => peer.say(answer),
            }
        }
    });
    let proxy = Proxy::before(&[mock.address()], "timeout: 10s");
    let address = proxy.address().to_owned();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let address = address.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(&address);
                let mut hits = 0;
                for turn in 0..200 {
                    let key = format!("client{worker}turn{turn}");
                    client.send(format!("get {key}\r\n"));
                    let line = client.line();
                    if line.starts_with("SERVER_ERROR ") {
                        continue;
                    }
                    assert_eq!(line, format!("VALUE {key} 0 {}", key.len()));
                    client.expect(format!("{key}\r\nEND\r\n"));
                    hits += 1;
                }
                hits
            })
        })
        .collect();
    let hits: usize = workers.into_iter().map(|w| w.join().unwrap()).sum();
    assert!(hits > 100, "only {hits} of 1600 got through");
}
