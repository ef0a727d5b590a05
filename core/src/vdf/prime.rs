//! Is a number prime? Trial division, one strong test to base 2 and one strengthened Lucas test
//! (Baillie–PSW). No composite is known that passes, and every sound test gives the same primes.

use super::limbs;
use super::montgomery::Montgomery;

/// Odd primes below 2^12.5 tried as divisors before a modular power is spent.
const SIEVE_END: usize = 5_000;
const SIEVE: [bool; SIEVE_END] = sieve();
/// How many odd primes the sieve holds.
const SMALL: usize = count();
/// The odd primes of the sieve.
const PRIMES: [u16; SMALL] = primes();

const fn sieve() -> [bool; SIEVE_END] {
    let mut composite = [false; SIEVE_END];
    let mut at = 2;
    while at * at < SIEVE_END {
        let mut multiple = at * at;
        while multiple < SIEVE_END {
            composite[multiple] = true;
            multiple += at;
        }
        at += 1;
    }
    composite
}

const fn count() -> usize {
    let (mut at, mut found) = (3, 0);
    while at < SIEVE_END {
        found += !SIEVE[at] as usize;
        at += 2;
    }
    found
}

#[allow(clippy::cast_possible_truncation)] // SIEVE_END is below 2^16
const fn primes() -> [u16; SMALL] {
    let mut out = [0; SMALL];
    let (mut at, mut found) = (3, 0);
    while at < SIEVE_END {
        if !SIEVE[at] {
            out[found] = at as u16;
            found += 1;
        }
        at += 2;
    }
    out
}

/// What trial division says.
enum Trial {
    Prime,
    Composite,
    Unknown,
}

/// Divides by the small primes, as many at a time as fit a machine word.
fn try_small_primes(n: &[u64]) -> Trial {
    let mut primes = PRIMES.as_slice();
    while let Some(&first) = primes.first() {
        let (mut product, mut taken) = (u64::from(first), 1);
        while let Some(more) = primes.get(taken).and_then(|p| product.checked_mul((*p).into())) {
            (product, taken) = (more, taken + 1);
        }
        let (group, rest) = primes.split_at(taken);
        let remainder = limbs::remainder_by_limb(n, product);
        for prime in group.iter().copied().map(u64::from) {
            if remainder % prime == 0 {
                let is_it = limbs::significant(n) == 1 && n[0] == prime;
                return if is_it { Trial::Prime } else { Trial::Composite };
            }
        }
        primes = rest;
    }
    Trial::Unknown
}

/// True when the odd number of up to 2048 bits is prime (Baillie–PSW); false for even numbers.
pub(crate) fn is_prime(n: &[u64; 32]) -> bool {
    if n[0] & 1 == 0 || limbs::bit_length(n) < 2 {
        return false;
    }
    match try_small_primes(&n[..limbs::significant(n)]) {
        Trial::Prime => return true,
        Trial::Composite => return false,
        Trial::Unknown => {}
    }
    match limbs::significant(n) {
        0..=5 => passes_both::<5>(n),
        6..=8 => passes_both::<8>(n),
        9..=16 => passes_both::<16>(n),
        _ => passes_both::<32>(n),
    }
}

fn passes_both<const N: usize>(n: &[u64; 32]) -> bool {
    let mut modulus = [0; N];
    for (to, from) in modulus.iter_mut().zip(n) {
        *to = *from;
    }
    let field = Montgomery::new(&modulus);
    strong_base_two(&field, &modulus) && strengthened_lucas(&field, &modulus)
}

fn bit<const N: usize>(x: &[u64; N], at: usize) -> bool {
    x[at / 64] >> (at % 64) & 1 == 1
}

/// The strong probable-prime test to base 2.
fn strong_base_two<const N: usize>(field: &Montgomery<N>, n: &[u64; N]) -> bool {
    let mut odd = *n;
    odd[0] -= 1;
    let twos = trailing_zeros(&odd);
    limbs::shift_right(&mut odd, twos);
    let one = field.one();
    let minus_one = field.negated(&one);
    let mut power = one;
    for at in (0..limbs::bit_length(&odd)).rev() {
        power = field.square(&power);
        if bit(&odd, at) {
            power = field.double(&power);
        }
    }
    if power == one || power == minus_one {
        return true;
    }
    for _ in 1..twos {
        power = field.square(&power);
        if power == minus_one {
            return true;
        }
    }
    false
}

fn trailing_zeros(x: &[u64]) -> usize {
    x.iter().position(|limb| *limb != 0).map_or(0, |at| 64 * at + x[at].trailing_zeros() as usize)
}

/// The Lucas test with Selfridge's parameters, P = 1 and Q = (1 − D)/4 for the first D of 5, −7,
/// 9, … with Jacobi symbol −1, strengthened by the condition V(n+1) ≡ 2Q.
fn strengthened_lucas<const N: usize>(field: &Montgomery<N>, n: &[u64; N]) -> bool {
    let Some(d) = selfridge(n) else { return false };
    let in_field = |value: i64| {
        let magnitude = field.small(value.unsigned_abs());
        if value < 0 { field.negated(&magnitude) } else { magnitude }
    };
    let (d_in_field, q) = (in_field(d), in_field((1 - d) / 4));
    // U, V and Q^k for k = the leading bits of n + 1.
    let mut target = *n;
    let whole = limbs::add_assign(&mut target, &[1]);
    let (mut u, mut v, mut q_power) = (field.one(), field.one(), q);
    // n = 2^(64N) − 1 is divisible by three and was refused before.
    debug_assert!(!whole);
    for at in (0..limbs::bit_length(&target).saturating_sub(1)).rev() {
        u = field.multiply(&u, &v);
        v = field.subtract(&field.square(&v), &field.double(&q_power));
        q_power = field.square(&q_power);
        if bit(&target, at) {
            let next_u = field.halve(&field.add(&u, &v));
            v = field.halve(&field.add(&field.multiply(&d_in_field, &u), &v));
            u = next_u;
            q_power = field.multiply(&q_power, &q);
        }
    }
    u == [0; N] && v == field.double(&q)
}

/// The first D of 5, −7, 9, … with (D/n) = −1. None when n shares a factor with one of them, or
/// when none is found among the first 500, which happens for squares and else never.
fn selfridge<const N: usize>(n: &[u64; N]) -> Option<i64> {
    (2..502_i64).map(|i| if i % 2 == 0 { 2 * i + 1 } else { -(2 * i + 1) }).find_map(|d| {
        match jacobi(d, n) {
            -1 => Some(Some(d)),
            0 => Some(None),
            _ => None,
        }
    })?
}

/// The Jacobi symbol (d/n) for odd d and odd positive n.
fn jacobi<const N: usize>(d: i64, n: &[u64; N]) -> i32 {
    let magnitude = d.unsigned_abs();
    // (−1/n) and then the reciprocity of two odd numbers.
    let flips = (d < 0 && n[0] & 3 == 3) != (magnitude & 3 == 3 && n[0] & 3 == 3);
    let (mut a, mut m) = (limbs::remainder_by_limb(n, magnitude), magnitude);
    let mut sign = if flips { -1 } else { 1 };
    while a != 0 {
        let twos = a.trailing_zeros();
        a >>= twos;
        if twos % 2 == 1 && matches!(m & 7, 3 | 5) {
            sign = -sign;
        }
        if a & 3 == 3 && m & 3 == 3 {
            sign = -sign;
        }
        (a, m) = (m % a, a);
    }
    if m == 1 { sign } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u128) -> [u64; 32] {
        let mut n = [0; 32];
        (n[0], n[1]) = (value as u64, (value >> 64) as u64);
        n
    }

    #[test]
    fn agrees_with_trial_division_up_to_two_hundred_thousand() {
        for n in 0..200_000_u32 {
            let by_division = n >= 3
                && n % 2 == 1
                && (3..).step_by(2).take_while(|d| d * d <= n).all(|d| n % d != 0);
            assert_eq!(is_prime(&number(n.into())), by_division, "{n}");
        }
    }

    #[test]
    fn pseudoprimes_of_either_half_are_refused() {
        // Strong base-2 pseudoprimes without a factor in the sieve: p·(2p − 1) and the like.
        let p = (1_667..).map(|k| 6 * k + 1_u128).filter(|p| is_prime(&number(*p)));
        let mut seen = 0;
        for p in p.filter(|p| is_prime(&number(2 * p - 1))).take(300) {
            assert!(!is_prime(&number(p * (2 * p - 1))), "{p}");
            seen += 1;
        }
        assert_eq!(seen, 300);
        // Both are strong pseudoprimes to base 2.
        for n in [3_215_031_751, 1_093 * 1_093, 3_511 * 3_511_u128] {
            assert!(!is_prime(&number(n)), "{n}");
        }
    }

    #[test]
    fn squares_of_large_primes_end_the_search_for_a_discriminant() {
        let p = (1_u128 << 61) - 1;
        assert!(is_prime(&number(p)));
        assert!(!is_prime(&number(p * p)));
    }

    #[test]
    fn known_large_primes_pass() {
        for exponent in [89_usize, 107, 127, 521, 607, 1_279] {
            let mut n = [0; 32];
            n[0] = 1;
            limbs::shift_left(&mut n, exponent);
            limbs::subtract_assign(&mut n, &[1]);
            assert!(is_prime(&n), "2^{exponent} − 1");
            let mut composite = [0; 32];
            composite[0] = 1;
            limbs::shift_left(&mut composite, exponent + 2);
            limbs::subtract_assign(&mut composite, &[1]);
            assert_eq!(
                is_prime(&composite),
                matches!(exponent, 519 | 605),
                "2^{} − 1",
                exponent + 2
            );
        }
    }
}
