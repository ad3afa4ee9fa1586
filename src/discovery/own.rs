//! Whether an address is one that ringway itself listens on: a server there would be a circle.

use std::net::{SocketAddr, UdpSocket};

/// Where ringway listens.
pub type Own = Vec<SocketAddr>;

/// With `0.0.0.0` every address of this machine is meant.
pub(super) fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    own.iter().any(|own| {
        own.port() == address.port()
            && (own.ip() == address.ip() || own.ip().is_unspecified() && is_of_this_machine(address))
    })
}

/// A socket can be bound to the addresses of this machine only.
fn is_of_this_machine(address: SocketAddr) -> bool {
    address.ip().is_loopback() || UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles() {
        let own: Own = vec!["0.0.0.0:5000".parse().unwrap(), "127.0.0.1:6000".parse().unwrap()];
        for (address, expected) in [
            ("127.0.0.9:5000", true),
            ("127.0.0.9:6000", false),
            ("127.0.0.1:6000", true),
            ("127.0.0.1:5001", false),
            ("203.0.113.9:5000", false),
            ("[::1]:5000", true),
        ] {
            assert_eq!(is_own(&own, address.parse().unwrap()), expected, "{address}");
        }
    }
}
