//! Conversations with the cache.
