//! The spool and what goes through it: durability ([`durable`]), limits ([`limits`]), deliveries
//! ([`delivery`]), failing disks ([`faults`]), the command line ([`command`]).

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command;
mod delivery;
mod disk;
mod durable;
mod faults;
mod limits;
mod stage;
