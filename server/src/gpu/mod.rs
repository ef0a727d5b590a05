//! The graphics cards of this machine: what a worker advertises of them ([`card`]), and how busy, full
//! and hot they are ([`gauges`]).

pub mod card;
pub mod gauges;
mod nvidia;
