//! Takes posts from the outbox to their platforms.
