//! A relay that cuts a connection off when the client says the word.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A client that asks for this key loses its connection, and its request goes nowhere.
pub(crate) const WORD: &[u8] = b"cut-the-line";

/// A relay on a free port of 127.0.0.1. The client decides where in its conversation the connection is lost.
pub(crate) struct Cutter {
    address: String,
}

impl Cutter {
    /// In front of the server at this address.
    pub(crate) fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let Ok(far) = TcpStream::connect(&server) else { continue };
                let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || forward(near, far, Some(WORD)));
                thread::spawn(move || forward(far2, near2, None));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Until one side closes, or the word comes.
fn forward(mut from: TcpStream, mut to: TcpStream, word: Option<&[u8]>) {
    let _ = to.set_nodelay(true);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let is_cut = word.is_some_and(|w| buffer[..n].windows(w.len()).any(|part| part == w));
        if is_cut || to.write_all(&buffer[..n]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
