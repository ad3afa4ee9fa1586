//! The embedded server: a bounded in-process cache with memcached's semantics.
