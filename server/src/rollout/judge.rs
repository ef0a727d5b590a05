//! Whether the engine on trial does worse than the one beside it. Rates are compared where there is
//! enough to compare, counts only where chance alone would not explain them. spec: proxy §25

use super::arm::Summary;
use std::fmt;
use std::time::Duration;

/// Failures that end a trial before there is enough to compare, when they are most of its requests.
const EARLY_FAILURES: u64 = 5;
/// Fewer failures than this may be bad luck.
const LEAST_FAILURES: u64 = 3;
/// Proofs that must be expected before missing ones say anything.
const LEAST_PROOFS: f64 = 10.0;
/// Standard deviations of a count that chance is granted.
const CHANCE: f64 = 3.0;
/// A difference that nobody feels: of a stream's beginning, and of one token.
const UNFELT: (f64, f64) = (0.05, 0.005);

/// What counts as worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Time over which both are compared.
    pub window: Duration,
    /// Requests of each before their times and errors are compared.
    pub least_requests: u64,
    /// It may be slower by this factor.
    pub slower: f64,
    /// And fail in so many more of its requests, as a share.
    pub errors: f64,
    /// And leave so many proofs fewer for its windows, as a share.
    pub proofs: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            least_requests: 50,
            slower: 1.5,
            errors: 0.02,
            proofs: 0.2,
        }
    }
}

/// How it is worse.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Regression {
    /// Shares of requests in which the engines failed.
    Errors(f64, f64),
    /// Seconds until nineteen of twenty streams began.
    FirstToken(f64, f64),
    /// Seconds a token, in nineteen of twenty requests.
    TokenTime(f64, f64),
    /// Proofs expected of its windows, and those that came.
    Proofs(f64, u64),
    /// Shares of the proofs that the chain refused.
    Refused(f64, f64),
}

impl Regression {
    /// As a label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Errors(..) => "errors",
            Self::FirstToken(..) => "first_token",
            Self::TokenTime(..) => "token_time",
            Self::Proofs(..) => "proofs",
            Self::Refused(..) => "refused",
        }
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        match *self {
            Self::Errors(base, trial) => {
                let (base, trial) = (percent(base), percent(trial));
                write!(f, "it fails in {trial:.1} % of its requests, the other in {base:.1} %")
            }
            Self::FirstToken(base, trial) => {
                write!(f, "19 of 20 streams begin within {trial:.3} s, the other's in {base:.3} s")
            }
            Self::TokenTime(base, trial) => {
                let (base, trial) = (base * 1e3, trial * 1e3);
                write!(f, "a token takes {trial:.2} ms, the other's {base:.2} ms (19 of 20)")
            }
            Self::Proofs(expected, came) => {
                write!(f, "{came} proofs came, {expected:.1} were to be expected of its windows")
            }
            Self::Refused(base, trial) => {
                let (base, trial) = (percent(base), percent(trial));
                write!(f, "{trial:.1} % of its proofs were refused, of the other's {base:.1} %")
            }
        }
    }
}

/// The first thing in which the engine on trial is worse.
#[must_use]
pub fn judge(base: &Summary, trial: &Summary, tolerance: &Tolerance) -> Option<Regression> {
    errors(base, trial, tolerance)
        .or_else(|| refused(base, trial, tolerance))
        .or_else(|| proofs(base, trial, tolerance))
        .or_else(|| times(base, trial, tolerance))
}

fn errors(base: &Summary, trial: &Summary, tolerance: &Tolerance) -> Option<Regression> {
    let shares = (share(base.failed, base.requests), share(trial.failed, trial.requests));
    let early = trial.failed >= EARLY_FAILURES && shares.1 >= 0.5 && shares.1 > shares.0;
    let enough = trial.requests >= tolerance.least_requests && trial.failed >= LEAST_FAILURES;
    let worse = enough && shares.1 > shares.0 + tolerance.errors;
    (early || worse).then_some(Regression::Errors(shares.0, shares.1))
}

fn refused(base: &Summary, trial: &Summary, tolerance: &Tolerance) -> Option<Regression> {
    let shares = (share(base.refused, base.proofs), share(trial.refused, trial.proofs));
    let worse = trial.refused >= LEAST_FAILURES && shares.1 > shares.0 + tolerance.proofs;
    worse.then_some(Regression::Refused(shares.0, shares.1))
}

/// A window becomes a proof by chance, and by the same chance on both engines.
fn proofs(base: &Summary, trial: &Summary, tolerance: &Tolerance) -> Option<Regression> {
    let expected = share(base.proofs, base.windows) * float(trial.windows);
    let came = float(trial.proofs);
    let fewer = came < expected * (1.0 - tolerance.proofs);
    let no_chance = came < CHANCE.mul_add(-expected.sqrt(), expected);
    (expected >= LEAST_PROOFS && fewer && no_chance)
        .then_some(Regression::Proofs(expected, trial.proofs))
}

fn times(base: &Summary, trial: &Summary, tolerance: &Tolerance) -> Option<Regression> {
    let slower = |counts: [u64; 2], base: f64, trial: f64, unfelt: f64| {
        counts.iter().all(|count| *count >= tolerance.least_requests)
            && trial > base * tolerance.slower
            && trial > base + unfelt
    };
    if slower([base.streams, trial.streams], base.first_token, trial.first_token, UNFELT.0) {
        return Some(Regression::FirstToken(base.first_token, trial.first_token));
    }
    slower([base.timed, trial.timed], base.per_token, trial.per_token, UNFELT.1)
        .then_some(Regression::TokenTime(base.per_token, trial.per_token))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that does well: 200 requests, a proof for every fourth window.
    fn good() -> Summary {
        Summary {
            requests: 200,
            failed: 1,
            streams: 200,
            first_token: 0.4,
            timed: 200,
            per_token: 0.02,
            windows: 200,
            proofs: 50,
            refused: 1,
        }
    }

    fn label(trial: Summary) -> Option<&'static str> {
        judge(&good(), &trial, &Tolerance::default()).map(|found| found.label())
    }

    #[test]
    fn an_engine_that_does_as_well_stays() {
        assert_eq!(label(good()), None);
        assert_eq!(label(Summary { first_token: 0.59, per_token: 0.029, ..good() }), None);
        assert_eq!(label(Summary::default()), None, "nothing to compare yet");
    }

    #[test]
    fn an_engine_that_fails_does_not() {
        let failing = |failed, requests| label(Summary { failed, requests, ..good() });
        assert_eq!(failing(4, 200), None, "within the tolerance");
        assert_eq!(failing(6, 200), Some("errors"));
        assert_eq!(failing(2, 50), None, "two may be bad luck");
        assert_eq!(failing(3, 50), Some("errors"));
        assert_eq!(failing(4, 6), None, "too few to tell");
        assert_eq!(failing(5, 6), Some("errors"), "nearly all of them");
        // Both engines fail: the one on trial is not to blame.
        let down = Summary { failed: 200, ..good() };
        assert_eq!(judge(&down, &down, &Tolerance::default()), None);
    }

    #[test]
    fn an_engine_that_is_slow_does_not() {
        assert_eq!(label(Summary { first_token: 0.61, ..good() }), Some("first_token"));
        assert_eq!(label(Summary { per_token: 0.031, ..good() }), Some("token_time"));
        let few = Summary { first_token: 9.0, streams: 49, ..good() };
        assert_eq!(label(few), None, "too few to tell");
        let quick = Summary { first_token: 0.001, ..good() };
        let less_quick = Summary { first_token: 0.01, ..good() };
        let found = judge(&quick, &less_quick, &Tolerance::default());
        assert_eq!(found, None, "nobody feels nine milliseconds");
    }

    #[test]
    fn an_engine_whose_windows_leave_no_proofs_does_not() {
        assert_eq!(label(Summary { proofs: 30, ..good() }), None, "chance");
        assert_eq!(label(Summary { proofs: 28, ..good() }), Some("proofs"));
        assert_eq!(label(Summary { proofs: 0, windows: 39, ..good() }), None, "too few windows");
        assert_eq!(label(Summary { proofs: 0, windows: 40, ..good() }), Some("proofs"));
        // A difference that is no chance and still too small to matter.
        let many = |proofs| Summary { proofs, windows: 20_000, ..good() };
        let among_many = |proofs| judge(&many(5_000), &many(proofs), &Tolerance::default());
        assert_eq!(among_many(4_500), None);
        assert_eq!(among_many(3_999), Some(Regression::Proofs(5_000.0, 3_999)));
        assert_eq!(label(Summary { refused: 12, ..good() }), Some("refused"));
        assert_eq!(label(Summary { refused: 10, ..good() }), None);
    }

    #[test]
    fn a_regression_is_told_in_numbers() {
        let told = Regression::Errors(0.005, 0.25).to_string();
        assert_eq!(told, "it fails in 25.0 % of its requests, the other in 0.5 %");
        let told = Regression::Proofs(40.0, 3).to_string();
        assert_eq!(told, "3 proofs came, 40.0 were to be expected of its windows");
    }
}
