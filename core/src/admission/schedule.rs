//! Which window is searched when: the table of a mining engine's requests. Searches overlap the
//! decoding of other sequences; a sequence whose nonce is still searched is parked.
//!
//! The table keeps no tokens and no threads. The caller hands tokens when a window begins and gives
//! a [`Grinder`] to search with; on several threads that is `pool::Pool`.

use super::commitment::prompt_commitment;
use super::grind::{Search, State};
use super::message::{FirstStep, Message, length_of_parts};
use super::puzzle::{PuzzleParams, expected_tries, max_tries, target};
use crate::context::Context;
use crate::proof::Words;
use crate::units::{AdmissionNonce, HeaderPrefix, Tick, VdfBlob, WINDOW};
use crate::window::Label;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::fmt;
use sha2::{Digest as _, Sha256};

/// Searches for nonces beside its caller.
pub trait Grinder {
    /// What a search is asked about by. Dropping it cancels the search.
    type Ticket;

    /// Takes a search; it begins when there is room.
    fn submit(&mut self, search: Search) -> Self::Ticket;

    /// How the search stands; does not wait.
    fn poll(&self, ticket: &Self::Ticket) -> State;
}

/// What stays the same for all windows of a request.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The header prefix frozen for the request.
    pub header: HeaderPrefix,
    /// The VDF blob frozen for the request.
    pub vdf: VdfBlob,
    /// Its tick.
    pub tick: Tick,
    /// The precision label.
    pub precision: Label,
    /// The model identifier, as the proof will carry it.
    pub model: Box<[u8]>,
    /// The registered difficulty.
    pub difficulty: i64,
    /// Attempts per expected try.
    pub tries_factor: u32,
}

/// What a request is to the table.
#[derive(Debug, Clone)]
pub enum Plan {
    /// No nonces are wanted: every gate passes.
    Inactive,
    /// Nonces are wanted, but what is known of the request makes no puzzle: windows are mined
    /// without.
    Nonceless,
    /// Every window gets a search.
    Search(Box<Terms>),
}

/// What a sequence may do before its next draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// No window begins here.
    Pass,
    /// A window begins: take its nonce, if it has one, and go on.
    Ready,
    /// A window begins and its nonce is still searched: do not sample, commit or count the row.
    Park,
}

/// A call that contradicts what the table knows; a mistake of the caller. The table is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The request is known with another first window.
    Conflict,
    /// The request is not known.
    Unknown,
    /// Fewer tokens were handed than the request is said to have.
    Tokens {
        /// Tokens needed.
        needed: u64,
        /// Tokens handed.
        found: usize,
    },
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the request began before with another preimage"),
            Self::Unknown => f.write_str("the request has not begun"),
            Self::Tokens { needed, found } => {
                write!(f, "{needed} tokens of prompt and output are needed, {found} were handed")
            }
        }
    }
}

impl core::error::Error for ScheduleError {}

/// A window whose search was submitted, or could not be.
struct Submitted<T> {
    /// SHA-256 of the puzzle's message without nonce.
    preimage: Option<[u8; 32]>,
    ticket: Option<T>,
}

struct Request<T> {
    plan: Plan,
    prompt: usize,
    /// The first window that has not been submitted.
    next: u64,
    windows: BTreeMap<u64, Submitted<T>>,
}

/// The table. Requests have keys of the caller's, never batch rows, which are used again.
/// `W` is the window's length. spec: admission §10.2
pub struct Schedule<K, G: Grinder, const W: usize = WINDOW> {
    grinder: G,
    requests: BTreeMap<K, Request<G::Ticket>>,
}

impl<K, G: Grinder, const W: usize> fmt::Debug for Schedule<K, G, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("requests", &self.requests.len()).finish_non_exhaustive()
    }
}

impl<K: Ord, G: Grinder, const W: usize> Schedule<K, G, W> {
    /// An empty table.
    #[must_use]
    pub const fn new(grinder: G) -> Self {
        Self { grinder, requests: BTreeMap::new() }
    }

    /// What searches.
    #[must_use]
    pub const fn grinder(&self) -> &G {
        &self.grinder
    }

    /// Requests in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// True without requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// A request starts: its first window is submitted. `prompt` is what the model is fed. A
    /// request that is known with the same preimage is left as it is. spec: admission §10.2
    ///
    /// # Errors
    /// [`ScheduleError::Conflict`].
    pub fn start(&mut self, key: K, plan: Plan, prompt: &[u32]) -> Result<(), ScheduleError> {
        let search = first_search::<W>(&plan, prompt);
        if let Some(known) = self.requests.get(&key) {
            let first = known.windows.get(&0);
            let same = match (first, &search) {
                (Some(first), search) => first.preimage == search.as_ref().map(preimage),
                // The window has been taken, or nothing is ever submitted.
                (None, _) => known.prompt == prompt.len(),
            };
            return if same { Ok(()) } else { Err(ScheduleError::Conflict) };
        }
        let mut request = Request { plan, prompt: prompt.len(), next: 0, windows: BTreeMap::new() };
        request.submit(search, &mut self.grinder);
        self.requests.insert(key, request);
        Ok(())
    }

    /// A request has `outputs` tokens of output. Windows that begin at or before here are
    /// submitted, several if need be; only then are `tokens` asked for: the prompt and all output
    /// behind one another. spec: admission §10.2
    ///
    /// # Errors
    /// [`ScheduleError`] for an unknown request or missing tokens.
    pub fn progress<T: AsRef<[u32]>>(
        &mut self,
        key: &K,
        outputs: u64,
        tokens: impl FnOnce() -> T,
    ) -> Result<(), ScheduleError> {
        let request = self.requests.get_mut(key).ok_or(ScheduleError::Unknown)?;
        if matches!(request.plan, Plan::Inactive) || request.begin::<W>() > outputs {
            return Ok(());
        }
        let tokens = tokens();
        let tokens = tokens.as_ref();
        let needed = (request.prompt as u64).saturating_add(outputs);
        if (tokens.len() as u64) < needed {
            return Err(ScheduleError::Tokens { needed, found: tokens.len() });
        }
        while request.begin::<W>() <= outputs {
            let known = usize::try_from(request.begin::<W>()).unwrap_or(usize::MAX);
            let prefix = tokens.get(..request.prompt.saturating_add(known)).unwrap_or(tokens);
            let search = first_search::<W>(&request.plan, prefix);
            request.submit(search, &mut self.grinder);
        }
        Ok(())
    }

    /// What the sequence may do with `outputs` tokens of output; costs little. A window nobody
    /// submitted is mined without a nonce: traffic does not wait for what never comes.
    /// spec: admission §10.2
    #[must_use]
    pub fn gate(&self, key: &K, outputs: u64) -> Gate {
        let Some(request) = self.requests.get(key) else { return Gate::Pass };
        if matches!(request.plan, Plan::Inactive) || outputs % width::<W>() != 0 {
            return Gate::Pass;
        }
        let window = request.windows.get(&(outputs / width::<W>()));
        match window.and_then(|window| window.ticket.as_ref()) {
            Some(ticket) if self.grinder.poll(ticket) == State::Pending => Gate::Park,
            _ => Gate::Ready,
        }
    }

    /// Takes the nonce of the window that begins behind `outputs` tokens. Windows before it, and
    /// itself, are forgotten; a search that still runs is cancelled. spec: admission §10.2
    pub fn take(&mut self, key: &K, outputs: u64) -> Option<AdmissionNonce> {
        let windows = &mut self.requests.get_mut(key)?.windows;
        let number = outputs / width::<W>();
        let later = windows.split_off(&number.saturating_add(1));
        let mut passed = core::mem::replace(windows, later);
        let ticket = passed.remove(&number)?.ticket?;
        match self.grinder.poll(&ticket) {
            State::Ready(nonce) => nonce,
            State::Pending => None,
        }
    }

    /// A request has finished or was aborted: its searches are cancelled. spec: admission §10.2
    pub fn finish(&mut self, key: &K) {
        self.requests.remove(key);
    }
}

/// Tokens of a window; at least one.
const fn width<const W: usize>() -> u64 {
    if W == 0 { 1 } else { W as u64 }
}

impl<T> Request<T> {
    /// Tokens of output at which the next window begins.
    fn begin<const W: usize>(&self) -> u64 {
        self.next.saturating_mul(width::<W>())
    }

    fn submit<G: Grinder<Ticket = T>>(&mut self, search: Option<Search>, grinder: &mut G) {
        if !matches!(self.plan, Plan::Inactive) {
            let preimage = search.as_ref().map(preimage);
            let ticket = search.map(|search| grinder.submit(search));
            self.windows.insert(self.next, Submitted { preimage, ticket });
        }
        self.next += 1;
    }
}

fn preimage(search: &Search) -> [u8; 32] {
    Sha256::digest(&search.message).into()
}

/// The search for the window that follows `prefix`; none when the plan or the parts make no
/// puzzle. Nothing in the prefix is padding. spec: admission §8, §10.2
fn first_search<const W: usize>(plan: &Plan, prefix: &[u32]) -> Option<Search> {
    let Plan::Search(terms) = plan else { return None };
    let tries = expected_tries(terms.difficulty, &PuzzleParams::NETWORK).ok()?;
    let commitment = prompt_commitment(Words::Native(prefix), None).ok()?;
    let recent = prefix.get(prefix.len().saturating_sub(W)..).unwrap_or(prefix);
    let context = Context::of_prompt(recent);
    let (header, vdf) = (terms.header.as_bytes(), terms.vdf.as_bytes());
    let precision = terms.precision.as_bytes();
    let first_step = FirstStep { header, vdf, tick: terms.tick, context: &context, precision };
    let room = length_of_parts(header.len(), vdf.len(), precision.len(), terms.model.len());
    let mut message = vec![0; room].into_boxed_slice();
    Message::build(&mut message, &first_step, &commitment, &terms.model).ok()?;
    let max_tries = max_tries(tries, terms.tries_factor);
    Some(Search { message, target: target(tries), max_tries })
}

#[cfg(test)]
mod tests {
    use super::{Gate, Grinder, Plan, Schedule, ScheduleError, Search, State, Terms};
    use crate::units::{AdmissionNonce, HeaderPrefix, Tick, VdfBlob};
    use crate::window::Label;
    use std::boxed::Box;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::vec::Vec;

    /// Finds nothing until it is told to.
    #[derive(Default)]
    struct Stub {
        submitted: Vec<Search>,
        found: Rc<RefCell<Option<AdmissionNonce>>>,
        cancelled: Rc<Cell<usize>>,
    }

    struct Ticket(Rc<Cell<usize>>);

    impl Drop for Ticket {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    impl Grinder for Stub {
        type Ticket = Ticket;

        fn submit(&mut self, search: Search) -> Ticket {
            self.submitted.push(search);
            Ticket(self.cancelled.clone())
        }

        fn poll(&self, _: &Ticket) -> State {
            self.found.borrow().map_or(State::Pending, |nonce| State::Ready(Some(nonce)))
        }
    }

    fn plan(model: &[u8]) -> Plan {
        Plan::Search(Box::new(Terms {
            header: HeaderPrefix::from_bytes([1; 76]),
            vdf: VdfBlob::from_slice(&[2; 200]).unwrap(),
            tick: Tick(3),
            precision: Label::new("bf16").unwrap(),
            model: model.into(),
            difficulty: 1_000_000,
            tries_factor: 16,
        }))
    }

    #[test]
    fn a_row_is_parked_until_its_nonce_is_there() {
        let stub = Stub::default();
        let (found, cancelled) = (stub.found.clone(), stub.cancelled.clone());
        let mut table = Schedule::<_, _, 4>::new(stub);
        table.start("a", plan(b"m@c"), &[9, 8]).unwrap();
        assert_eq!(table.gate(&"a", 0), Gate::Park);
        let nonce = AdmissionNonce::from_bytes([7; 32]);
        *found.borrow_mut() = Some(nonce);
        assert_eq!(table.gate(&"a", 0), Gate::Ready);
        assert_eq!(table.take(&"a", 0), Some(nonce));
        assert_eq!(table.take(&"a", 0), None);
        assert_eq!(cancelled.get(), 1);
        // Between boundaries no token is asked for.
        table.progress(&"a", 3, || -> Vec<u32> { unreachable!() }).unwrap();
        assert_eq!(table.gate(&"a", 3), Gate::Pass);
        let short = ScheduleError::Tokens { needed: 6, found: 5 };
        assert_eq!(table.progress(&"a", 4, || [1; 5]), Err(short));
        // Nobody submitted the window: the row goes on without.
        assert_eq!(table.gate(&"a", 4), Gate::Ready);
        table.progress(&"a", 13, || [1; 15]).unwrap();
        assert_eq!(table.grinder().submitted.len(), 4);
        assert_eq!(table.take(&"a", 8), Some(nonce));
        assert_eq!(cancelled.get(), 3, "the window passed over is dropped, too");
        table.finish(&"a");
        assert_eq!(cancelled.get(), 4);
        assert_eq!(table.gate(&"a", 4), Gate::Pass);
    }

    #[test]
    fn a_request_starts_once() {
        let mut table = Schedule::<_, _, 4>::new(Stub::default());
        table.start(1, plan(b"m@c"), &[9, 8]).unwrap();
        table.start(1, plan(b"m@c"), &[9, 8]).unwrap();
        assert_eq!(table.grinder().submitted.len(), 1);
        assert_eq!(table.start(1, plan(b"m@c"), &[9, 7]), Err(ScheduleError::Conflict));
        assert_eq!(table.start(1, Plan::Nonceless, &[9, 8]), Err(ScheduleError::Conflict));
        assert_eq!(table.progress(&2, 0, || [0; 0]), Err(ScheduleError::Unknown));
    }

    #[test]
    fn what_makes_no_puzzle_is_mined_without() {
        let mut table = Schedule::<_, _, 4>::new(Stub::default());
        table.start(1, plan(&[b'm'; 65_536]), &[9]).unwrap();
        table.start(2, Plan::Nonceless, &[9]).unwrap();
        table.start(3, Plan::Inactive, &[9]).unwrap();
        for (key, gate) in [(1, Gate::Ready), (2, Gate::Ready), (3, Gate::Pass)] {
            assert_eq!(table.gate(&key, 0), gate);
            assert_eq!(table.take(&key, 0), None);
        }
        assert!(table.grinder().submitted.is_empty());
    }
}
