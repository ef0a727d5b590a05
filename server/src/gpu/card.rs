//! Which card the machine has: asked once of NVIDIA's management library, and given up after a few
//! seconds. A machine without it has no card that could be named.

use super::nvidia;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use std::time::Duration;

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
    /// The driver's library is not there, or says no.
    #[error("NVIDIA's management library: {0}")]
    Library(#[from] NvmlError),
    /// It does not answer.
    #[error("NVIDIA's management library has not answered within {PATIENCE:?}")]
    Silent,
    /// It lists none.
    #[error("the machine has no NVIDIA card")]
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
    let asked = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(ask)).await;
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(NoCard::Silent),
    }
}

fn ask() -> Result<Vec<Card>, NoCard> {
    let library = nvidia::open()?;
    let cards =
        (0..library.device_count()?).filter_map(|index| library.device_by_index(index).ok());
    let cards: Vec<Card> = cards.filter_map(|device| read(&device)).collect();
    if cards.is_empty() { Err(NoCard::None) } else { Ok(cards) }
}

/// What a card says; what it does not say is left out.
fn read(device: &Device<'_>) -> Option<Card> {
    let capability = device.cuda_compute_capability().ok();
    let memory = device.memory_info().ok().map(|memory| memory.total / (1024 * 1024));
    Some(Card {
        name: device.name().ok()?,
        memory_mib: memory.filter(|mib| *mib > 0),
        compute_capability: capability
            .and_then(|it| Some((it.major.try_into().ok()?, it.minor.try_into().ok()?))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, memory_mib: u64, capability: (u8, u8)) -> Card {
        let (memory_mib, compute_capability) = (Some(memory_mib), Some(capability));
        Card { name: name.to_owned(), memory_mib, compute_capability }
    }

    #[test]
    fn a_card_in_the_words_of_brokers() {
        let card_of_many = card("NVIDIA GeForce RTX 4090", 24_564, (8, 9));
        assert_eq!(card_of_many.model(), "RTX-4090");
        assert_eq!(card_of_many.compute_type().as_deref(), Some("nvidia-8.9"));
        assert_eq!(card_of_many.memory_gb(), Some(24));
        assert_eq!(card("Tesla K80", 11_441, (3, 7)).model(), "Tesla-K80");
        assert_eq!(card("NVIDIA GeForce", 1, (1, 0)).model(), "NVIDIA GeForce");
        let silent = Card { memory_mib: None, compute_capability: None, ..card("GB10", 1, (1, 0)) };
        assert_eq!((silent.memory_gb(), silent.compute_type()), (None, None));
    }

    #[test]
    fn the_largest_of_several_speaks_for_the_machine() {
        let cards = vec![
            card("NVIDIA A100-SXM4-40GB", 40_960, (8, 0)),
            card("NVIDIA H200", 143_771, (9, 0)),
            card("NVIDIA B200", 143_771, (10, 0)),
        ];
        assert_eq!(cards[2].compute_type().as_deref(), Some("nvidia-10.0"));
        let largest_one = largest(cards).unwrap();
        assert_eq!((largest_one.model(), largest_one.memory_gb()), ("H200".to_owned(), Some(140)));
        assert_eq!(largest(Vec::new()), None);
    }

    /// On a machine with cards they have names; on any other the reason is told.
    #[tokio::test]
    async fn the_machine_is_asked() {
        match detect().await {
            Ok(cards) => assert!(cards.iter().all(|card| !card.name.is_empty())),
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
}
