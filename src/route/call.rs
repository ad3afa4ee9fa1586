//! What travels with a request and is none of its fields.

use super::Sink;
use super::key::Parts;
use std::rc::Rc;

/// Why a request is sent, and where it came in.
#[derive(Clone, Default)]
pub struct Call {
    pub kind: Kind,
    /// The routing prefix that the root took off the key, for pools that want it back.
    pub prefix: Option<Rc<[u8]>>,
    /// What of a key is its routing key, where a route above says so.
    pub parts: Option<Parts>,
    /// Who asked, where that is known.
    pub client: Option<Client>,
    /// A route on the way wants a delete that fails to be told so (`asynclog: false`).
    pub is_unlogged: bool,
    pub moves: Moves,
    /// Who waits for what routes make of the replies in the end.
    pub asker: Option<Rc<dyn Sink>>,
}

/// What the reply is expected to hold. What moves much waits where others pass by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// So little that nobody waits for it.
    #[default]
    Little,
    /// So many bytes.
    Much(usize),
    /// Nobody knows, its client is new. So many keys are asked for.
    Unknown(usize),
}

/// A client, by its IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(u64);

impl Client {
    /// By the text of its address, as mcrouter does it.
    #[must_use]
    pub fn of_ip(ip: &str) -> Self {
        Self(crate::hash::spooky64(ip.as_bytes(), 0))
    }

    /// A number for it.
    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

/// Why a request is sent. Some rules ask: a shadow's failed delete is nobody's loss, a failover may be limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Because a client asked.
    #[default]
    Normal,
    /// Because another child failed.
    Failover,
    /// A copy of a request, whose reply nobody waits for.
    Shadow,
}

impl Call {
    /// What this client asks, and what that is expected to move.
    #[must_use]
    pub fn of(asker: Rc<dyn Sink>, client: Option<Client>, moves: Moves) -> Self {
        Self { asker: Some(asker), client, moves, ..Self::default() }
    }

    /// It is one of so many parts. Of what moves much each part is still treated as that.
    pub const fn share(&mut self, parts: usize) {
        if parts > 0
            && let Moves::Much(count) | Moves::Unknown(count) = &mut self.moves
        {
            *count = count.div_ceil(parts);
        }
    }

    /// The same for another reason. A shadow stays a shadow whatever becomes of it.
    #[must_use]
    pub fn to(&self, kind: Kind) -> Self {
        let kind = if self.kind == Kind::Shadow { Kind::Shadow } else { kind };
        Self { kind, ..self.clone() }
    }
}
