//! `tensorpow`, the miner's proxy: it serves the OpenAI API in front of an inference engine, puts
//! the mining context on each request, collects the proofs the engine leaves and hands them to the
//! chain. One direction: a socket ([`http`]) reads a snapshot ([`mining`]), the engine answers, its
//! proof arrives ([`collector`], [`intake`]), is on disk ([`spool`], with the [`store`] to find it)
//! and goes out ([`outbox`]) to a sink ([`mining::sink`]). [`backfill`] keeps the engine busy between
//! users, [`priority`] keeps it out of their way, and [`workload`] holds both with their breakers,
//! watchdogs, objectives and books. [`drain`] says when no new work is wanted, [`heartbeat`] writes down how the worker is. [`service`] puts the pieces together; [`devnet`] is a chain to
//! try them on. Beside all that, [`proof_command`] inspects, judges and converts proofs,
//! [`spool_command`] shows those on disk, and [`vdf_command`] makes and checks VDF
//! proofs by hand. [`ui`] is the dashboard.
#![forbid(unsafe_code)]

pub mod active_model;
pub mod autoscale;
pub mod backfill;
pub mod breaker;
pub mod broker;
pub mod cache;
pub mod collector;
pub mod config;
pub mod devnet;
pub mod drain;
pub mod economics;
pub mod exposition;
pub mod gpu;
pub mod heartbeat;
pub mod http;
pub mod intake;
pub mod link;
pub mod log;
pub mod metrics;
pub mod mining;
pub mod node;
pub mod outbox;
pub mod priority;
pub mod proof_command;
pub mod quickstart;
pub mod registry;
pub mod report;
pub mod rollout;
pub mod service;
pub mod service_client;
pub mod slo;
pub mod spool;
pub mod spool_command;
pub mod store;
pub mod supervisor;
pub mod throughput;
pub mod ui;
pub mod vdf_command;
pub mod watchdog;
pub mod workload;
pub mod zap;
