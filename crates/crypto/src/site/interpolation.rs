//! Lagrange interpolation over the scalars of BLS12-381, also in the exponent.

use alloc::vec::Vec;
use althing_types::ReplicaId;
use bls12_381::Scalar;
use blst::min_pk::AggregatePublicKey;
use blst::min_sig::{PublicKey, Signature};
use blst::{MultiPoint, blst_p1, blst_p1_affine};

/// How many bits a scalar has.
const SCALAR_BITS: usize = 255;

/// Where the polynomial's value is the secret that is shared, divided by [`scale`].
pub(super) const SECRET: Scalar = Scalar::zero();

/// Where the polynomial's value is the share of `server`.
pub(super) fn place(server: ReplicaId) -> Scalar {
    Scalar::from(u64::from(server.0) + 1)
}

/// How many times the polynomial's value at [`SECRET`] the secret is, among so many servers: n!, which makes a whole
/// number of each coefficient for that value, and a short one unless servers are many (Shoup, EUROCRYPT 2000).
pub(super) fn scale(servers: usize) -> Scalar {
    product((1..=servers as u64).map(Scalar::from))
}

/// So many times the value at [`SECRET`] of the polynomial in the exponent that goes through these signatures.
pub(super) fn of_signatures(times: Scalar, through: &[(Scalar, Signature)]) -> Signature {
    let (places, points): (Vec<_>, Vec<_>) = through.iter().copied().unzip();
    let digits: Vec<_> = coefficients(times, SECRET, &places).iter().map(signed_digits).collect();
    let points: Vec<_> = points.into_iter().map(|it| point_of_g1(blst_p1_affine::from(it))).collect();
    let longest = digits.iter().map(Vec::len).max().unwrap_or_default();
    let mut sum = AggregatePublicKey::from(blst_p1::default());
    for place in (0..longest).rev() {
        let same = sum;
        sum.add_aggregate(&same);
        for (point, digits) in points.iter().zip(&digits) {
            match digits.get(place) {
                Some(1) => sum.add_aggregate(point),
                Some(-1) => sum.sub_aggregate(point),
                _ => {}
            }
        }
    }
    Signature::from(blst_p1_affine::from(sum.to_public_key()))
}

/// A point of G1, as which blst adds and subtracts: it takes it for a public key of its other variant, whose keys are what
/// our signatures are.
fn point_of_g1(point: blst_p1_affine) -> AggregatePublicKey {
    AggregatePublicKey::from_public_key(&point.into())
}

/// So many times the value at `at` of the polynomial in the exponent that goes through these keys.
pub(super) fn of_keys(times: Scalar, at: Scalar, through: &[(Scalar, PublicKey)]) -> PublicKey {
    let (places, points): (Vec<_>, Vec<_>) = through.iter().copied().unzip();
    let scalars: Vec<u8> = coefficients(times, at, &places).iter().flat_map(Scalar::to_bytes).collect();
    points.mult(&scalars, SCALAR_BITS).to_public_key()
}

/// What the values at `places` are multiplied with to give, added up, so many times the value at `at`: a polynomial of a
/// degree below their number goes through them. The places differ from each other.
fn coefficients(times: Scalar, at: Scalar, places: &[Scalar]) -> Vec<Scalar> {
    let others = |of: usize| {
        let rest = places.iter().enumerate().filter(move |(place, _)| *place != of);
        rest.map(|(_, place)| *place)
    };
    let terms: Vec<(Scalar, Scalar)> = (places.iter().enumerate())
        .map(|(index, own)| {
            let above = product(others(index).map(|other| at - other));
            let below = product(others(index).map(|other| own - other));
            (above, below)
        })
        .collect();
    // One inversion for all, since one takes as long as hundreds of multiplications.
    let inverse = product(terms.iter().map(|(_, below)| *below)).invert();
    let inverse = times * inverse.expect("the places differ from each other");
    let coefficient = |(index, (above, _)): (usize, &(Scalar, Scalar))| {
        let rest = terms.iter().enumerate().filter(|(other, _)| *other != index);
        above * inverse * product(rest.map(|(_, (_, below))| *below))
    };
    terms.iter().enumerate().map(coefficient).collect()
}

fn product(factors: impl Iterator<Item = Scalar>) -> Scalar {
    factors.fold(Scalar::one(), |product, factor| product * factor)
}

/// The scalar, or what it is below zero, in base two with digits of -1, 0 and 1, the least first, of which no two that
/// follow each other are other than 0: a third of them on average. As many as the shorter of the two has bits, or one
/// more.
fn signed_digits(scalar: &Scalar) -> Vec<i8> {
    let bits = |scalar: &Scalar| {
        let bytes = scalar.to_bytes();
        let bits: Vec<u8> =
            bytes.iter().flat_map(|byte| (0..8).map(move |place| byte >> place & 1)).collect();
        let length = bits.iter().rposition(|bit| *bit == 1).map_or(0, |last| last + 1);
        bits[..length].to_vec()
    };
    let (above, below) = (bits(scalar), bits(&-scalar));
    let (bits, sign) = if above.len() <= below.len() { (above, 1) } else { (below, -1) };
    let bit = |place: usize| bits.get(place).copied().unwrap_or_default();
    let mut carried = 0;
    let mut digits: Vec<i8> = (0..=bits.len())
        .map(|place| {
            let here = bit(place) + carried;
            // Where a run of ones begins one is subtracted here, and one added above its end.
            let is_run = here == 1 && bit(place + 1) == 1;
            carried = u8::from(is_run || here == 2);
            match here {
                1 if is_run => -sign,
                1 => sign,
                _ => 0,
            }
        })
        .collect();
    digits.pop_if(|last| *last == 0);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn value_of(digits: &[i8]) -> Scalar {
        digits.iter().rev().fold(Scalar::zero(), |value, digit| {
            let digit = match digit {
                -1 => -Scalar::one(),
                digit => Scalar::from(u64::try_from(*digit).unwrap()),
            };
            value.double() + digit
        })
    }

    #[test]
    fn signed_digits_say_what_numbers_at_the_edges_are() {
        let (zero, one) = (Scalar::zero(), Scalar::one());
        let half = Scalar::from(2).invert().expect("it is not zero");
        let powers = (0..255).map(|power| Scalar::from(2).pow(&[power, 0, 0, 0]));
        let edges =
            powers.flat_map(|power| [power - one, power, power + one]).chain([zero, half, half - one]);
        for scalar in edges.flat_map(|scalar| [scalar, -scalar]) {
            assert_eq!(value_of(&signed_digits(&scalar)), scalar);
        }
        assert_eq!([zero, one, -one].map(|it| signed_digits(&it)), [vec![], vec![1], vec![-1]]);
    }

    proptest! {
        #[test]
        fn a_polynomial_is_found_again_from_its_values(
            polynomial in proptest::collection::vec(any::<u64>(), 1..12),
            first in 1u64..1000,
            at in any::<u64>(),
            times in 1u64..1000,
        ) {
            let value = |x: Scalar| {
                polynomial.iter().fold(Scalar::zero(), |value, c| value * x + Scalar::from(*c))
            };
            let places: Vec<Scalar> =
                (0..polynomial.len() as u64).map(|i| Scalar::from(first + 3 * i)).collect();
            let (at, times) = (Scalar::from(at), Scalar::from(times));
            let found = coefficients(times, at, &places);
            let found = found.iter().zip(&places).map(|(c, x)| c * value(*x));
            prop_assert_eq!(found.fold(Scalar::zero(), |sum, term| sum + term), times * value(at));
        }

        #[test]
        fn signed_digits_say_what_the_scalar_is(wide in any::<[u8; 32]>(), shift in 0usize..32, is_below: bool) {
            let mut bytes = [0; 64];
            bytes[..32 - shift].copy_from_slice(&wide[shift..]);
            let scalar = Scalar::from_bytes_wide(&bytes);
            let scalar = if is_below { -scalar } else { scalar };
            let digits = signed_digits(&scalar);
            prop_assert_eq!(value_of(&digits), scalar);
            prop_assert!(digits.iter().all(|digit| (-1..=1).contains(digit)));
            prop_assert!(digits.windows(2).all(|pair| pair[0] == 0 || pair[1] == 0));
            prop_assert!(digits.len() <= 8 * (32 - shift) + 1, "{}", digits.len());
        }

        #[test]
        fn coefficients_for_the_secret_are_short(n in 1usize..20, chosen in any::<u32>()) {
            let servers = (0..n as u16).filter(|server| chosen >> server & 1 == 1).map(ReplicaId);
            let places: Vec<Scalar> = servers.map(place).collect();
            for coefficient in coefficients(scale(n), SECRET, &places) {
                // Of n! times a quotient, of which at most n! stands above.
                let most = (1..=n).map(|factor| (factor as f64).log2()).sum::<f64>() * 2.0;
                prop_assert!(signed_digits(&coefficient).len() as f64 <= most + 2.0);
            }
        }
    }
}
