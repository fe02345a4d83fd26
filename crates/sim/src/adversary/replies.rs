use super::Means;
use crate::fault::Injection;
use althing_crypto::{Domain, Proof};
use althing_replica::{ClientMessage, Execution, Given, QueryAnswer, ReplyOutcome};
use althing_types::{RequestNumber, Seq, View};

/// A wrong result, a wrong view, an answer to another request, or the truth and a lie together.
pub(super) fn falsify(means: &mut Means, message: ClientMessage) -> Vec<ClientMessage> {
    if !means.dice.chance(800) {
        return vec![message];
    }
    means.injections.note(Injection::ReplyFalsified);
    let way = means.dice.below(7);
    let mut lie = message.clone();
    match &mut lie {
        ClientMessage::Reply { view, number, execution, outcome } => match way {
            0 => *view = View(means.dice.pick(&[0, view.0.saturating_add(1), u64::MAX])),
            1 => *number = RequestNumber(number.0.wrapping_add(1)),
            6 => *execution = otherwise(*execution),
            2 => *outcome = ReplyOutcome::TooLong { bytes: u64::MAX },
            3 => *outcome = ReplyOutcome::Result(means.dice.bytes(40)),
            _ => {
                // What all liars would make of it, so that they agree with each other.
                if let ReplyOutcome::Result(bytes) = outcome {
                    match bytes.last_mut() {
                        Some(byte) => *byte ^= 1,
                        None => bytes.push(1),
                    }
                }
            }
        },
        ClientMessage::ReplyDigest { view, number, execution, outcome } => match way {
            0 => *view = View(means.dice.pick(&[0, view.0.saturating_add(1), u64::MAX])),
            1 => *number = RequestNumber(number.0.wrapping_add(1)),
            6 => *execution = otherwise(*execution),
            _ => outcome.0[0] ^= 1,
        },
        ClientMessage::Speculated { number, speculation, proof, given } => match way {
            0 => {
                speculation.view = View(means.dice.pick(&[0, speculation.view.0.saturating_add(1), u64::MAX]))
            }
            1 => *number = RequestNumber(number.0.wrapping_add(1)),
            2 => speculation.history.0[0] ^= 1,
            3 => {
                *proof =
                    Some(Proof(proof.take().map_or(vec![7; 64], |Proof(bytes)| [&bytes[..], &[0]].concat())))
            }
            4 => *proof = None,
            // Signed all the same.
            6 => {
                speculation.seq.0 = speculation.seq.0.wrapping_add(1);
                *proof = Some(means.keyring.sign(Domain::Protocol, &speculation.statement()));
            }
            _ => match given {
                Given::Digest(digest) => digest.0[0] ^= 1,
                Given::Whole(outcome) => *outcome = ReplyOutcome::Result(vec![0, 0]),
            },
        },
        ClientMessage::Certified { number, speculation } => match way {
            0..3 => *number = RequestNumber(number.0.wrapping_add(1)),
            _ => speculation.history.0[0] ^= 1,
        },
        ClientMessage::QueryReply { answer, .. } => {
            *answer = if way < 3 { QueryAnswer::MustOrder } else { QueryAnswer::Result(vec![0, 0]) };
        }
        ClientMessage::Succession(links) => {
            links.iter_mut().for_each(|link| link.state.0[0] ^= 1);
        }
        ClientMessage::NewKey(new_key) => new_key.key[0] ^= 1,
        ClientMessage::Busy { .. }
        | ClientMessage::Superseded { .. }
        | ClientMessage::Emission { .. }
        | ClientMessage::Late
        | ClientMessage::MustSign { .. } => {}
    }
    if way == 5 { vec![lie, message] } else { vec![lie] }
}

/// Another way to have executed the same.
fn otherwise(execution: Execution) -> Execution {
    match execution {
        Execution::Tentative(seq) => Execution::Final(seq),
        Execution::Final(seq) => Execution::Tentative(seq),
        Execution::Earlier => Execution::Final(Seq(1)),
    }
}
