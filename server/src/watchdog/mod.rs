//! Watchdogs: what should move and does not. Each has a limit and an action; an alarm is counted,
//! logged and acted on once when it begins, again when it lasts, and called off when things move
//! again. What they look at is one [`Observation`]; who acts is behind [`Actions`]. spec: proxy §25

pub mod lag;
pub mod restart;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    /// Tokens of an engine that has requests.
    EngineTokens,
    /// The VDF of the current block.
    Vdf,
    /// Jobs.
    Job,
    /// Proofs, while tokens are mined.
    ProofFeed,
    /// The event loop of the proxy itself.
    EventLoop,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::EngineTokens, Self::Vdf, Self::Job, Self::ProofFeed, Self::EventLoop];

    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EngineTokens => "engine_tokens",
            Self::Vdf => "vdf",
            Self::Job => "job",
            Self::ProofFeed => "proof_feed",
            Self::EventLoop => "event_loop",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// What an alarm does beside its counter and its log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing more.
    #[default]
    Log,
    /// Restarts the engine by the operator's command.
    RestartEngine,
    /// Opens the link to the job source anew.
    Reconnect,
    /// Ends the proxy in order, for its supervisor to start it again.
    Exit,
}

impl Action {
    /// As in the configuration and as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::RestartEngine => "restart_engine",
            Self::Reconnect => "reconnect",
            Self::Exit => "exit",
        }
    }
}

/// A text names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a watchdog's action is log, restart_engine, reconnect or exit, not {text:?}")]
pub struct ActionError {
    /// The text.
    pub text: String,
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        [Self::Log, Self::RestartEngine, Self::Reconnect, Self::Exit]
            .into_iter()
            .find(|action| action.as_str() == text.trim())
            .ok_or_else(|| ActionError { text: text.to_owned() })
    }
}

/// One watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// How long it keeps quiet; zero switches it off.
    pub after: Duration,
    /// What it does.
    pub action: Action,
}

/// All watchdogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogSettings {
    /// No token for so long on an engine that has requests.
    pub engine_tokens: Watch,
    /// No VDF advance on a current job for so long.
    pub vdf: Watch,
    /// No job for so long.
    pub job: Watch,
    /// No proof for so long while mined tokens flow.
    pub proof_feed: Watch,
    /// Mined tokens that must have passed by before a silent proof feed says anything: with shares
    /// off and a high target most windows leave no proof.
    pub proof_tokens: u64,
    /// A timer is late by so much.
    pub event_loop: Watch,
    /// An alarm that lasts is raised again.
    pub repeat: Duration,
}

impl Default for WatchdogSettings {
    fn default() -> Self {
        let log = |seconds| Watch { after: Duration::from_secs(seconds), action: Action::Log };
        Self {
            engine_tokens: log(120),
            vdf: log(120),
            job: log(300),
            proof_feed: log(300),
            proof_tokens: 64 * 256,
            event_loop: log(1),
            repeat: Duration::from_secs(300),
        }
    }
}

impl WatchdogSettings {
    const fn of(&self, watched: Watched) -> Watch {
        match watched {
            Watched::EngineTokens => self.engine_tokens,
            Watched::Vdf => self.vdf,
            Watched::Job => self.job,
            Watched::ProofFeed => self.proof_feed,
            Watched::EventLoop => self.event_loop,
        }
    }
}

/// What the watchdogs see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// Requests at the engine.
    pub running: usize,
    /// A number that grows with every sign of generated tokens.
    pub token_signs: u64,
    /// There is a job source.
    pub mining: bool,
    /// Parent and ticks of the VDF; `None` without a job.
    pub vdf: Option<([u8; 32], u64)>,
    /// Age of the job; `None` before the first.
    pub job_age: Option<Duration>,
    /// Mined tokens so far.
    pub mined_tokens: u64,
    /// Proofs so far.
    pub proofs: u64,
    /// Greatest lateness of a timer since the last look.
    pub lag: Duration,
}

/// Something that begins to last too long, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub watched: Watched,
    /// For how long nothing has moved; `None` calls the alarm off.
    pub silent: Option<Duration>,
    /// What to do.
    pub action: Action,
}

/// Who carries out actions. What is missing is logged as impossible.
#[derive(Clone, Default)]
pub struct Actions {
    /// Restarts the engine.
    pub restart_engine: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Opens the job source anew.
    pub reconnect: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Ends the proxy.
    pub exit: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actions")
            .field("restart_engine", &self.restart_engine.is_some())
            .field("reconnect", &self.reconnect.is_some())
            .field("exit", &self.exit.is_some())
            .finish()
    }
}

impl Actions {
    /// Logs an alarm and does what it asks for.
    pub fn carry_out(&self, alarm: &Alarm) {
        let watchdog = alarm.watched.as_str();
        let Some(silent) = alarm.silent else {
            tracing::info!(watchdog, "watchdog: moves again");
            return;
        };
        let action = alarm.action.as_str();
        tracing::error!(watchdog, action, "watchdog: nothing has moved for {silent:?}");
        let carry_out = match alarm.action {
            Action::Log => return,
            Action::RestartEngine => &self.restart_engine,
            Action::Reconnect => &self.reconnect,
            Action::Exit => &self.exit,
        };
        match carry_out {
            Some(carry_out) => carry_out(),
            None => tracing::error!(watchdog, "watchdog: {action} is not possible here"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When it last moved.
    moved: Instant,
    alarmed: Option<Instant>,
}

/// The watchdogs' memory.
#[derive(Debug)]
pub struct Watchdogs {
    settings: WatchdogSettings,
    states: [State; Watched::ALL.len()],
    last: Observation,
    /// Mined tokens when the last proof came.
    tokens_at_proof: u64,
}

impl Watchdogs {
    /// Everything has just moved.
    #[must_use]
    pub fn new(settings: WatchdogSettings, now: Instant) -> Self {
        let state = State { moved: now, alarmed: None };
        let states = [state; Watched::ALL.len()];
        Self { settings, states, last: Observation::default(), tokens_at_proof: 0 }
    }

    /// Looks once; the alarms that begin, last or end.
    pub fn look(&mut self, seen: Observation, now: Instant) -> Vec<Alarm> {
        let alarms = Watched::ALL
            .into_iter()
            .filter_map(|watched| {
                let silent = self.silent(watched, &seen, now);
                self.judge(watched, silent, now)
            })
            .collect();
        self.last = seen;
        alarms
    }

    /// How long it has not moved.
    fn silent(&mut self, watched: Watched, seen: &Observation, now: Instant) -> Duration {
        let moves = match watched {
            Watched::EngineTokens => seen.running == 0 || seen.token_signs != self.last.token_signs,
            // A paused or stale job is another watchdog's business.
            Watched::Vdf => !seen.mining || seen.vdf.is_none() || seen.vdf != self.last.vdf,
            Watched::Job => {
                match (seen.mining, seen.job_age) {
                    (false, _) => self.states[watched.index()].moved = now,
                    (true, Some(age)) => {
                        self.states[watched.index()].moved = now.checked_sub(age).unwrap_or(now);
                        return age;
                    }
                    // Without any job the time since the start counts, or since the last one.
                    (true, None) => {}
                }
                return self.since_moved(watched, now);
            }
            Watched::ProofFeed => {
                if seen.proofs != self.last.proofs || !seen.mining {
                    self.tokens_at_proof = seen.mined_tokens;
                }
                let tokens = seen.mined_tokens.saturating_sub(self.tokens_at_proof);
                tokens < self.settings.proof_tokens.max(1)
            }
            Watched::EventLoop => return seen.lag,
        };
        if moves {
            self.states[watched.index()].moved = now;
        }
        self.since_moved(watched, now)
    }

    fn since_moved(&self, watched: Watched, now: Instant) -> Duration {
        now.saturating_duration_since(self.states[watched.index()].moved)
    }

    fn judge(&mut self, watched: Watched, silent: Duration, now: Instant) -> Option<Alarm> {
        let watch = self.settings.of(watched);
        let repeat = self.settings.repeat;
        let state = &mut self.states[watched.index()];
        let too_long = !watch.after.is_zero() && silent >= watch.after;
        let alarm = |silent| Some(Alarm { watched, silent, action: watch.action });
        match (too_long, state.alarmed) {
            (true, None) => {
                state.alarmed = Some(now);
                alarm(Some(silent))
            }
            (true, Some(raised)) if now.saturating_duration_since(raised) >= repeat => {
                state.alarmed = Some(now);
                alarm(Some(silent))
            }
            (false, Some(_)) => {
                state.alarmed = None;
                alarm(None)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdogs(start: Instant) -> Watchdogs {
        Watchdogs::new(WatchdogSettings::default(), start)
    }

    fn names(alarms: &[Alarm]) -> Vec<(&'static str, bool)> {
        alarms.iter().map(|alarm| (alarm.watched.as_str(), alarm.silent.is_some())).collect()
    }

    #[test]
    fn a_busy_engine_without_tokens_is_reported_once_and_called_off() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dogs = watchdogs(start);
        let busy = |signs| Observation { running: 2, token_signs: signs, ..Default::default() };
        assert_eq!(dogs.look(Observation::default(), at(500)), [], "idle is not silent");
        assert_eq!(dogs.look(busy(5), at(501)), []);
        assert_eq!(dogs.look(busy(5), at(620)), []);
        assert_eq!(names(&dogs.look(busy(5), at(621))), [("engine_tokens", true)]);
        assert_eq!(dogs.look(busy(5), at(622)), []);
        assert_eq!(names(&dogs.look(busy(5), at(921))), [("engine_tokens", true)], "it lasts");
        assert_eq!(names(&dogs.look(busy(6), at(922))), [("engine_tokens", false)]);
    }

    #[test]
    fn vdf_and_jobs_are_watched_only_while_mining() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dogs = watchdogs(start);
        assert_eq!(dogs.look(Observation::default(), at(1000)), []);
        let mining = |tick, age| Observation {
            mining: true,
            vdf: Some(([1; 32], tick)),
            job_age: Some(Duration::from_secs(age)),
            ..Default::default()
        };
        assert_eq!(dogs.look(mining(5, 0), at(1001)), []);
        assert_eq!(names(&dogs.look(mining(5, 9), at(1121))), [("vdf", true)]);
        assert_eq!(names(&dogs.look(mining(6, 9), at(1122))), [("vdf", false)]);
        assert_eq!(names(&dogs.look(mining(7, 300), at(1123))), [("job", true)]);
        assert_eq!(names(&dogs.look(mining(8, 1), at(1124))), [("job", false)]);
    }

    #[test]
    fn after_a_job_is_gone_the_time_since_it_came_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dogs = watchdogs(start);
        let seen = |age: Option<u64>| Observation {
            mining: true,
            job_age: age.map(Duration::from_secs),
            ..Default::default()
        };
        assert_eq!(dogs.look(seen(Some(10)), at(1000)), []);
        assert_eq!(dogs.look(seen(None), at(1001)), [], "a lease has ended");
        assert_eq!(dogs.look(seen(None), at(1289)), []);
        assert_eq!(names(&dogs.look(seen(None), at(1290))), [("job", true)]);
    }

    #[test]
    fn a_proof_feed_is_silent_only_while_tokens_flow() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dogs = watchdogs(start);
        let seen = |tokens, proofs| Observation {
            mining: true,
            job_age: Some(Duration::ZERO),
            mined_tokens: tokens,
            proofs,
            ..Default::default()
        };
        assert_eq!(dogs.look(seen(0, 0), at(900)), []);
        assert_eq!(dogs.look(seen(16_383, 0), at(1_000)), []);
        assert_eq!(dogs.look(seen(16_384, 0), at(1_001)), []);
        assert_eq!(names(&dogs.look(seen(90_000, 0), at(1_300))), [("proof_feed", true)]);
        assert_eq!(names(&dogs.look(seen(90_500, 1), at(1_301))), [("proof_feed", false)]);
    }

    #[test]
    fn a_late_loop_acts_as_told() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let start = Instant::now();
        let mut settings = WatchdogSettings::default();
        settings.event_loop.action = "exit".parse().unwrap();
        let mut dogs = Watchdogs::new(settings, start);
        let seen = Observation { lag: Duration::from_secs(2), ..Default::default() };
        let alarms = dogs.look(seen, start);
        assert_eq!(names(&alarms), [("event_loop", true)]);
        Actions::default().carry_out(&alarms[0]);
        let asked = Arc::new(AtomicBool::new(false));
        let ask = asked.clone();
        let exit = Some(Arc::new(move || ask.store(true, Ordering::Relaxed)) as Arc<_>);
        Actions { exit, ..Actions::default() }.carry_out(&alarms[0]);
        assert!(asked.load(Ordering::Relaxed));
        assert!("explode".parse::<Action>().is_err());
    }
}
