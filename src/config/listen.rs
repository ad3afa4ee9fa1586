//! Where clients connect: `ip:port`, `[ip6]:port`, `unix:/path`, `fd:N` (an inherited, listening socket).

use std::net::SocketAddr;
use std::path::PathBuf;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A listening socket that the process was started with.
    Fd(i32),
}
