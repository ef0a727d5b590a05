//! Limits in tokens: how many one request may generate, and how many one client may use in a minute.
//! The first stands in the request, so it is read before the engine sees it; the second is known only
//! when an answer has ended, so a client pays afterwards and waits while it is in debt.
//! spec: proxy §25

use super::body::{JsonObject, Kind};
use super::errors::ApiError;
use super::inject::Route;
use super::limits::Client;
use axum::http::StatusCode;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Members by which one engine or another is told how many tokens to generate, on any route: an
/// engine may read one that its route does not document.
const MEMBERS: [&str; 4] =
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"];
/// Clients whose use is remembered; beyond that those who owe least are forgotten.
const REMEMBERED: usize = 65_536;

/// The members that a route's engines all obey.
const fn own_members(route: Route) -> &'static [&'static str] {
    match route {
        Route::ChatCompletions => &["max_tokens", "max_completion_tokens"],
        Route::Completions => &["max_tokens"],
        Route::Responses => &["max_output_tokens"],
    }
}

/// Holds a request to `most` generated tokens (of each choice): one that names none is given the
/// limit, by the first member of its route. 0 is no limit, and nothing is read then. What is no JSON
/// object is left to whoever reads it next.
///
/// # Errors
/// 400 for a request that asks for more, or for what is no number.
pub fn hold_to(most: u64, route: Route, body: Bytes) -> Result<Bytes, ApiError> {
    if most == 0 {
        return Ok(body);
    }
    let Ok(mut object) = JsonObject::parse(&body) else { return Ok(body) };
    for member in MEMBERS {
        let Some(asked) = object.get(member) else { continue };
        check(member, asked, most)?;
    }
    let own = own_members(route);
    if own.iter().any(|member| object.get(member).is_some()) {
        return Ok(body);
    }
    object.set(own[0], most.to_string());
    Ok(object.to_json().into())
}

#[allow(clippy::cast_precision_loss)] // a limit beyond 2^53 tokens is none
fn check(member: &str, asked: &str, most: u64) -> Result<(), ApiError> {
    let number: Option<f64> =
        (Kind::of(asked) == Kind::Number).then(|| asked.trim().parse().ok()).flatten();
    match number {
        Some(tokens) if (0.0..=most as f64).contains(&tokens) => Ok(()),
        // Below zero is "until the context is full" to llama.cpp.
        Some(_) => Err(ApiError::bad_request(
            "too_many_tokens",
            format!(
                "{member} asks for {asked:.40} tokens; this worker generates at most {most} a request"
            ),
        )),
        None => Err(ApiError::bad_request(
            "invalid_body",
            format!("{member} must be a number of tokens, at most {most}"),
        )),
    }
}

/// What a client has left of its minute; below zero it is in debt.
#[derive(Debug, Clone, Copy)]
struct Account {
    tokens: f64,
    at: Instant,
}

/// Tokens a minute for each client: a minute's worth at once, the rest as time passes.
#[derive(Debug)]
pub struct TokenRates {
    a_minute: f64,
    accounts: Mutex<HashMap<Client, Account>>,
}

impl TokenRates {
    /// `None` for 0, which is no limit.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a limit beyond 2^53 tokens is none
    pub fn new(a_minute: u64) -> Option<Arc<Self>> {
        (a_minute > 0)
            .then(|| Arc::new(Self { a_minute: a_minute as f64, accounts: Mutex::default() }))
    }

    /// Whether a client may go on.
    ///
    /// # Errors
    /// 429 with the time after which its debt is paid.
    pub fn check(&self, client: &Client) -> Result<(), ApiError> {
        self.check_at(client, Instant::now())
    }

    fn check_at(&self, client: &Client, now: Instant) -> Result<(), ApiError> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = accounts.get(client).map(|account| self.left(account, now)) else {
            return Ok(());
        };
        drop(accounts);
        if left >= 0.0 {
            return Ok(());
        }
        let wait = Duration::from_secs_f64((-left / self.a_second()).min(1e9));
        let message = format!("more than {} tokens a minute", self.a_minute);
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "token_rate_exceeded", message);
        Err(error.retry_after(wait))
    }

    fn pay_at(&self, client: &Client, tokens: u64, now: Instant) {
        if tokens == 0 {
            return;
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= REMEMBERED && !accounts.contains_key(client) {
            self.forget(&mut accounts, now);
        }
        let fresh = Account { tokens: self.a_minute, at: now };
        let account = accounts.entry(client.clone()).or_insert(fresh);
        #[allow(clippy::cast_precision_loss)] // tokens of one answer
        let left = self.left(account, now) - tokens as f64;
        *account = Account { tokens: left, at: now };
    }

    /// Makes room: an account that is full again says no more than none; of others the fullest go.
    fn forget(&self, accounts: &mut HashMap<Client, Account>, now: Instant) {
        accounts.retain(|_, account| self.left(account, now) < self.a_minute);
        if accounts.len() >= REMEMBERED {
            let mut left: Vec<f64> =
                accounts.values().map(|account| self.left(account, now)).collect();
            left.sort_by(f64::total_cmp);
            // A quarter at once, so that it is not looked for again at the next client.
            let keep = left[REMEMBERED * 3 / 4];
            accounts.retain(|_, account| self.left(account, now) < keep);
        }
    }

    fn left(&self, account: &Account, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(account.at).as_secs_f64();
        (account.tokens + passed * self.a_second()).min(self.a_minute)
    }

    fn a_second(&self) -> f64 {
        self.a_minute / 60.0
    }
}

/// Whom an answer's tokens are charged to.
#[derive(Debug)]
pub struct Charge {
    rates: Arc<TokenRates>,
    client: Client,
}

impl Charge {
    /// A client's.
    #[must_use]
    pub const fn new(rates: Arc<TokenRates>, client: Client) -> Self {
        Self { rates, client }
    }

    /// The answer has ended: so many tokens, read and generated.
    pub fn pay(self, tokens: u64) {
        self.rates.pay_at(&self.client, tokens, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(most: u64, route: Route, body: &'static str) -> Result<String, ApiError> {
        let body = hold_to(most, route, Bytes::from_static(body.as_bytes()))?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_request_that_names_no_number_is_given_the_limit() {
        use Route::{ChatCompletions, Completions, Responses};
        for (route, body, expected) in [
            (ChatCompletions, "{}", r#"{"max_tokens":9}"#),
            (Completions, r#"{"prompt":"p"}"#, r#"{"prompt":"p","max_tokens":9}"#),
            (Responses, r#"{"input":"i"}"#, r#"{"input":"i","max_output_tokens":9}"#),
            (ChatCompletions, r#"{"max_tokens":null}"#, r#"{"max_tokens":9}"#),
            (Responses, r#"{"max_tokens":1}"#, r#"{"max_tokens":1,"max_output_tokens":9}"#),
            (Completions, r#"{"n_predict":1}"#, r#"{"n_predict":1,"max_tokens":9}"#),
        ] {
            assert_eq!(held(9, route, body).unwrap(), expected, "{route:?} {body}");
        }
    }

    #[test]
    fn what_is_within_the_limit_keeps_its_bytes() {
        for body in [
            "{ \"max_tokens\" : 9 }",
            "{ \"max_completion_tokens\": 1 }",
            "{ \"max_tokens\": 0 }",
            "{ \"max_tokens\": 8.0 }",
        ] {
            assert_eq!(held(9, Route::ChatCompletions, body).unwrap(), body);
        }
        for body in ["no json", "[]", ""] {
            assert_eq!(held(9, Route::Responses, body).unwrap(), body, "somebody else's business");
        }
        let more = "{ \"max_tokens\": 1e9 }";
        assert_eq!(held(0, Route::Completions, more).unwrap(), more, "0 is no limit");
    }

    #[test]
    fn more_is_refused_with_both_numbers_whatever_it_is_called() {
        for (body, code, part) in [
            (r#"{"max_tokens":10}"#, "too_many_tokens", "max_tokens asks for 10 tokens"),
            (r#"{"max_completion_tokens":10}"#, "too_many_tokens", "max_completion_tokens"),
            (r#"{"max_tokens":1,"n_predict":-1}"#, "too_many_tokens", "n_predict asks for -1"),
            (r#"{"max_output_tokens":1e300}"#, "too_many_tokens", "1e300"),
            (r#"{"max_tokens":9.5}"#, "too_many_tokens", "at most 9 a request"),
            (r#"{"max_tokens":"10"}"#, "invalid_body", "max_tokens must be a number"),
            (r#"{"max_tokens":true}"#, "invalid_body", "at most 9"),
        ] {
            for route in [Route::ChatCompletions, Route::Completions, Route::Responses] {
                let error = held(9, route, body).unwrap_err();
                assert_eq!(
                    (error.status(), error.code()),
                    (StatusCode::BAD_REQUEST, code),
                    "{body}"
                );
                assert!(error.to_json().contains(part), "{} for {body}", error.to_json());
            }
        }
    }

    #[test]
    fn a_client_in_debt_waits_until_it_is_paid() {
        let rates = TokenRates::new(600).unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let client = |name: &str| Client::Key(name.into());
        let ask = |seconds| rates.check_at(&client("a"), at(seconds));
        assert!(ask(0).is_ok());
        rates.pay_at(&client("a"), 600, at(0));
        assert!(ask(0).is_ok(), "used up is not in debt");
        rates.pay_at(&client("a"), 50, at(0));
        let refused = ask(0).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (429, "token_rate_exceeded"));
        assert!(ask(4).is_err());
        assert!(ask(5).is_ok(), "ten tokens a second");
        assert!(rates.check_at(&client("b"), at(0)).is_ok(), "nobody pays for another");
        rates.pay_at(&client("a"), 1_200, at(1_000));
        assert!(ask(1_059).is_err(), "a minute's worth at most is saved up");
        assert!(ask(1_060).is_ok());
        assert!(TokenRates::new(0).is_none());
    }

    #[test]
    fn who_owes_most_is_remembered_longest() {
        let rates = TokenRates::new(60).unwrap();
        let now = Instant::now();
        let client = |n: u32| Client::Address(std::net::Ipv4Addr::from(n).into());
        rates.pay_at(&client(0), 1_000_000, now);
        for n in 1..=u32::try_from(REMEMBERED).unwrap() {
            rates.pay_at(&client(n), u64::from(n % 50 + 1), now);
        }
        assert!(rates.accounts.lock().unwrap().len() <= REMEMBERED);
        assert!(rates.check_at(&client(0), now).is_err());
    }
}
