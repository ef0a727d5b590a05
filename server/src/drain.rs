//! Drained: the worker is well, and nothing new should come to it. A file says so that the host puts
//! there before it takes the machine away (a preemption notice), `READY=0` at the start, an
//! administrator, or the proxy's own end. A drained worker is not ready, rests from backfill and
//! takes no work from a broker; users who come all the same are served. spec: proxy §25

use crate::exposition::labelled_gauge;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the notice file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of the file that are read: its first word.
const FIRST_WORD: u64 = 64;

/// Why a worker is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The notice file is there.
    Notice,
    /// It was started with `READY=0`.
    Unready,
    /// An administrator wants it.
    Ordered,
    /// The proxy is ending.
    Stopping,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Notice, Self::Unready, Self::Ordered, Self::Stopping];

    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice_file",
            Self::Unready => "not_ready",
            Self::Ordered => "ordered",
            Self::Stopping => "stopping",
        }
    }

    /// In words, for `/ready`.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Notice => "the notice file (drain.file) is there",
            Self::Unready => "READY=0",
            Self::Ordered => "an administrator has drained it (POST /v1/drain)",
            Self::Stopping => "the proxy is shutting down",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The causes that hold at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Causes(u8);

impl Causes {
    /// True when this one holds.
    #[must_use]
    pub const fn has(self, cause: Cause) -> bool {
        self.0 & cause.bit() != 0
    }

    /// Those that hold.
    pub fn iter(self) -> impl Iterator<Item = Cause> {
        Cause::ALL.into_iter().filter(move |cause| self.has(*cause))
    }

    /// True when one holds, the end of the proxy included.
    #[must_use]
    pub const fn any(self) -> bool {
        self.0 != 0
    }

    const fn with(self, cause: Cause, holds: bool) -> Self {
        Self(if holds { self.0 | cause.bit() } else { self.0 & !cause.bit() })
    }
}

/// Where a worker begins, and where its notice comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainSettings {
    /// The notice file; without one none is looked for.
    pub file: Option<PathBuf>,
    /// It begins drained (`READY=0`).
    pub unready: bool,
}

/// What the notice file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is not there.
    None,
    /// It is there: no new work.
    Drain,
    /// Its first word is `exit`: the proxy ends.
    Exit,
}

/// Whether the worker is drained.
#[derive(Debug)]
pub struct Drain {
    causes: watch::Sender<Causes>,
    file: Option<PathBuf>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new(DrainSettings::default())
    }
}

impl Drain {
    /// As the settings say.
    #[must_use]
    pub fn new(settings: DrainSettings) -> Self {
        let DrainSettings { file, unready } = settings;
        if unready {
            tracing::warn!("READY=0: drained until POST /v1/drain {{\"drain\": false}}");
        }
        let causes = Causes::default().with(Cause::Unready, unready);
        Self { causes: watch::Sender::new(causes), file }
    }

    /// What holds now.
    #[must_use]
    pub fn causes(&self) -> Causes {
        *self.causes.borrow()
    }

    /// No new work is wanted.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.causes().any()
    }

    /// The proxy is ending.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.causes().has(Cause::Stopping)
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Causes> {
        self.causes.subscribe()
    }

    /// An administrator drains the worker, or takes that back, and `READY=0` with it. A notice file
    /// goes on to hold.
    pub fn order(&self, drained: bool) {
        self.change(|causes| causes.with(Cause::Unready, false).with(Cause::Ordered, drained));
    }

    /// The proxy ends.
    pub fn stop(&self) {
        self.change(|causes| causes.with(Cause::Stopping, true));
    }

    fn change(&self, change: impl Fn(Causes) -> Causes) {
        let changed = self.causes.send_if_modified(|causes| {
            let next = change(*causes);
            std::mem::replace(causes, next) != next
        });
        let causes = self.causes();
        if !changed || causes.has(Cause::Stopping) {
            return;
        }
        match causes.any() {
            true => {
                let why: Vec<_> = causes.iter().map(Cause::detail).collect();
                tracing::warn!("drained: {}", why.join("; "));
            }
            false => tracing::info!("no longer drained"),
        }
    }

    /// Looks for the notice file as long as the proxy runs; `exit` is called once when the file
    /// wants the proxy to end. Returns at once where no file is to be looked for.
    pub async fn watch_file(self: Arc<Self>, exit: impl Fn() + Send) {
        let Some(file) = self.file.clone() else { return };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained = false;
        loop {
            tick.tick().await;
            let path = file.clone();
            let looked = tokio::task::spawn_blocking(move || read_notice(&path)).await;
            let notice = match looked {
                Ok(Ok(notice)) => notice,
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, path = %file.display(), "the notice file cannot be looked for");
                    }
                    continue;
                }
                Err(_) => continue,
            };
            complained = false;
            self.change(|causes| causes.with(Cause::Notice, notice != Notice::None));
            if notice == Notice::Exit {
                tracing::warn!(path = %file.display(), "the notice file ends the proxy");
                exit();
                return;
            }
        }
    }
}

/// What a notice file says now. What is there and cannot be read is a notice all the same.
///
/// # Errors
/// What the system says when it does not know whether there is one.
pub fn read_notice(path: &Path) -> std::io::Result<Notice> {
    let absent = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        // A pipe would be waited for.
        Ok(_) => return Ok(Notice::Drain),
        Err(error) if absent(&error) => return Ok(Notice::None),
        Err(error) => return Err(error),
    }
    let mut text = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(FIRST_WORD).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if absent(&error) => return Ok(Notice::None),
        Err(_) => return Ok(Notice::Drain),
    }
    let first = text.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty());
    let exit = first.is_some_and(|word| word.eq_ignore_ascii_case(b"exit"));
    Ok(if exit { Notice::Exit } else { Notice::Drain })
}

impl Collector for Drain {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let causes = self.causes();
        labelled_gauge(
            &mut out,
            "draining",
            "1 for why no new work is wanted",
            "cause",
            Cause::ALL.into_iter().map(|cause| (cause.as_str(), i64::from(causes.has(cause)))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn drain(file: Option<PathBuf>, unready: bool) -> Drain {
        Drain::new(DrainSettings { file, unready })
    }

    fn causes(drain: &Drain) -> Vec<Cause> {
        drain.causes().iter().collect()
    }

    #[test]
    fn the_first_word_of_the_file_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notice");
        assert_eq!(read_notice(&path).unwrap(), Notice::None);
        for (text, expected) in [
            ("", Notice::Drain),
            ("2026-01-01T00:00:00Z reclaim", Notice::Drain),
            ("drain exit", Notice::Drain),
            ("exiting", Notice::Drain),
            ("exit", Notice::Exit),
            ("\n EXIT in 30 s\n", Notice::Exit),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_notice(&path).unwrap(), expected, "{text:?}");
        }
        assert_eq!(read_notice(folder.path()).unwrap(), Notice::Drain, "a folder is there too");
        assert_eq!(read_notice(&path.join("below")).unwrap(), Notice::None, "no folder");
        assert!(read_notice(Path::new("\0")).is_err());
    }

    #[test]
    fn an_order_takes_back_what_the_start_said_and_not_what_a_notice_says() {
        let drain = drain(None, true);
        assert_eq!(causes(&drain), [Cause::Unready]);
        drain.order(false);
        assert!(!drain.is_drained());
        drain.order(true);
        drain.change(|causes| causes.with(Cause::Notice, true));
        assert_eq!(causes(&drain), [Cause::Notice, Cause::Ordered]);
        drain.order(false);
        assert_eq!(causes(&drain), [Cause::Notice]);
        assert!(!drain.is_stopping());
        drain.stop();
        assert!(drain.is_stopping() && drain.is_drained());
    }

    #[test]
    fn only_changes_are_told() {
        let drain = drain(None, false);
        let mut told = drain.subscribe();
        drain.order(false);
        assert!(!told.has_changed().unwrap());
        drain.order(true);
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        drain.order(true);
        assert!(!told.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_file_that_comes_and_goes_is_followed_until_it_says_exit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notice");
        let drain = Arc::new(drain(Some(path.clone()), false));
        let exits = Arc::new(AtomicUsize::new(0));
        let counted = exits.clone();
        let exit = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let watching = tokio::spawn(drain.clone().watch_file(exit));
        let mut told = drain.subscribe();
        std::fs::write(&path, "reclaim").unwrap();
        assert!(told.wait_for(|causes| causes.has(Cause::Notice)).await.is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(told.wait_for(|causes| !causes.any()).await.is_ok());
        assert_eq!(exits.load(Ordering::SeqCst), 0);
        std::fs::write(&path, "exit").unwrap();
        watching.await.unwrap();
        assert_eq!(exits.load(Ordering::SeqCst), 1);
        assert_eq!(causes(&drain), [Cause::Notice]);
        // Without a file there is nothing to look for.
        Arc::new(Drain::default()).watch_file(|| {}).await;
    }
}
