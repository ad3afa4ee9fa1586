//! The classic commands, and the framing that both dialects share.
