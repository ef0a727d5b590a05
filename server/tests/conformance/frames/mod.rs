//! The groups of `frames.json`: what a worker says to a broker, frame by frame.

mod hello;
mod jobs;
mod messages;
mod mining;
pub mod overrides;
mod rig;
mod socket;

use crate::Runner;

pub const GROUPS: &[(&str, Runner)] = &[
    ("share_target", messages::share_target),
    ("mining_response", messages::mining_response),
    ("block_header", messages::block_header),
    ("hello", hello::run),
    ("mine_request_validation", mining::mine_request_validation),
    ("sessions", mining::sessions),
    ("start_jobs", jobs::start_jobs),
    ("proof_requests", jobs::proof_requests),
    ("tools", jobs::tools),
    ("ws_raw_frames", socket::run),
];

/// Members that are no groups.
pub const NO_GROUPS: &[&str] = &["name", "set", "source", "conventions", "fixed_env"];

/// Groups that are not run here, with the reason.
pub const SKIPPED: &[(&str, &str)] = &[
    ("confidential", "confidential jobs are refused (broker 10); start_jobs and tools show it"),
    ("registry_rest", "answers of the node's registry service, which is not this program"),
    ("egress_config", "settings of the engines' sampler, which the proxy never reads"),
];
