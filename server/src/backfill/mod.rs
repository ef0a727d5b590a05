//! Backfill: requests of the proxy's own that keep the engine busy when users do not.

pub mod id;
