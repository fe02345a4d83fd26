//! Bringing a site to a checkpoint of the others. What is fetched comes by way of the site's own order, so that all
//! its servers have it, and install it at the same moment. None of it has to be trusted: it has the digest that the
//! wide-area protocol asks for, or it is not taken.
//!
//! While that lasts no batch is executed. So what the state lacks follows from it and from what was taken, also
//! for a server that was itself brought up meanwhile. What is decided then is executed where the site stays in its own
//! state after all. Once it is in another one it is the protocol that goes on from there, also with what it has decided
//! before: the state may lie before what this site had executed, where sites have lied to it.

use super::LogicalMachine;
use alloc::vec::Vec;
use althing_protocol::{Decision, Event, Replicable};
use althing_replica::{Gathering, Parts, Service, Want};
use althing_types::{Digest, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// How a state came to be gathered, step by step.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
enum Step {
    Aim(Digest),
    Take(Parts),
}

/// A state that is being fetched.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Fetching {
    seq: Seq,
    state: Digest,
    steps: Vec<Step>,
    /// What was decided meanwhile, from the batch after the last that was executed on.
    held: Vec<Decision>,
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// What this site lacks of a checkpoint that it is to be brought to: the checkpoint, the digest of its state, and
    /// what to ask for next.
    pub(crate) fn wanted(&self) -> Option<(Seq, Digest, Want)> {
        let fetching = self.core.fetching.as_ref()?;
        let want = self.gathering.as_ref()?.want()?;
        Some((fetching.seq, fetching.state, want))
    }

    /// Parts of a checkpoint of this site's own.
    pub(crate) fn supply(&self, seq: Seq, state: Digest, want: &Want) -> Option<Parts> {
        let (known, tree) = self.checkpoints.get(&seq)?;
        if *known == state { tree.parts(want) } else { None }
    }

    /// The protocol wants the state at this checkpoint.
    pub(super) fn fetch(&mut self, seq: Seq, state: Digest) {
        match &mut self.core.fetching {
            Some(fetching) if fetching.seq >= seq => return,
            Some(fetching) => {
                (fetching.seq, fetching.state) = (seq, state);
                fetching.steps.push(Step::Aim(state));
            }
            None => {
                let (steps, held) = (alloc::vec![Step::Aim(state)], Vec::new());
                self.core.fetching = Some(Fetching { seq, state, steps, held });
            }
        }
        match &mut self.gathering {
            Some(gathering) => gathering.retarget(state),
            None => self.gathering = Some(self.nested.gather(state)),
        }
        self.install_if_complete();
    }

    /// Something was fetched, or a server says so.
    pub(super) fn on_fetched(&mut self, parts: Parts) {
        let (Some(fetching), Some(gathering)) = (&mut self.core.fetching, &mut self.gathering) else {
            return;
        };
        if gathering.take(parts.clone()) {
            fetching.steps.push(Step::Take(parts));
            self.install_if_complete();
        }
    }

    /// What was decided waits while a state is fetched; says whether it does.
    pub(super) fn holds(&mut self, decision: &Decision) -> bool {
        let Some(fetching) = &mut self.core.fetching else { return false };
        fetching.held.push(decision.clone());
        true
    }

    fn install_if_complete(&mut self) {
        if !self.gathering.as_ref().is_some_and(Gathering::is_complete) {
            return;
        }
        let (Some(fetching), Some(gathering)) = (self.core.fetching.take(), self.gathering.take()) else {
            return;
        };
        let Fetching { seq, state, held, .. } = fetching;
        if self.nested.become_gathered(seq, &gathering).is_err() {
            // The sites agree on a state that this service does not take, or lie. This one goes on in its own.
            return self.execute_held(&held);
        }
        (self.core.executed, self.installed) = (seq, seq);
        let (own, tree) = self.nested.checkpoint();
        assert_eq!(own, state, "what was gathered has the digest that was asked for");
        self.checkpoints.insert(seq, (own, tree));
        let executed = self.nested.last_requests();
        for (client, number) in &executed {
            self.core.bundler.on_executed(*client, *number);
        }
        self.answer_known();
        // It decides again what was held.
        self.to_handle.push_back(Event::StateInstalled { seq, executed });
    }

    /// A checkpoint is stable that this site has made: what is fetched for it, or for an earlier one, is not needed.
    pub(super) fn stop_fetching(&mut self, stable: Seq) {
        if let Some(dropped) = self.core.fetching.take_if(|fetching| fetching.seq <= stable) {
            self.gathering = None;
            self.execute_held(&dropped.held);
        }
    }

    fn execute_held(&mut self, held: &[Decision]) {
        held.iter().for_each(|decision| self.execute_decision(decision));
    }

    /// After this server was brought to a state of its site: gathers again what the site had gathered.
    pub(super) fn gather_again(&mut self) {
        self.gathering = None;
        for step in self.core.fetching.iter_mut().flat_map(|fetching| &fetching.steps) {
            match (step, &mut self.gathering) {
                (Step::Aim(state), None) => self.gathering = Some(self.nested.gather(*state)),
                (Step::Aim(state), Some(gathering)) => gathering.retarget(*state),
                (Step::Take(parts), Some(gathering)) => drop(gathering.take(parts.clone())),
                (Step::Take(_), None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dissemination, LinkConfig, LinkPace, MachineConfig};
    use alloc::sync::Arc;
    use althing_crypto::KeySeed;
    use althing_crypto::site::{SiteDeal, SiteKeys};
    use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosMessage, PaxosSettings};
    use althing_protocol::{Action, Batch};
    use althing_replica::{Context, InstallError, Outcome, Pages};
    use althing_types::{ClientId, GroupId, Instant, Quorums, ReplicaId, SiteId, View};
    use core::time::Duration;

    /// What the sites replicate here: nothing. Their states still differ in agreed time.
    #[derive(Debug)]
    struct Nothing;

    impl Service for Nothing {
        fn execute(&mut self, _: &[u8], _: &Context) -> Outcome {
            Vec::new().into()
        }

        fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
            None
        }

        fn save(&mut self, _: &mut Pages) {}

        fn install(&mut self, _: &Pages, _: &[u32]) -> Result<(), InstallError> {
            Ok(())
        }
    }

    /// One of three sites, of one server each.
    fn machine(site: SiteId) -> LogicalMachine<Paxos, Nothing> {
        let sites = Quorums::crash(3, 1).expect("valid");
        let pace = LinkPace::new(Duration::from_millis(500), 100_000).expect("neither is zero");
        let groups = alloc::vec![Quorums::crash(1, 0).expect("one is enough"); 3];
        let public = *SiteDeal::plain(1, &KeySeed::from([7; 32])).shares.public();
        let config = MachineConfig {
            links: LinkConfig { site, groups, pace },
            sites,
            lanes: [].into(),
            keys: SiteKeys::new(GroupId([1; 16]), alloc::vec![public; 3]),
            residents: [].into(),
            dissemination: Dissemination::Leader,
            max_update_bytes: 1000,
            max_reply_bytes: 1000,
            max_message_bytes: 100_000,
            max_unacknowledged_bytes: 100_000,
            acknowledgement_delay: Duration::from_millis(20),
            relay_timeout: Duration::from_secs(1),
        };
        let protocol = PaxosConfig::new(ReplicaId(site.0), sites, PaxosSettings::default()).expect("valid");
        LogicalMachine::new(config, Paxos::new(protocol), Nothing)
    }

    /// The batch with this number, proposed at this time. Every fourth makes a checkpoint.
    fn decision(seq: u64, time: u64) -> Decision {
        let batch = Batch { time: Instant(time), requests: Vec::new() };
        let (digest, is_checkpoint) = (batch.digest(), seq.is_multiple_of(4));
        let batch = Arc::new(batch);
        Decision { seq: Seq(seq), view: View(0), digest, batch, is_checkpoint, is_eager: false }
    }

    /// A site that has executed four batches, was shown that the others are in another state there, and then comes to
    /// the fifth; and one of the others, with that state.
    fn diverged() -> (LogicalMachine<Paxos, Nothing>, LogicalMachine<Paxos, Nothing>, Digest) {
        let (mut site, mut other) = (machine(SiteId(1)), machine(SiteId(2)));
        for seq in 1..=4 {
            site.execute_decision(&decision(seq, seq));
            other.execute_decision(&decision(seq, 100 * seq));
        }
        let theirs = other.checkpoints[&Seq(4)].0;
        assert_ne!(site.checkpoints[&Seq(4)].0, theirs);
        site.fetch(Seq(4), theirs);
        site.to_handle.clear();
        site.execute_decision(&decision(5, 500));
        assert_eq!((site.executed(), site.to_handle.len()), (Seq(4), 0), "it is held");
        (site, other, theirs)
    }

    #[test]
    fn what_is_held_is_left_to_the_protocol_once_the_site_is_in_another_state() {
        let (mut site, other, theirs) = diverged();
        while let Some((seq, state, want)) = site.wanted() {
            site.on_fetched(other.supply(seq, state, &want).expect("the other site has it"));
        }
        assert_eq!(site.checkpoints[&Seq(4)].0, theirs);
        let then: Vec<_> = site.to_handle.drain(..).collect();
        assert!(matches!(then[..], [Event::StateInstalled { seq: Seq(4), .. }]), "{then:?}");
        site.execute_decision(&decision(5, 500));
        assert_eq!(site.executed(), Seq(5));
    }

    #[test]
    fn what_is_held_is_executed_when_the_sites_own_state_turns_out_to_be_that_of_the_others() {
        let (mut site, other, _) = diverged();
        let (seq, state, want) = site.wanted().expect("a state is fetched");
        let late = other.supply(seq, state, &want).expect("the other site has it");
        let state = site.checkpoints[&Seq(4)].0;
        site.carry_out(Action::<PaxosMessage>::Stable { seq: Seq(4), state });
        assert_eq!((site.executed(), site.wanted()), (Seq(5), None));
        let then: Vec<_> = site.to_handle.drain(..).collect();
        assert!(matches!(then[..], [Event::Executed { seq: Seq(5), state: None }]), "{then:?}");
        site.on_fetched(late);
        assert!(site.to_handle.is_empty(), "what comes too late changes nothing");
    }
}
