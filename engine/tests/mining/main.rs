//! The runtime from the request to the socket, with a synthetic model in place of a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test helper does

mod admission;
mod emission;
mod lifecycle;
mod refusals;
mod world;
