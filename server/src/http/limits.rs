//! How much one client may ask for: a rate for each key and each address, and how many generation
//! requests may be in flight, altogether and for one client. Whoever is over the limit is told when
//! to come again. spec: proxy §24

use super::errors::ApiError;
use super::token_limits::{Charge, TokenRates};
use axum::http::StatusCode;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients whose rate is remembered; beyond that the idle ones are forgotten.
const REMEMBERED: usize = 65_536;

/// Limits on single clients; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// Requests a second with one key.
    pub per_key: u32,
    /// Requests a second from one address.
    pub per_address: u32,
    /// Seconds' worth of requests that may come at once.
    pub burst: Duration,
    /// Generation requests in flight.
    pub concurrency: usize,
    /// Generation requests in flight of one client.
    pub concurrency_per_client: usize,
    /// Tokens a minute of one client's generation requests, read and generated.
    pub tokens_per_minute: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            per_key: 0,
            per_address: 0,
            burst: Duration::from_secs(2),
            concurrency: 4096,
            concurrency_per_client: 0,
            tokens_per_minute: 0,
        }
    }
}

/// Who a limit applies to: a key, or without one an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Client {
    /// Name of a key.
    Key(Arc<str>),
    /// Somebody at an address.
    Address(IpAddr),
}

/// Keeps the limits.
#[derive(Debug)]
pub struct Limiter {
    limits: ClientLimits,
    keys: Mutex<HashMap<Arc<str>, Bucket>>,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
    in_flight: AtomicUsize,
    clients: Mutex<HashMap<Client, usize>>,
    /// None without a limit.
    tokens: Option<Arc<TokenRates>>,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// A limiter with nothing in flight.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            keys: Mutex::default(),
            addresses: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            clients: Mutex::default(),
            tokens: TokenRates::new(limits.tokens_per_minute),
        }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    /// Generation requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one request against the rates.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn count(&self, key: Option<&Arc<str>>, address: Option<IpAddr>) -> Result<(), ApiError> {
        let now = Instant::now();
        let ClientLimits { per_key, per_address, burst, .. } = self.limits;
        if let (true, Some(key)) = (per_key > 0, key) {
            take(&self.keys, key.clone(), per_key, burst, now)?;
        }
        if let (true, Some(address)) = (per_address > 0, address) {
            take(&self.addresses, address, per_address, burst, now)?;
        }
        Ok(())
    }

    /// Takes a place for one generation request; it is free again when the place is dropped.
    ///
    /// # Errors
    /// 503 when all places are taken, 429 when the client has its share or owes tokens; all with the
    /// time to wait.
    pub fn admit(self: &Arc<Self>, client: Client) -> Result<Place, ApiError> {
        // From here on the place is given back however this ends.
        let mut place = Place { limiter: self.clone(), client: None, charge: None };
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.limits.concurrency {
            return Err(ApiError::busy("at_capacity", "Service at capacity, please retry"));
        }
        if let Some(rates) = &self.tokens {
            rates.check(&client)?;
            place.charge = Some(Charge::new(rates.clone(), client.clone()));
        }
        let most = self.limits.concurrency_per_client;
        if most > 0 {
            let mut clients = lock(&self.clients);
            let running = clients.entry(client.clone()).or_default();
            if *running >= most {
                drop(clients);
                return Err(too_many(
                    format!("{most} requests of this client are running already"),
                    Duration::from_secs(1),
                ));
            }
            *running += 1;
            place.client = Some(client);
        }
        Ok(place)
    }
}

/// A generation request's place.
#[derive(Debug)]
pub struct Place {
    limiter: Arc<Limiter>,
    client: Option<Client>,
    charge: Option<Charge>,
}

impl Place {
    /// Whom the answer's tokens are charged to, where they are counted; once.
    pub const fn take_charge(&mut self) -> Option<Charge> {
        self.charge.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limiter.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client.take() else { return };
        let mut clients = lock(&self.limiter.clients);
        if let Some(running) = clients.get_mut(&client) {
            *running -= 1;
            if *running == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// A map stays usable whoever panicked: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take<K: Eq + Hash>(
    buckets: &Mutex<HashMap<K, Bucket>>,
    client: K,
    rate: u32,
    burst: Duration,
    now: Instant,
) -> Result<(), ApiError> {
    let rate = f64::from(rate);
    let most = (rate * burst.as_secs_f64()).max(1.0);
    let mut buckets = lock(buckets);
    if buckets.len() >= REMEMBERED {
        // A bucket that has had time to fill up says no more than no bucket.
        let full_after = Duration::from_secs_f64(most / rate);
        buckets.retain(|_, bucket| now.duration_since(bucket.at) < full_after);
    }
    let bucket = buckets.entry(client).or_insert(Bucket { tokens: most, at: now });
    let refilled = bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * rate;
    *bucket = Bucket { tokens: refilled.min(most), at: now };
    if bucket.tokens < 1.0 {
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / rate);
        return Err(too_many(format!("more than {rate} requests a second"), wait));
    }
    bucket.tokens -= 1.0;
    Ok(())
}

fn too_many(message: String, wait: Duration) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(limits: ClientLimits) -> Arc<Limiter> {
        Arc::new(Limiter::new(limits))
    }

    #[test]
    fn a_rate_lets_a_burst_through_and_then_waits() {
        let buckets = Mutex::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let ask = |ms| take(&buckets, "k", 10, Duration::from_millis(200), at(ms)).is_ok();
        assert!(ask(0) && ask(0), "two at once");
        assert!(!ask(0));
        assert!(!ask(50));
        assert!(ask(101));
        assert!(!ask(102));
        assert!(ask(10_000) && ask(10_000) && !ask(10_000), "never more than the burst");
    }

    #[test]
    fn places_are_given_back() {
        let limiter = limiter(ClientLimits {
            concurrency: 3,
            concurrency_per_client: 2,
            ..ClientLimits::default()
        });
        let client = |name: &str| Client::Key(name.into());
        let a = limiter.admit(client("a")).unwrap();
        let _b = limiter.admit(client("a")).unwrap();
        assert_eq!(limiter.admit(client("a")).unwrap_err().status(), 429);
        assert_eq!(limiter.in_flight(), 2, "a refused request takes no place");
        let _c = limiter.admit(client("b")).unwrap();
        assert_eq!(limiter.admit(client("c")).unwrap_err().status(), 503);
        drop(a);
        let _d = limiter.admit(client("a")).unwrap();
        assert_eq!(limiter.in_flight(), 3);
    }
}
