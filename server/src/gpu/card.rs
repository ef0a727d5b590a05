//! Which card the machine has, as `nvidia-smi` lists it: asked once, without a shell, and given up
//! after a few seconds. A machine without it has no card that could be named.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// The program; the system finds it.
const PROGRAM: &str = "nvidia-smi";
/// What is asked, in the order of [`Card`]'s fields.
const QUESTION: [&str; 2] = ["--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader"];
/// A driver that has hung answers never.
const PATIENCE: Duration = Duration::from_secs(5);
/// A broker that is told less can do nothing with it.
const LONGEST_NAME: usize = 64;

/// One card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name, as the driver says it.
    pub name: String,
    /// Its memory in MiB; a card that shares the processor's memory has none of its own.
    pub memory_mib: Option<u64>,
    /// Its compute capability, major and minor.
    pub compute_capability: Option<(u8, u8)>,
}

/// Nothing is known of the machine's cards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoCard {
    /// The program cannot be run.
    #[error("{PROGRAM}: {0}")]
    Absent(#[from] std::io::Error),
    /// It does not end.
    #[error("{PROGRAM} has not answered within {0:?}")]
    Silent(Duration),
    /// It says no.
    #[error("{PROGRAM} has failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said, in one line.
        said: String,
    },
    /// It lists none.
    #[error("{PROGRAM} lists no card")]
    None,
}

impl Card {
    /// The name in the form that brokers know: `NVIDIA GeForce RTX 4090` is `RTX-4090`.
    #[must_use]
    pub fn model(&self) -> String {
        let words =
            self.name.split_whitespace().filter(|word| !matches!(*word, "NVIDIA" | "GeForce"));
        let model = words.collect::<Vec<_>>().join("-");
        let model = if model.is_empty() { self.name.clone() } else { model };
        model.chars().take(LONGEST_NAME).collect()
    }

    /// Its architecture as brokers name it, `nvidia-8.9`. spec: broker §3.1
    #[must_use]
    pub fn compute_type(&self) -> Option<String> {
        self.compute_capability.map(|(major, minor)| format!("nvidia-{major}.{minor}"))
    }

    /// Its memory in whole GB, to the nearest: drivers keep a little for themselves.
    #[must_use]
    pub fn memory_gb(&self) -> Option<u32> {
        self.memory_mib.and_then(|mib| u32::try_from((mib + 512) / 1024).ok())
    }
}

/// Reads the list, a line a card. What is no such line is passed over; a value that the driver does
/// not give (`[N/A]`) is left out.
#[must_use]
pub fn parse(list: &str) -> Vec<Card> {
    list.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Card> {
    // The name comes first, and no rule keeps commas out of it.
    let mut fields = line.rsplitn(3, ',').map(str::trim);
    let (capability, memory, name) = (fields.next()?, fields.next()?, fields.next()?);
    let capability = capability.split_once('.');
    let memory = memory.strip_suffix("MiB").and_then(|number| number.trim().parse().ok());
    (!name.is_empty()).then(|| Card {
        name: name.to_owned(),
        memory_mib: memory.filter(|mib| *mib > 0),
        compute_capability: capability
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?))),
    })
}

/// The card that speaks for the machine: the one with the most memory, of equal ones the first.
#[must_use]
pub fn largest(cards: Vec<Card>) -> Option<Card> {
    // The last of equal ones is the greatest, hence the turn.
    cards.into_iter().rev().max_by_key(|card| card.memory_mib)
}

/// The machine's cards.
///
/// # Errors
/// [`NoCard`].
pub async fn detect() -> Result<Vec<Card>, NoCard> {
    ask(Command::new(PROGRAM), PATIENCE).await
}

async fn ask(mut program: Command, patience: Duration) -> Result<Vec<Card>, NoCard> {
    let running = program.args(QUESTION).stdin(Stdio::null()).kill_on_drop(true).output();
    let answer = tokio::time::timeout(patience, running).await;
    let answer = answer.map_err(|_| NoCard::Silent(patience))??;
    let said = String::from_utf8_lossy(&answer.stdout);
    if !answer.status.success() {
        let said = said + String::from_utf8_lossy(&answer.stderr);
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.chars().take(200).collect();
        return Err(NoCard::Failed { status: answer.status, said });
    }
    match parse(&said) {
        cards if cards.is_empty() => Err(NoCard::None),
        cards => Ok(cards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, memory_mib: u64, capability: (u8, u8)) -> Card {
        let (memory_mib, compute_capability) = (Some(memory_mib), Some(capability));
        Card { name: name.to_owned(), memory_mib, compute_capability }
    }

    #[test]
    fn one_card() {
        let cards = parse("NVIDIA GeForce RTX 4090, 24564 MiB, 8.9\n");
        assert_eq!(cards, [card("NVIDIA GeForce RTX 4090", 24_564, (8, 9))]);
        assert_eq!(cards[0].model(), "RTX-4090");
        assert_eq!(cards[0].compute_type().as_deref(), Some("nvidia-8.9"));
        assert_eq!(cards[0].memory_gb(), Some(24));
    }

    #[test]
    fn the_largest_of_several_speaks_for_the_machine() {
        let cards = parse(
            "NVIDIA A100-SXM4-40GB, 40960 MiB, 8.0\r\nNVIDIA H200, 143771 MiB, 9.0\r\n\
             NVIDIA B200, 143771 MiB, 10.0\r\n",
        );
        assert_eq!(cards.len(), 3);
        assert_eq!(cards[2].compute_type().as_deref(), Some("nvidia-10.0"));
        let largest = largest(cards).unwrap();
        assert_eq!((largest.model(), largest.memory_gb()), ("H200".to_owned(), Some(140)));
    }

    #[test]
    fn what_the_driver_does_not_say_is_left_out() {
        let cards = parse("NVIDIA GB10, [N/A], 12.1\nTesla K80, 11441 MiB, [Not Supported]\n");
        assert_eq!((cards[0].memory_gb(), cards[0].compute_capability), (None, Some((12, 1))));
        assert_eq!((cards[1].memory_gb(), cards[1].compute_type()), (Some(11), None));
        assert_eq!(cards[1].model(), "Tesla-K80");
        let odd = parse("A, card, with commas, 1024 MiB, 7.5\n");
        assert_eq!(odd, [card("A, card, with commas", 1024, (7, 5))]);
        assert_eq!(card("NVIDIA GeForce", 1, (1, 0)).model(), "NVIDIA GeForce");
    }

    #[test]
    fn what_is_no_list_names_no_card() {
        for text in ["", "\n", "No devices were found\n", ", 1 MiB, 8.0", "\u{0}\u{fffd}"] {
            assert_eq!(parse(text), [], "{text:?}");
        }
        let strange =
            parse("x, -5 MiB, 8.9.1\ny, 99999999999999999999999 MiB, 999.0\nz, 0 MiB, .\n");
        assert_eq!(strange.len(), 3);
        let known = |card: &Card| card.memory_gb().is_some() || card.compute_type().is_some();
        assert!(!strange.iter().any(known), "{strange:?}");
        assert_eq!(largest(Vec::new()), None);
    }

    /// A program that says this.
    #[cfg(unix)]
    fn program(script: &str) -> (tempfile::TempDir, Command) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nvidia-smi");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        (folder, Command::new(path))
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_program_is_asked_and_not_waited_for() {
        let (_folder, asked) = program(&format!(
            r#"test "$*" = "{}" && echo 'NVIDIA L4, 23034 MiB, 8.9'"#,
            QUESTION.join(" ")
        ));
        assert_eq!(ask(asked, PATIENCE).await.unwrap(), [card("NVIDIA L4", 23_034, (8, 9))]);
        let (_folder, failing) =
            program("echo 'has failed because it could not communicate'; exit 9");
        let error = ask(failing, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 9") && error.contains("communicate"), "{error}");
        let (_folder, hanging) = program("exec sleep 60");
        let limit = Duration::from_millis(200);
        assert!(matches!(ask(hanging, limit).await, Err(NoCard::Silent(_))));
        assert!(matches!(ask(Command::new("/nowhere/x"), limit).await, Err(NoCard::Absent(_))));
    }
}
