//! The graphics cards of this machine: how busy, full and hot they are ([`gauges`]).

pub mod gauges;
