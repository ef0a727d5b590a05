//! One registration with a broker, from `HELLO` on: what each frame of the broker's does. What must
//! not be lost with the connection stands in [`super::shared`]. spec: broker §1.2, §3–§9

use super::desk::Desk;
use super::frames::{Ack, Challenge, Incoming, MineCancel};
use super::inside::Inside;
use super::mine_request::{self, Refused, Wiring};
use super::outgoing::Outgoing;
use super::shared::{Shared, count};
use super::uplink::{Gone, Wire};
use super::{challenge, heartbeat, proofs, tools};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A session on one connection.
pub struct Session {
    shared: Arc<Shared>,
    inside: Arc<dyn Inside>,
    wire: Wire,
    desk: Arc<Desk>,
    heartbeat: Option<JoinHandle<()>>,
    /// Told when heartbeats do not leave any more.
    fatal: mpsc::Sender<&'static str>,
    registered: bool,
    /// Tools the broker has confirmed.
    tools: BTreeSet<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("registered", &self.registered).finish_non_exhaustive()
    }
}

impl Session {
    /// A session that has not been registered. `fatal` takes the reason why the connection must end.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        inside: Arc<dyn Inside>,
        wire: Wire,
        fatal: mpsc::Sender<&'static str>,
    ) -> Self {
        shared.uplink.open(&wire);
        let desk = Arc::default();
        let tools = BTreeSet::new();
        Self { shared, inside, wire, desk, heartbeat: None, fatal, registered: false, tools }
    }

    /// True once the broker has accepted the registration.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        self.registered
    }

    /// The inference jobs.
    #[must_use]
    pub const fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Takes one message, whatever it is.
    ///
    /// # Errors
    /// [`Gone`] when an answer cannot leave.
    pub async fn message(&mut self, message: &[u8]) -> Result<(), Gone> {
        match Incoming::read(message) {
            Some(frame) => self.handle(frame).await,
            None => {
                count(&self.shared.counters.ignored);
                tracing::debug!(bytes = message.len(), "a message that is no frame is ignored");
                Ok(())
            }
        }
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// [`Gone`] when an answer cannot leave.
    pub async fn handle(&mut self, frame: Incoming) -> Result<(), Gone> {
        match frame {
            Incoming::Ack(ack) => self.acknowledged(ack).await,
            Incoming::Challenge(challenge) => self.challenged(&challenge).await,
            Incoming::Start(start) => {
                self.desk.take(start, &self.inside, &self.shared, &self.wire).await
            }
            Incoming::ProofRequest { completion_id } => {
                let (inside, wire) = (self.inside.clone(), self.wire.clone());
                self.desk.spawn(async move {
                    let answer = proofs::answer(&*inside, completion_id).await;
                    // Without a connection nobody waits for it.
                    let _ = wire.send(&answer).await;
                });
                Ok(())
            }
            Incoming::RegistrySync(models) => {
                self.registry(models).await;
                Ok(())
            }
            Incoming::MineRequest(request) => self.lease(&request).await,
            Incoming::MineCancel(cancel) => {
                self.cancel(&cancel);
                Ok(())
            }
            Incoming::ToolRegisterAck { tool_id, registered, error } => {
                if registered {
                    self.tools.insert(tool_id);
                } else {
                    tracing::warn!(tool_id, error, "the broker does not register the tool");
                }
                Ok(())
            }
            Incoming::ToolUnregisterAck => Ok(()),
            Incoming::ToolInvoke(call) => match self.shared.toolbox.answer(&call) {
                tools::Answer::Now(answer) => self.wire.send(&answer).await,
                tools::Answer::Later(call) => {
                    let (shared, wire) = (self.shared.clone(), self.wire.clone());
                    self.desk.spawn(async move {
                        // Without a connection nobody waits for it.
                        let _ = wire.send(&shared.toolbox.run(call).await).await;
                    });
                    Ok(())
                }
            },
        }
    }

    /// The registration is accepted, again perhaps: tools are registered, heartbeats begin anew,
    /// and what was found without a connection may leave. spec: §3.2
    async fn acknowledged(&mut self, ack: Ack) -> Result<(), Gone> {
        if !self.registered {
            count(&self.shared.counters.registrations);
            tracing::info!(
                "registered with the broker as {}, a heartbeat every {} s",
                self.shared.settings.worker_id,
                ack.heartbeat_seconds
            );
        }
        self.registered = true;
        if self.shared.toolbox.asks_a_server() {
            let (shared, wire) = (self.shared.clone(), self.wire.clone());
            self.desk.spawn(async move {
                // The next registration is for the next connection.
                let _ = shared.toolbox.register(&wire).await;
            });
        } else {
            self.shared.toolbox.register(&self.wire).await?;
        }
        self.shared.uplink.register();
        if let Some(running) = self.heartbeat.take() {
            running.abort();
        }
        let (inside, desk, shared) = (self.inside.clone(), self.desk.clone(), self.shared.clone());
        let (wire, fatal) = (self.wire.clone(), self.fatal.clone());
        let every = Duration::from_secs(ack.heartbeat_seconds);
        self.heartbeat = Some(tokio::spawn(async move {
            let cause = heartbeat::beat(inside, desk, shared, wire, every).await;
            // Who does not listen has ended already.
            let _ = fatal.send(cause).await;
        }));
        Ok(())
    }

    async fn challenged(&self, challenge: &Challenge) -> Result<(), Gone> {
        let settings = &self.shared.settings;
        let Some(secret) = &settings.challenge_secret else {
            tracing::warn!("the broker has sent a CHALLENGE, but CHALLENGE_SECRET is not set");
            return Ok(());
        };
        match challenge::answer(challenge, &settings.worker_id, secret) {
            Some(answer) => self.wire.send(&answer).await,
            None => Ok(()),
        }
    }

    /// A list that is empty or none changes nothing. spec: §7.1
    async fn registry(&self, models: Option<Vec<Value>>) {
        let (Some(registry), Some(models)) = (&self.shared.registry, models) else { return };
        if models.is_empty() {
            return;
        }
        count(&self.shared.counters.registries);
        // The other end lives as long as the proxy.
        let _ = registry.send(models).await;
    }

    fn wiring(&self) -> Wiring {
        match (self.shared.settings.mining, &self.shared.jobs) {
            (false, _) => Wiring::Disabled,
            (true, None) => Wiring::NotAvailable,
            // What is mined already goes on to its end.
            (true, Some(_)) if self.inside.is_drained() => Wiring::NotAvailable,
            (true, Some(_)) => Wiring::Wired,
        }
    }

    /// A new lease replaces what is mined at once. spec: §7.2
    async fn lease(&self, request: &Map<String, Value>) -> Result<(), Gone> {
        let settings = &self.shared.settings;
        let lease = match mine_request::read(request, self.wiring(), &settings.worker_id) {
            Ok(lease) => lease,
            Err(refused) => {
                count(&self.shared.counters.refused);
                return match refused {
                    Refused::Silently => Ok(()),
                    Refused::With(answer) => {
                        tracing::warn!("a MINE_REQUEST is refused: {}", answer.to_text());
                        self.wire.send(&answer).await
                    }
                };
            }
        };
        count(&self.shared.counters.leases);
        let job = lease.job.clone();
        tracing::info!(
            "lease {} for request {} on {}",
            lease.unit.job_id,
            job.request_id,
            lease.unit.network
        );
        if !settings.networks.contains(&lease.unit.network) {
            tracing::warn!(
                "the broker's lease is for {:?}, this worker mines for {}: start it with --network {0:?} if the broker is right",
                lease.unit.network,
                settings.network
            );
        }
        self.inside.reinstate(job.request_id);
        self.shared.pin(&lease.model);
        self.shared.leases.open(lease);
        if let Some(jobs) = &self.shared.jobs {
            jobs.send_replace(Some(job));
        }
        self.shared.uplink.look_again();
        Ok(())
    }

    /// spec: §7.3
    fn cancel(&self, cancel: &MineCancel) {
        let Some(request_id) = self.shared.leases.cancel(cancel) else { return };
        count(&self.shared.counters.cancels);
        tracing::debug!("request {request_id} is cancelled: {}", cancel.reason);
        if let Ok(request_id) = u32::try_from(request_id) {
            self.inside.withdraw(request_id);
        }
    }

    /// What is said to the tools' broker at the end. spec: §1.1
    pub fn farewell(&mut self) -> Vec<Outgoing> {
        let tools = std::mem::take(&mut self.tools);
        tools.into_iter().map(|tool_id| Outgoing::ToolUnregister { tool_id }).collect()
    }
}

impl Drop for Session {
    /// Nothing of this connection goes on. Leases do.
    fn drop(&mut self) {
        self.shared.uplink.close();
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.abort();
        }
        self.desk.clear();
    }
}
