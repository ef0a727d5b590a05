//! Bringing in something new without betting the worker on it. [`trial`] lets a second engine take a
//! part of the users' requests and takes them back when it does worse; [`probe`] asks an engine for a
//! short completion and one verified proof before its model is mined; [`record`] remembers what ran
//! before, so that one call brings it back ([`rollback`]). spec: proxy §25

pub mod arm;
pub mod judge;
pub mod probe;
pub mod record;
pub mod rollback;
pub mod trial;
