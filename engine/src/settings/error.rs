//! Why the environment refuses the start.

use std::fmt;

/// One variable and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// What is wrong with its value.
    pub problem: Problem,
}

/// What is wrong with a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The value is none of the known words.
    UnknownWord {
        /// The value.
        found: String,
        /// The known words.
        allowed: &'static str,
    },
    /// The value is not UTF-8 text.
    NotUtf8,
    /// The host is empty.
    EmptyHost,
    /// The host holds a character no host has.
    HostCharacter {
        /// The character.
        bad: char,
    },
    /// The value is not a port.
    Port {
        /// The value.
        found: String,
    },
    /// The value is not a count.
    Count {
        /// The value.
        found: String,
    },
    /// The copy to the proxy makes no sense where the proxy is the only destination.
    ProxyInBrokerMode,
    /// The primary destination of broker mode looks like a node.
    NodeInBrokerMode {
        /// The host.
        host: String,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.variable;
        match &self.problem {
            Problem::UnknownWord { found, allowed } => {
                write!(f, "{name}={found:?} is not known; it must be {allowed}")
            }
            Problem::NotUtf8 => write!(f, "{name} is not UTF-8 text"),
            Problem::EmptyHost => write!(f, "{name} is empty; unset it to take the default host"),
            Problem::HostCharacter { bad } => {
                write!(f, "{name} holds {bad:?}, which no host name or address has")
            }
            Problem::Port { found } => {
                write!(f, "{name}={found:?} is not a port; it must be a number from 1 to 65535")
            }
            Problem::Count { found } => {
                write!(f, "{name}={found:?} is not a number from 1 to 1048576")
            }
            Problem::ProxyInBrokerMode => write!(
                f,
                "{name} is on while POW_EGRESS_MODE=broker; in broker mode the proxy is already \
                 the only destination, so unset one of the two"
            ),
            Problem::NodeInBrokerMode { host } => write!(
                f,
                "{name}={host} names a node while POW_EGRESS_MODE=broker sends to the proxy's \
                 collector; point it at the proxy or use local_miner"
            ),
        }
    }
}

impl std::error::Error for SettingsError {}
