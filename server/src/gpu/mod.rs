//! The graphics cards of this machine: what a worker advertises of them ([`card`]), and how busy, full
//! and hot they are ([`gauges`]) and what they have drawn ([`meter`]).

pub mod card;
pub mod gauges;
pub mod meter;
mod nvidia;
