//! The meta commands: `mg ms md ma me`.
