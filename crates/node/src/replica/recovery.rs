//! Proactive recovery: each replica in its turn ends, and comes back from a fresh process image that doubts
//! all that is on its disk, whether or not it was taken over (TOCS'02 §4.3).
//!
//! The turns follow the wall clock: the time in which each replica recovers once falls into as many slots as
//! there are replicas. A replica whose slot has begun ends only while all others are connected and none of
//! them is known to have lost or to doubt its past, or to be behind, and only in the first part of the slot,
//! so that clocks that differ by less than the rest let no two recover at once. Whoever can't go in its slot
//! waits for the next.

use std::time::Duration;

use althing_replica::Output;
use althing_replica::storage::end_recovery;
use althing_types::{FaultModel, Instant, Principal};

use super::ReplicaError;
use super::runtime::{NodeProtocol, Runtime};
use crate::config::LEAST_SLOT_MS;
use crate::control::RecoveryReport;
use crate::log::Files;

/// A replica goes in the first of so many parts of its slot.
const PARTS: u128 = 4;

/// Where a replica stands with its recoveries.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// When the process before this one ended to recover.
    pub(super) since: Option<Instant>,
    /// When this one started.
    pub(super) started: Instant,
    /// The disk that says so, until nothing that was said before can matter, and its next end is to be one
    /// to recover.
    pub(super) disk: Option<Files>,
    /// The last record that was handed to the disk, and the last that is there.
    pub(super) appended: u64,
    pub(super) durable: u64,
    /// The one by which it has recovered, once that was handed over.
    settled_by: Option<u64>,
    /// How long it took until this one voted.
    silent: Option<Duration>,
    pub(super) report: Option<RecoveryReport>,
    /// Whether it ends to recover.
    pub(super) is_due: bool,
}

/// How long the slot of one replica is. A group that has grown takes longer for a round where its slots would
/// be too short.
fn slot_length(every: Duration, n: usize) -> Duration {
    (every / u32::try_from(n).unwrap_or(u32::MAX)).max(Duration::from_millis(LEAST_SLOT_MS))
}

/// Which slot it is, and whether it is in its first part.
fn slot(now: Instant, every: Duration, n: usize) -> (u128, bool) {
    let length = slot_length(every, n).as_nanos();
    let now = u128::from(now.0);
    (now / length, now % length < length / PARTS)
}

/// From the start of one recovery to when the next one has ended and nobody believes keys any more that were
/// copied before: with turns of a `round`, the last begun so long `ago`, which took `took` if it has ended.
fn window(round: Duration, ago: Duration, took: Option<Duration>, keys: Duration) -> Duration {
    match took {
        Some(took) => round.max(ago) + took + keys,
        // It is still under way, or there was none.
        None => round + ago + keys,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<P: NodeProtocol> Runtime<P> {
    /// Ends to recover, if it is this replica's turn and it is missed by nobody.
    ///
    /// # Errors
    /// When the disk can't take down that the last recovery is over.
    pub(super) fn recover_if_due(&mut self) -> Result<(), ReplicaError> {
        let now = self.clock.now();
        self.note_recovered(now)?;
        let Some(every) = self.round() else { return Ok(()) };
        let (n, me) = (self.members.quorums().n(), self.members.me());
        let (number, is_early) = slot(now, every, n);
        let is_turn = is_early && number % n as u128 == u128::from(me.0);
        let has_had_it = self.recovery.since.is_some_and(|since| slot(since, every, n).0 == number);
        if is_turn && !has_had_it && self.leaving.is_none() && self.can_be_missed(now) {
            tracing::info!(replica = %me, "its turn to recover");
            self.recovery.is_due = true;
            self.leave();
        }
        Ok(())
    }

    /// In which time each recovers once, where they do. It is against replicas that were taken over: in an epoch
    /// that stands none of those nobody has a turn.
    fn round(&self) -> Option<Duration> {
        let stands_lies = self.members.quorums().model() == FaultModel::Byzantine;
        self.file.group().proactive_recovery().filter(|_| stands_lies)
    }

    fn can_be_missed(&self, now: Instant) -> bool {
        let (status, protocol) = (self.replica.status(), self.replica.protocol());
        status.is_in_view
            && !status.is_transferring
            && self.replica.takes_part()
            && self.can_prove_its_epoch()
            && self.members.quorums().n() > self.members.quorums().agreement()
            && protocol.is_settled()
            && protocol.knows_no_straggler(now)
            && self.are_all_connected()
    }

    fn are_all_connected(&self) -> bool {
        let own = self.members.route(Principal::Replica(self.members.me()));
        let mut others = self.members.present().into_iter().filter(|other| Some(*other) != own);
        others.all(|other| self.network.is_connected(other))
    }

    /// Whether it would find its way back from the group file that it is started with.
    fn can_prove_its_epoch(&self) -> bool {
        let known = self.file.group().membership().map(|membership| membership.epoch);
        known.is_none_or(|known| self.replica.proves_its_epoch_from(known))
    }

    /// Takes down that it is back where it was: on the disk first that it doubts that no longer.
    fn note_recovered(&mut self, now: Instant) -> Result<(), ReplicaError> {
        let Some(since) = self.recovery.since.filter(|_| self.recovery.report.is_none()) else {
            return Ok(());
        };
        let (status, protocol) = (self.replica.status(), self.replica.protocol());
        let is_back = self.replica.takes_part() && protocol.is_voting();
        if !self.replica.is_retired() && (!is_back || !status.is_in_view || status.is_transferring) {
            return Ok(());
        }
        let is_settled = protocol.is_settled();
        let recovery = &mut self.recovery;
        let silent = *recovery.silent.get_or_insert(now.since(since));
        let pending = self.outputs.iter().filter_map(|output| match output {
            Output::Append { id, .. } => Some(*id),
            _ => None,
        });
        let last = pending.max().unwrap_or(recovery.appended);
        if !is_settled || *recovery.settled_by.get_or_insert(last) > recovery.durable {
            return Ok(());
        }
        if let Some(disk) = &mut recovery.disk {
            end_recovery(disk)?;
        }
        let (silent_ms, took_ms) = (ms(silent), ms(now.since(since)));
        tracing::info!(silent_ms, took_ms, "recovered");
        recovery.report = Some(RecoveryReport { began_ns: since.0, silent_ms, took_ms });
        Ok(())
    }

    /// T<sub>v</sub> of the paper: the time between recoveries, what one takes, and the life of keys. Where its turns
    /// pass without a recovery, since it can't be missed, the time between them is as long as that has lasted.
    pub(super) fn vulnerable_ms(&self, now: Instant) -> Option<u64> {
        let group = self.file.group();
        let n = self.members.quorums().n();
        let round = slot_length(self.round()?, n) * u32::try_from(n).unwrap_or(u32::MAX);
        let recovery = &self.recovery;
        let took = recovery.report.map(|report| Duration::from_millis(report.took_ms));
        Some(ms(window(
            round,
            now.since(recovery.since.unwrap_or(recovery.started)),
            took,
            group.key_lifetime()?,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_turns_pass_in_vain() {
        let s = Duration::from_secs;
        let table = [
            (s(10), Some(s(3)), s(68), "the next is yet to come"),
            (s(60), Some(s(3)), s(68), "it is due"),
            (s(500), Some(s(3)), s(508), "nobody could miss it for long"),
            (s(10), None, s(75), "it recovers still"),
            (s(900), None, s(965), "it never did"),
        ];
        for (ago, took, expected, case) in table {
            assert_eq!(window(s(60), ago, took, s(5)), expected, "{case}");
        }
    }

    #[test]
    fn slots_follow_each_other_and_only_their_beginnings_count() {
        let (every, second) = (Duration::from_secs(16), 1_000_000_000);
        let at = |now| slot(Instant(now), every, 4);
        let in_first = (at(0), at(second - 1), at(second), at(4 * second - 1));
        assert_eq!(in_first, ((0, true), (0, true), (0, false), (0, false)));
        assert_eq!(
            (at(4 * second), at(16 * second - 1), at(16 * second)),
            ((1, true), (3, false), (4, true))
        );
        // Ten of the same group still have two seconds each.
        assert_eq!(slot(Instant(19 * second), every, 10), (9, false));
    }
}
