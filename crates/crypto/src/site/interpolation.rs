//! Lagrange interpolation over the scalars of BLS12-381, also in the exponent.

use alloc::vec::Vec;
use althing_types::ReplicaId;
use bls12_381::Scalar;
use blst::MultiPoint;
use blst::min_sig::{PublicKey, Signature};

/// How many bits a scalar has.
const SCALAR_BITS: usize = 255;

/// Where the polynomial's value is the secret that is shared.
pub(super) const SECRET: Scalar = Scalar::zero();

/// Where the polynomial's value is the share of `server`.
pub(super) fn place(server: ReplicaId) -> Scalar {
    Scalar::from(u64::from(server.0) + 1)
}

/// The value at `at` of the polynomial in the exponent that goes through these signatures.
pub(super) fn of_signatures(at: Scalar, through: &[(Scalar, Signature)]) -> Signature {
    let (places, points): (Vec<_>, Vec<_>) = through.iter().copied().unzip();
    points.mult(&coefficients(at, &places), SCALAR_BITS).to_signature()
}

/// The value at `at` of the polynomial in the exponent that goes through these keys.
pub(super) fn of_keys(at: Scalar, through: &[(Scalar, PublicKey)]) -> PublicKey {
    let (places, points): (Vec<_>, Vec<_>) = through.iter().copied().unzip();
    points.mult(&coefficients(at, &places), SCALAR_BITS).to_public_key()
}

/// What the values at `places` are multiplied with to give, added up, the value at `at`: a polynomial of
/// a degree below their number goes through them. The places differ from each other. In the encoding
/// that blst takes, 32 bytes each, the least first.
fn coefficients(at: Scalar, places: &[Scalar]) -> Vec<u8> {
    let others = |of: usize| {
        let rest = places.iter().enumerate().filter(move |(place, _)| *place != of);
        rest.map(|(_, place)| *place)
    };
    let product = |factors: &mut dyn Iterator<Item = Scalar>| factors.fold(Scalar::one(), |a, b| a * b);
    let terms: Vec<(Scalar, Scalar)> = (places.iter().enumerate())
        .map(|(index, own)| {
            let above = product(&mut others(index).map(|other| at - other));
            let below = product(&mut others(index).map(|other| own - other));
            (above, below)
        })
        .collect();
    // One inversion for all, since one takes as long as hundreds of multiplications.
    let below_all = product(&mut terms.iter().map(|(_, below)| *below));
    let inverse = below_all.invert().expect("the places differ from each other");
    let mut bytes = Vec::with_capacity(32 * terms.len());
    for (index, (above, _)) in terms.iter().enumerate() {
        let rest = terms.iter().enumerate().filter(|(other, _)| *other != index);
        let rest = product(&mut rest.map(|(_, (_, below))| *below));
        bytes.extend_from_slice(&(above * inverse * rest).to_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> Vec<Scalar> {
        bytes.chunks(32).map(|chunk| Scalar::from_bytes(chunk.try_into().unwrap()).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_polynomial_is_found_again_from_its_values(
            polynomial in proptest::collection::vec(any::<u64>(), 1..12),
            first in 1u64..1000,
            at in any::<u64>(),
        ) {
            let value = |x: Scalar| {
                polynomial.iter().fold(Scalar::zero(), |value, c| value * x + Scalar::from(*c))
            };
            let places: Vec<Scalar> =
                (0..polynomial.len() as u64).map(|i| Scalar::from(first + 3 * i)).collect();
            let at = Scalar::from(at);
            let coefficients = decoded(&coefficients(at, &places));
            let found = coefficients.iter().zip(&places).map(|(c, x)| c * value(*x));
            prop_assert_eq!(found.fold(Scalar::zero(), |sum, term| sum + term), value(at));
        }
    }
}
