//! Whether an address is one that ringway itself listens on: a server there would be a circle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where ringway listens.
pub type Own = Vec<SocketAddr>;

/// Addresses of nobody, for books to show (RFC 5737, RFC 3849).
const NOBODYS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOBODYS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// With `0.0.0.0` every address of this machine is meant.
pub(super) fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|own| {
        let own_ip = own.ip().to_canonical();
        own.port() == address.port()
            && (own_ip == ip || own_ip.is_unspecified() && is_of_this_machine(ip, address.port()))
    })
}

/// A socket can be bound to the addresses of this machine only; except where it can be bound to any (`ip_nonlocal_bind`, as
/// machines have it that take over addresses of others). There it is the address that this machine would speak from to it;
/// which says less: from a second address of one network that would be the first.
fn is_of_this_machine(ip: IpAddr, port: u16) -> bool {
    let nobodys = if ip.is_ipv4() { NOBODYS_V4 } else { NOBODYS_V6 };
    ip.is_loopback() || can_be_bound(ip) && (!can_be_bound(nobodys) || is_spoken_to_from_itself(ip, port))
}

fn can_be_bound(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Asks the routes; nothing is sent.
fn is_spoken_to_from_itself(ip: IpAddr, port: u16) -> bool {
    let any = if ip.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, port))?;
        socket.local_addr()
    };
    from().is_ok_and(|from| from.ip() == ip)
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
            ("[::ffff:127.0.0.1]:6000", true),
            ("[::ffff:127.0.0.9]:5000", true),
            ("[::ffff:203.0.113.9]:5000", false),
        ] {
            assert_eq!(is_own(&own, address.parse().unwrap()), expected, "{address}");
        }
        let mapped: Own = vec!["[::ffff:127.0.0.1]:5000".parse().unwrap()];
        assert!(is_own(&mapped, "127.0.0.1:5000".parse().unwrap()));
    }

    /// As on a machine where sockets can be bound to any address.
    #[test]
    fn routes_tell_whose_an_address_is() {
        assert!(is_spoken_to_from_itself(Ipv4Addr::LOCALHOST.into(), 5000));
        assert!(!is_spoken_to_from_itself("203.0.113.9".parse().unwrap(), 5000));
        assert!(!is_spoken_to_from_itself(NOBODYS_V6, 5000));
    }
}
