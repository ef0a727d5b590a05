//! The embedded development chain: it hands out jobs with easy targets, checks every result by the
//! node's rules and moves its tip, so that a worker can be run, shown and tested without a network.
//! Nothing it makes has any value. Its VDF is the network's, with one short proof for each parent
//! block: [`vdf`].

pub mod chain;
pub mod check;
pub mod link;
pub mod vdf;
