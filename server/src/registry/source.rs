//! Where lists of registered models come from: the node's registry service, or a broker that pushes
//! them. A source only brings lists; what becomes of them is the business of [`super::registrar`].

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;

/// What a source has to say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RegistryUpdate {
    /// The whole list as it is now.
    Models(Vec<Value>),
    /// The list is what it was.
    Unchanged,
    /// The source could not be asked; it tries again by itself.
    Failed(String),
}

/// A source of lists.
#[async_trait]
pub trait RegistrySource: Send {
    /// Name of the source in logs and `/status`.
    fn name(&self) -> &'static str;

    /// Where it asks; empty for a source that is told.
    fn location(&self) -> String {
        String::new()
    }

    /// The next update; `None` once the source has closed for good.
    async fn next(&mut self) -> Option<RegistryUpdate>;
}

/// Lists that somebody else pushes, as a broker does. spec: broker §7.1
#[derive(Debug)]
pub struct PushedRegistry {
    lists: mpsc::Receiver<Vec<Value>>,
}

impl PushedRegistry {
    /// A source and the end to push into. A list that is not taken yet holds the pusher back.
    #[must_use]
    pub fn new() -> (mpsc::Sender<Vec<Value>>, Self) {
        let (sender, lists) = mpsc::channel(1);
        (sender, Self { lists })
    }
}

#[async_trait]
impl RegistrySource for PushedRegistry {
    fn name(&self) -> &'static str {
        "broker"
    }

    async fn next(&mut self) -> Option<RegistryUpdate> {
        self.lists.recv().await.map(RegistryUpdate::Models)
    }
}
