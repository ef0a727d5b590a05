//! The embedded development chain: it hands out jobs with easy targets, checks every result by the
//! node's rules and moves its tip, so that a worker can be run, shown and tested without a network.
//! Nothing it makes has any value. Its VDF is the network's, with one short proof for each parent
//! block: [`vdf`].
//!
//! A proxy in the same process reaches it through [`link`]; one in another process, which believes
//! it talks to a node, through [`node`] and [`registry`]; a worker of a compute broker through
//! [`broker`].

pub mod broker;
pub mod chain;
pub mod check;
pub mod ledger;
pub mod link;
pub mod messages;
pub mod node;
pub mod node_command;
pub mod registry;
pub mod vdf;
