//! A relay that forwards both ways, one byte at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A relay on a free port of 127.0.0.1.
pub(crate) struct Relay {
    address: String,
}

impl Relay {
    /// To the server at this address.
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let Ok(far) = TcpStream::connect(&server) else { continue };
                let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || forward(near, far));
                thread::spawn(move || forward(far2, near2));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let _ = to.set_nodelay(true);
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        // a large value would take minutes: its middle may pass at once
        let (slow, fast) = if n > 2048 { buffer[..n].split_at(64) } else { (&buffer[..n], &buffer[..0]) };
        if n == 0 || slow.iter().try_for_each(|b| to.write_all(&[*b])).is_err() || to.write_all(fast).is_err()
        {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
