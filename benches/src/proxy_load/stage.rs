//! Everything under load at once: the engine without a model, and nginx and the proxy before it.

use super::client::Connection;
use super::load::chat;
use super::servers::{Engine, Server};
use super::{Args, Outcome};
use mock_engine::Settings;
use std::net::SocketAddr;
use std::time::Duration;

/// Somebody under load.
pub struct Target<'a> {
    /// Name of its column.
    pub name: &'static str,
    /// Where it is.
    pub address: SocketAddr,
    /// Its processes; none for the engine.
    pub server: Option<&'a Server>,
}

/// An engine with everything in front of it.
pub struct Stage {
    /// The engine.
    pub engine: Engine,
    servers: Vec<Server>,
}

impl Stage {
    /// Starts all of it; returns when everybody serves and the proxy mines.
    ///
    /// # Errors
    /// When somebody does not.
    pub async fn set(args: &Args, settings: Settings) -> Outcome<Self> {
        let settings = Settings { keep: 0, ..settings };
        let engine = Engine::start(settings)?;
        let mut servers: Vec<Server> =
            Server::nginx(&args.nginx, engine.mock.address)?.into_iter().collect();
        servers.push(Server::proxy(&args.proxy, engine.mock.address)?);
        let stage = Self { engine, servers };
        for server in &stage.servers {
            stage.until_it_serves(server).await?;
        }
        Ok(stage)
    }

    /// The engine itself, then whoever stands before it.
    pub fn targets(&self) -> Vec<Target<'_>> {
        let engine = Target { name: "direct", address: self.engine.mock.address, server: None };
        let servers = self.servers.iter().map(|server| Target {
            name: server.name,
            address: server.address,
            server: Some(server),
        });
        std::iter::once(engine).chain(servers).collect()
    }

    async fn until_it_serves(&self, server: &Server) -> Outcome<()> {
        let asked = chat(false, None);
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Ok(mut connection) = Connection::open(server.address).await else { continue };
            connection.send(&asked).await?;
            let answered = connection.receive(|| {}).await;
            let mines = server.name != Server::PROXY || self.engine.mock.records.mined() > 0;
            if answered.is_ok_and(|status| status == 200) && mines {
                return Ok(());
            }
        }
        Err(format!("{} does not serve", server.name).into())
    }
}
