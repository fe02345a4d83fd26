use super::{Verdict, Violation};
use althing_crypto::PublicIdentity;
use althing_protocol::Settings;
use althing_replica::EngineSettings;
use althing_replica::membership::{Change, Membership, Reconfigure};
use althing_types::{ClientId, Digest, Epoch, ReplicaId, RequestNumber, Seq};
use std::collections::{BTreeMap, BTreeSet};

type Keys = BTreeSet<[u8; 64]>;

/// A command as it was asked for.
#[derive(Debug)]
struct Asked {
    epoch: Epoch,
    f: u16,
    leaving: BTreeSet<ReplicaId>,
    joining: Keys,
    /// Of those that leave, who has their places.
    heirs: BTreeMap<ReplicaId, [u8; 64]>,
    /// Those that come after all others, in order.
    added: Vec<[u8; 64]>,
    /// The settings of the next epoch, and who is to lead first there, by its place before.
    settings: Option<Settings>,
    first_primary: Option<ReplicaId>,
    /// How many requests are to be taken, and which, if that is asked for.
    engine: Option<EngineSettings>,
    /// Where it took effect, once a correct replica has executed it for good.
    executed: Option<Seq>,
    /// Whether who asked was told that the change is made.
    is_granted: bool,
}

/// The first word on an epoch, to which all others are held.
#[derive(Debug)]
struct Entry {
    host: usize,
    membership: Membership,
    start: Option<(Seq, Digest)>,
}

/// Which epochs there were, and what was executed in each.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    asked: BTreeMap<(ClientId, RequestNumber), Asked>,
    epochs: BTreeMap<Epoch, Entry>,
    /// Where each has to end: at the first checkpoint after its command.
    ends: BTreeMap<Epoch, Seq>,
    /// What was executed in each at most, and where.
    reached: BTreeMap<Epoch, (Seq, usize)>,
    retired: BTreeSet<usize>,
}

impl Asked {
    /// The keys of those that these settings make witnesses after `before`.
    fn witnesses(&self, settings: &Settings, before: &Membership) -> Keys {
        let key = |place: &ReplicaId| match before.member(*place) {
            Some(_) if self.leaving.contains(place) => self.heirs.get(place).copied(),
            Some(member) => Some(key_bytes(&member.key)),
            None => self.added.get(usize::from(place.0) - before.members.len()).copied(),
        };
        settings.witnesses().iter().filter_map(key).collect()
    }
}

/// The keys of those that execute nothing.
fn witnesses(membership: &Membership) -> Keys {
    let members = membership.settings.witnesses().iter().filter_map(|place| membership.member(*place));
    members.map(|member| key_bytes(&member.key)).collect()
}

fn violation(message: String) -> Verdict {
    Err(Violation::new("membership", message))
}

/// A correct host's replica has left the group, and still takes part in the protocol.
pub(crate) fn spoke_after_leaving(host: usize, kind: &str) -> Violation {
    Violation::new("membership", format!("host {host} has left the group, and sends a {kind}"))
}

fn key_bytes(key: &PublicIdentity) -> [u8; 64] {
    key.to_bytes()
}

impl Succession {
    /// Watches a group that starts from `first`.
    pub(crate) fn new(first: Option<&Membership>) -> Self {
        let entry =
            |first: &Membership| (Epoch(0), Entry { host: 0, membership: first.clone(), start: None });
        Self { epochs: first.map(entry).into_iter().collect(), ..Self::default() }
    }

    /// An administrator asks for a change.
    pub(crate) fn asked(&mut self, client: ClientId, number: RequestNumber, command: &Reconfigure) {
        let (mut leaving, mut joining) = (BTreeSet::new(), Keys::new());
        let (mut settings, mut first_primary, mut engine) = (None, None, None);
        let (mut heirs, mut added) = (BTreeMap::new(), Vec::new());
        for change in &command.changes {
            match change {
                Change::Add(member) => {
                    joining.insert(key_bytes(&member.key));
                    added.push(key_bytes(&member.key));
                }
                Change::Remove(id) => drop(leaving.insert(*id)),
                Change::Replace(id, member) => {
                    leaving.insert(*id);
                    joining.insert(key_bytes(&member.key));
                    heirs.insert(*id, key_bytes(&member.key));
                }
                Change::Rekey(id, key) => {
                    leaving.insert(*id);
                    joining.insert(key_bytes(key));
                    heirs.insert(*id, key_bytes(key));
                }
                Change::Settings(asked) => settings = Some(asked.clone()),
                Change::FirstPrimary(id) => first_primary = Some(*id),
                Change::Engine(asked) => engine = Some(*asked),
            }
        }
        let (epoch, f, executed, is_granted) = (command.epoch, command.f, None, false);
        let asked = Asked {
            epoch,
            f,
            leaving,
            joining,
            heirs,
            added,
            settings,
            first_primary,
            engine,
            executed,
            is_granted,
        };
        self.asked.insert((client, number), asked);
    }

    /// It is told that the change is made. That may be before any replica has executed it for good.
    pub(crate) fn granted(&mut self, client: ClientId, number: RequestNumber) -> Verdict {
        let Some(asked) = self.asked.get_mut(&(client, number)) else {
            return violation(format!("{client} was granted {number}, which it never asked for"));
        };
        asked.is_granted = true;
        self.note_end((client, number))
    }

    /// Takes down where an epoch has to end, once it is known that and where its command was executed.
    fn note_end(&mut self, command: (ClientId, RequestNumber)) -> Verdict {
        let Some(Asked { epoch, executed: Some(seq), is_granted: true, .. }) = self.asked.get(&command)
        else {
            return Ok(());
        };
        // Of an epoch that no correct replica was seen in nothing is known.
        let Some(entry) = self.epochs.get(epoch) else { return Ok(()) };
        let period = entry.membership.settings.checkpoint_period();
        let (epoch, end) = (*epoch, Seq(seq.0.next_multiple_of(period)));
        if let Some(other) = self.ends.insert(epoch, end).filter(|other| *other != end) {
            return violation(format!("{epoch} was to end at {other} and is to end at {end}"));
        }
        self.check_end(epoch)
    }

    /// A correct host's replica executes a batch.
    pub(crate) fn executed(
        &mut self,
        host: usize,
        epoch: Epoch,
        seq: Seq,
        requests: &[(ClientId, RequestNumber)],
    ) -> Verdict {
        for request in requests {
            if let Some(asked) = self.asked.get_mut(request) {
                asked.executed.get_or_insert(seq);
                self.note_end(*request)?;
            }
        }
        if self.retired.contains(&host) {
            return violation(format!("host {host} has left the group and executes {seq}"));
        }
        let start = self.epochs.get(&epoch).and_then(|entry| entry.start).map_or(Seq(0), |(seq, _)| seq);
        if seq <= start {
            return violation(format!("host {host} executes {seq} in {epoch}, which started from {start}"));
        }
        let reached = self.reached.entry(epoch).or_insert((seq, host));
        if reached.0 < seq {
            *reached = (seq, host);
        }
        self.check_end(epoch)
    }

    fn check_end(&self, epoch: Epoch) -> Verdict {
        let started = self.epochs.get(&epoch.next()).and_then(|entry| entry.start).map(|(seq, _)| seq);
        let (asked, reached) = (self.ends.get(&epoch).copied(), self.reached.get(&epoch));
        for end in [started, asked].into_iter().flatten() {
            if let Some((seq, host)) = reached.filter(|(seq, _)| *seq > end) {
                return violation(format!("host {host} executes {seq} in {epoch}, which ended at {end}"));
            }
        }
        match (started, asked) {
            (Some(started), Some(asked)) if started != asked => {
                violation(format!("{} starts from {started}, but {epoch} ends at {asked}", epoch.next()))
            }
            _ => Ok(()),
        }
    }

    /// The changes that somebody was told are made, and that have not taken effect: no correct replica has
    /// executed the command for good, or none is in the epoch that follows. Of a group that works again
    /// there are none after a while.
    pub(crate) fn unfulfilled(&self) -> Vec<String> {
        let is_open = |(_, asked): &(_, &Asked)| {
            asked.is_granted && (asked.executed.is_none() || !self.epochs.contains_key(&asked.epoch.next()))
        };
        let say = |((client, number), asked): (&(ClientId, RequestNumber), &Asked)| {
            let executed = asked.executed.map_or("nowhere".to_owned(), |seq| seq.to_string());
            format!("{client} was granted {number}, to end {}; it is executed at {executed}", asked.epoch)
        };
        self.asked.iter().filter(is_open).map(say).collect()
    }

    /// A correct host's replica has no place any more.
    pub(crate) fn retired(&mut self, host: usize) {
        self.retired.insert(host);
    }

    /// A correct host's replica is in an epoch from now on.
    pub(crate) fn entered(
        &mut self,
        host: usize,
        membership: &Membership,
        start: Option<(Seq, Digest)>,
    ) -> Verdict {
        let epoch = membership.epoch;
        let times = match membership.settings {
            Settings::Pbft(_) | Settings::Zyzzyva(_) => 3,
            Settings::Paxos(_) => 2,
        };
        if membership.members.len() < times * usize::from(membership.f) + 1 {
            return violation(format!("host {host}: {epoch} has too few members: {membership:?}"));
        }
        if let Some(known) = self.epochs.get_mut(&epoch) {
            // A new member does not know at first where its epoch started.
            let is_same_start = start.is_none() || known.start.is_none() || known.start == start;
            if known.membership != *membership || !is_same_start {
                return violation(format!(
                    "host {host} and host {} do not agree on {epoch}: {membership:?} from {start:?}, {known:?}",
                    known.host
                ));
            }
            known.start = known.start.or(start);
        } else {
            self.check_asked(host, membership)?;
            self.epochs.insert(epoch, Entry { host, membership: membership.clone(), start });
        }
        epoch.0.checked_sub(1).map_or(Ok(()), |before| self.check_end(Epoch(before)))
    }

    /// The instance that a correct host's replica runs in an epoch goes by these settings.
    pub(crate) fn goes_by(
        host: usize,
        membership: &Membership,
        settings: Option<&Settings>,
        engine: EngineSettings,
    ) -> Verdict {
        if settings == Some(&membership.settings) && engine == membership.engine {
            return Ok(());
        }
        let (epoch, agreed) = (membership.epoch, (&membership.settings, membership.engine));
        violation(format!(
            "host {host} goes by {settings:?} and {engine:?} in {epoch}, which has agreed on {agreed:?}"
        ))
    }

    /// Somebody has asked for what the members and their settings are now.
    fn check_asked(&self, host: usize, membership: &Membership) -> Verdict {
        let keys = |membership: &Membership| -> Keys {
            membership.members.iter().map(|member| key_bytes(&member.key)).collect()
        };
        let before = membership.epoch.0.checked_sub(1).map(Epoch);
        // Of an epoch that only faulty replicas were seen in nothing is known.
        let Some(before) = before.and_then(|before| self.epochs.get(&before)) else { return Ok(()) };
        let is_it = |asked: &&Asked| {
            let stays = |(place, _): &(ReplicaId, _)| !asked.leaving.contains(place);
            let places = (0..).map(ReplicaId).zip(&before.membership.members);
            let staying = places.filter(stays).map(|(_, member)| key_bytes(&member.key));
            let expected: Keys = staying.chain(asked.joining.iter().copied()).collect();
            let is_of_epoch = asked.epoch == before.membership.epoch && asked.f == membership.f;
            let settings = asked.settings.as_ref().unwrap_or(&before.membership.settings);
            // Who led first goes on to do so if it stays.
            let asked_first = asked.first_primary.unwrap_or(before.membership.first_primary);
            let (old, new) =
                (before.membership.member(asked_first), membership.member(membership.first_primary));
            let leads = old.zip(new).is_some_and(|(old, new)| old.key == new.key);
            let has_gone = asked.leaving.contains(&asked_first) && membership.first_primary == ReplicaId(0);
            let is_led = leads || (asked.first_primary.is_none() && has_gone);
            // Who is a witness goes by places before, and keeps to who is there.
            let is_other = |settings: &Settings| settings.clone().moved(|_| None);
            let has_settings = is_other(settings) == is_other(&membership.settings)
                && asked.witnesses(settings, &before.membership) == witnesses(membership)
                && asked.engine.unwrap_or(before.membership.engine) == membership.engine;
            is_of_epoch && expected == keys(membership) && has_settings && is_led
        };
        if self.asked.values().any(|asked| is_it(&asked)) {
            return Ok(());
        }
        violation(format!("host {host} is in an epoch that nobody asked for: {membership:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{admin, member};
    use althing_protocol::pbft::PbftSettings;

    const C: (ClientId, RequestNumber) = (ClientId(3), RequestNumber(1));

    fn settings(period: u64) -> Settings {
        let log_size = 4 * period;
        Settings::Pbft(PbftSettings { checkpoint_period: period, log_size, ..PbftSettings::default() })
    }

    fn membership(epoch: u64, machines: &[u16]) -> Membership {
        let members = machines.iter().map(|id| member(ReplicaId(*id))).collect();
        let (admins, settings, first_primary) = (vec![admin().public()], settings(4), ReplicaId(0));
        let (epoch, engine) = (Epoch(epoch), EngineSettings::default());
        let is_one_machine = false;
        Membership { epoch, f: 1, members, admins, settings, first_primary, engine, is_one_machine }
    }

    fn start(seq: u64, state: u8) -> Option<(Seq, Digest)> {
        Some((Seq(seq), Digest([state; 32])))
    }

    /// Machine 4 has been asked to join, and that was executed at 5: the epoch ends at 8.
    fn asked() -> Succession {
        let mut succession = Succession::new(Some(&membership(0, &[0, 1, 2, 3])));
        let changes = vec![Change::Add(member(ReplicaId(4)))];
        succession.asked(C.0, C.1, &Reconfigure { epoch: Epoch(0), f: 1, changes });
        succession.executed(0, Epoch(0), Seq(5), &[C]).unwrap();
        succession
    }

    #[test]
    fn all_are_in_the_epoch_that_was_asked_for() {
        let next = membership(1, &[0, 1, 2, 3, 4]);
        let mut succession = asked();
        succession.entered(1, &next, start(8, 1)).unwrap();
        succession.entered(4, &next, None).unwrap();
        succession.entered(4, &next, start(8, 1)).unwrap();
        assert!(succession.entered(2, &next, start(8, 2)).is_err(), "another state");
        assert!(
            succession.entered(2, &membership(1, &[0, 1, 2, 4, 3]), start(8, 1)).is_err(),
            "another order"
        );
        assert!(asked().entered(0, &membership(1, &[0, 1, 2, 3, 5]), start(8, 1)).is_err());
        assert!(asked().entered(0, &membership(1, &[0, 1, 2, 3]), start(8, 1)).is_err());
        assert!(asked().entered(0, &membership(1, &[0, 1, 4]), start(8, 1)).is_err(), "too few");
    }

    #[test]
    fn all_go_by_the_settings_that_were_asked_for() {
        let first = membership(0, &[0, 1, 2, 3]);
        let asked = || {
            let mut succession = Succession::new(Some(&first));
            let changes = vec![Change::Settings(settings(8)), Change::FirstPrimary(ReplicaId(2))];
            succession.asked(C.0, C.1, &Reconfigure { epoch: Epoch(0), f: 1, changes });
            succession.executed(0, Epoch(0), Seq(5), &[C]).unwrap();
            succession
        };
        let next = Membership {
            epoch: Epoch(1),
            settings: settings(8),
            first_primary: ReplicaId(2),
            ..first.clone()
        };
        let mut succession = asked();
        succession.entered(1, &next, start(8, 1)).unwrap();
        let other = Membership { settings: settings(4), ..next.clone() };
        assert!(succession.entered(2, &other, start(8, 1)).is_err(), "not what another has");
        assert!(asked().entered(1, &other, start(8, 1)).is_err(), "not what was asked for");
        let elsewhere = Membership { first_primary: ReplicaId(1), ..next.clone() };
        assert!(asked().entered(1, &elsewhere, start(8, 1)).is_err(), "another leads");
        Succession::goes_by(1, &next, Some(&settings(8)), next.engine).unwrap();
        let old = Succession::goes_by(1, &next, Some(&settings(4)), next.engine);
        assert!(old.is_err(), "its instance has the old ones");
        assert!(Succession::goes_by(1, &next, None, next.engine).is_err());
        let other = EngineSettings { max_outstanding_requests: 1, ..next.engine };
        assert!(Succession::goes_by(1, &next, Some(&settings(8)), other).is_err(), "it takes others");
        let unasked = Membership { engine: other, ..next.clone() };
        assert!(asked().entered(1, &unasked, start(8, 1)).is_err(), "nobody asked for that");
        // The next epoch ends where its own period says.
        succession.executed(0, Epoch(1), Seq(11), &[]).unwrap();
        let changes = vec![Change::Settings(settings(4))];
        let later = (C.0, RequestNumber(2));
        succession.asked(later.0, later.1, &Reconfigure { epoch: Epoch(1), f: 1, changes });
        succession.executed(0, Epoch(1), Seq(12), &[later]).unwrap();
        succession.granted(later.0, later.1).unwrap();
        succession.executed(0, Epoch(1), Seq(16), &[]).unwrap();
        assert!(succession.executed(0, Epoch(1), Seq(17), &[]).is_err(), "beyond its end");
    }

    #[test]
    fn an_epoch_ends_where_it_has_to() {
        let next = membership(1, &[0, 1, 2, 3, 4]);
        let mut succession = asked();
        succession.executed(0, Epoch(0), Seq(8), &[]).unwrap();
        succession.granted(C.0, C.1).unwrap();
        assert!(succession.executed(3, Epoch(0), Seq(9), &[]).is_err(), "beyond its end");
        let mut succession = asked();
        succession.executed(2, Epoch(0), Seq(9), &[]).unwrap();
        assert!(succession.granted(C.0, C.1).is_err(), "it had gone beyond");
        let mut succession = asked();
        succession.granted(C.0, C.1).unwrap();
        assert!(succession.entered(0, &next, start(12, 1)).is_err(), "it ended elsewhere");
        let mut succession = asked();
        succession.entered(0, &next, start(8, 1)).unwrap();
        succession.executed(0, Epoch(1), Seq(9), &[]).unwrap();
        assert!(succession.executed(0, Epoch(1), Seq(8), &[]).is_err(), "before it started");
        assert!(succession.granted(C.0, RequestNumber(2)).is_err());
    }

    #[test]
    fn what_is_granted_takes_effect() {
        let next = membership(1, &[0, 1, 2, 3, 4]);
        let mut succession = Succession::new(Some(&membership(0, &[0, 1, 2, 3])));
        let changes = vec![Change::Add(member(ReplicaId(4)))];
        succession.asked(C.0, C.1, &Reconfigure { epoch: Epoch(0), f: 1, changes });
        assert!(succession.unfulfilled().is_empty(), "it may be refused");
        succession.granted(C.0, C.1).unwrap();
        assert_eq!(succession.unfulfilled().len(), 1, "nobody has executed it");
        succession.executed(0, Epoch(0), Seq(5), &[C]).unwrap();
        assert_eq!(succession.unfulfilled().len(), 1, "nobody is in the next epoch");
        succession.entered(1, &next, start(8, 1)).unwrap();
        assert!(succession.unfulfilled().is_empty());
    }

    #[test]
    fn who_has_left_executes_nothing() {
        let mut succession = asked();
        succession.retired(2);
        assert!(succession.executed(2, Epoch(0), Seq(6), &[]).is_err());
    }
}
