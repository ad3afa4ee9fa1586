//! The operations of memcached's text protocol, classic and meta, and the class that routes go by.

/// One operation on one key. Administrative commands (`version`, `stats`, …) are [`super::Admin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    Gets,
    Gat,
    Gats,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Incr,
    Decr,
    Delete,
    Touch,
    MetaGet,
    MetaSet,
    MetaDelete,
    MetaArithmetic,
    MetaDebug,
}

/// mcrouter's groups of operations (Memcache.idl): routes decide by class, never by single command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    GetLike,
    UpdateLike,
    DeleteLike,
    ArithmeticLike,
    /// `touch` and `me`: no group in mcrouter.
    Other,
}

impl Op {
    pub const ALL: [Self; 19] = [
        Self::Get,
        Self::Gets,
        Self::Gat,
        Self::Gats,
        Self::Set,
        Self::Add,
        Self::Replace,
        Self::Append,
        Self::Prepend,
        Self::Cas,
        Self::Incr,
        Self::Decr,
        Self::Delete,
        Self::Touch,
        Self::MetaGet,
        Self::MetaSet,
        Self::MetaDelete,
        Self::MetaArithmetic,
        Self::MetaDebug,
    ];

    /// The command word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Gets => "gets",
            Self::Gat => "gat",
            Self::Gats => "gats",
            Self::Set => "set",
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Prepend => "prepend",
            Self::Cas => "cas",
            Self::Incr => "incr",
            Self::Decr => "decr",
            Self::Delete => "delete",
            Self::Touch => "touch",
            Self::MetaGet => "mg",
            Self::MetaSet => "ms",
            Self::MetaDelete => "md",
            Self::MetaArithmetic => "ma",
            Self::MetaDebug => "me",
        }
    }

    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Get | Self::Gets | Self::Gat | Self::Gats | Self::MetaGet => Class::GetLike,
            Self::Set
            | Self::Add
            | Self::Replace
            | Self::Append
            | Self::Prepend
            | Self::Cas
            | Self::MetaSet => Class::UpdateLike,
            Self::Delete | Self::MetaDelete => Class::DeleteLike,
            Self::Incr | Self::Decr | Self::MetaArithmetic => Class::ArithmeticLike,
            Self::Touch | Self::MetaDebug => Class::Other,
        }
    }

    /// `get gets gat gats`: answered by `VALUE … END`, and the only ones that may name several keys.
    #[must_use]
    pub const fn is_classic_get(self) -> bool {
        matches!(self, Self::Get | Self::Gets | Self::Gat | Self::Gats)
    }

    #[must_use]
    pub const fn is_meta(self) -> bool {
        matches!(
            self,
            Self::MetaGet | Self::MetaSet | Self::MetaDelete | Self::MetaArithmetic | Self::MetaDebug
        )
    }

    /// Whether a data block follows the line.
    #[must_use]
    pub const fn has_value(self) -> bool {
        matches!(self.class(), Class::UpdateLike)
    }
}
