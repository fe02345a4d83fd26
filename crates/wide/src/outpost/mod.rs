mod config;
mod distrust;
mod fetching;
mod held;
mod io;
mod presumption;
mod receiving;
mod sending;
mod signing;

pub use config::OutpostConfig;
pub use io::{Lane, OutpostInput, OutpostOutput, OutpostTimer, contradiction, link_headers};

use crate::blink::VirtualLink;
use crate::machine::{Link, LogicalMachine, Timer, Treachery};
use crate::operation::SiteEvent;
use crate::parcel::Parcel;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_protocol::Replicable;
use althing_replica::Service;
use althing_types::{Instant, ReplicaId, Seq, SiteId, decode, encode};
use distrust::Distrust;
use fetching::Fetching;
use io::{LocalMessage, SiteMessage};
use receiving::Receiving;
use sending::Sending;
use signing::Signatures;

/// What an operation holds beside the events in it, and an event beside what it is about, at most.
const OPERATION_OVERHEAD: usize = 64;

/// How long an operation of several events is, in bytes. What sites say in a parcel takes more when each message has a proof of
/// its own, for short ones many times as much: with its turn in the site's order, a site that lies gets no more than this.
const MOST_TOGETHER_BYTES: usize = 256 * 1024;

/// What stands beside a server of a site: it makes shares of the site's signatures, sends and receives where it is
/// its turn to, and tells the site's group what happens.
///
/// What it knows it has from the logical machine, as of the last batch that is final at its server, and else it
/// holds nothing that can't be lost: one that starts anew goes on from what the logical machine shows.
pub struct Outpost {
    config: OutpostConfig,
    /// The last local batch that was observed.
    executed: Seq,
    /// How often the server had been brought to a state of its site by then.
    lives: u64,
    signatures: Signatures,
    sending: BTreeMap<SiteId, Sending>,
    receiving: BTreeMap<SiteId, Receiving>,
    distrust: Distrust,
    fetching: Fetching,
    /// Up to which number each site's messages were executed.
    received: BTreeMap<SiteId, u64>,
    /// Which setting of each timer runs here.
    armed: BTreeMap<Timer, u64>,
    /// Which of them have expired here.
    expired: BTreeMap<Timer, u64>,
    /// What has yet to be submitted of what happens in the site.
    control: Vec<SiteEvent>,
    /// Lanes with something under way.
    busy: BTreeSet<Lane>,
    /// What the server is taken over for.
    treachery: Option<Treachery>,
}

impl Outpost {
    /// An outpost that has yet to be started.
    #[must_use]
    pub fn new(config: OutpostConfig) -> Self {
        Self {
            config,
            executed: Seq(0),
            lives: 0,
            signatures: Signatures::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            distrust: Distrust::default(),
            fetching: Fetching::default(),
            received: BTreeMap::new(),
            armed: BTreeMap::new(),
            expired: BTreeMap::new(),
            control: Vec::new(),
            busy: BTreeSet::new(),
            treachery: None,
        }
    }

    /// The longest operation that it submits, in bytes.
    #[must_use]
    pub fn operation_bytes(&self) -> usize {
        self.config.operation_bytes
    }

    /// Takes one input at time `now`, appending what is to be done to `outputs`. `machine` is the one beside which
    /// it stands, with nothing in its state that may be taken back, after the local batch `executed`.
    pub fn handle<P: Replicable, S: Service>(
        &mut self,
        now: Instant,
        input: OutpostInput,
        (machine, executed): (&LogicalMachine<P, S>, Seq),
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let links = machine.links();
        if self.lives != machine.lives() {
            self.lives = machine.lives();
            self.forget();
        }
        match input {
            OutpostInput::Start | OutpostInput::Timer(OutpostTimer::Tick) => {
                outputs.push(OutpostOutput::SetTimer { timer: OutpostTimer::Tick, after: self.config.tick });
                self.resend(now);
                self.ask_for_shares(outputs);
                self.tick_fetching();
                self.signatures.tick();
                self.say_again_what_expired(machine);
                self.say_whether_taken_over(machine);
            }
            OutpostInput::Observe if executed == self.executed => return,
            OutpostInput::Observe => {}
            OutpostInput::FromServer { from, bytes } => self.on_local(now, from, &bytes, outputs),
            OutpostInput::FromSite { site, server, bytes } => {
                match decode(&bytes, self.longest_event() + Parcel::EXCESS_BYTES) {
                    Ok(SiteMessage::Link(parcel)) => {
                        self.on_parcel(now, (site, server), parcel, links, outputs)
                    }
                    Ok(SiteMessage::Fetch { seq, state, want }) => {
                        self.on_fetch(now, (site, server), (seq, state, &want), machine, outputs);
                    }
                    Ok(SiteMessage::Fetched(parts)) => self.on_fetched((site, server), parts),
                    Err(_) => {}
                }
            }
            OutpostInput::Timer(OutpostTimer::Machine(timer)) => self.on_machine_timer(timer, machine),
            OutpostInput::Timer(OutpostTimer::Watch(site)) => self.on_watch_expired(now, site, links),
            OutpostInput::Timer(OutpostTimer::Check) => self.check_combined(links, outputs),
            OutpostInput::Completed(lane) => drop(self.busy.remove(&lane)),
            OutpostInput::TakeOver(treachery) => {
                self.treachery = treachery;
                self.say_whether_taken_over(machine);
            }
        }
        self.executed = executed;
        self.follow_batches(links);
        self.follow_timers(machine, outputs);
        self.forward_all(now, machine.leader(), links, outputs);
        self.receive_all(now, links, outputs);
        self.fetch(machine, outputs);
        if !self.busy.contains(&Lane::Control) {
            let rest = self.fitting(&self.control);
            let rest = self.control.split_off(rest);
            let events = core::mem::replace(&mut self.control, rest);
            self.submit(Lane::Control, events, outputs);
        }
    }

    /// This server was brought to another state: what it has seen to wait, or said for its site, may never have been.
    fn forget(&mut self) {
        self.signatures.forget();
        self.sending.clear();
        self.receiving.remove(&self.config.links.site);
    }

    fn on_local(&mut self, now: Instant, from: ReplicaId, bytes: &[u8], outputs: &mut Vec<OutpostOutput>) {
        match decode(bytes, LocalMessage::MAX_BYTES) {
            Ok(LocalMessage::Share { batch, share }) => self.on_share(from, batch, share),
            Ok(LocalMessage::Ask { batches }) => self.on_asked(from, &batches, outputs),
            Ok(LocalMessage::Receiving { site }) => self.on_receiving(now, from, site),
            Err(_) => {}
        }
    }

    /// Sets the timers that the logical machine has set since.
    fn follow_timers<P: Replicable, S: Service>(
        &mut self,
        machine: &LogicalMachine<P, S>,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        for (timer, generation, after) in machine.timers().iter() {
            if self.armed.insert(timer, generation) != Some(generation) {
                outputs.push(OutpostOutput::SetTimer { timer: OutpostTimer::Machine(timer), after });
            }
        }
    }

    fn on_machine_timer<P: Replicable, S: Service>(&mut self, timer: Timer, machine: &LogicalMachine<P, S>) {
        let running = machine.timers().iter().find(|(running, ..)| *running == timer);
        let generation = running.map(|(_, generation, _)| generation);
        if let Some(generation) = generation.filter(|it| self.armed.get(&timer) == Some(it)) {
            self.expired.insert(timer, generation);
            self.control.push(SiteEvent::Expired { timer, generation });
        }
    }

    /// What this server has said of the timers that still run may have been lost with the client that it is.
    fn say_again_what_expired<P: Replicable, S: Service>(&mut self, machine: &LogicalMachine<P, S>) {
        let running: BTreeMap<Timer, u64> =
            machine.timers().iter().map(|(timer, generation, _)| (timer, generation)).collect();
        self.expired.retain(|timer, generation| running.get(timer) == Some(generation));
        for (timer, generation) in &self.expired {
            let event = SiteEvent::Expired { timer: *timer, generation: *generation };
            if !self.control.contains(&event) {
                self.control.push(event);
            }
        }
    }

    /// The site is to know whether this server is taken over. One that has started anew is honest, whatever it was.
    fn say_whether_taken_over<P: Replicable, S: Service>(&mut self, machine: &LogicalMachine<P, S>) {
        let event = SiteEvent::TakenOver(self.treachery.clone());
        if machine.taken_over(self.config.server) != self.treachery.as_ref() && !self.control.contains(&event)
        {
            self.control.push(event);
        }
    }

    /// How long what an event is about may be for an operation to hold it, in bytes.
    fn longest_event(&self) -> usize {
        self.config.operation_bytes - OPERATION_OVERHEAD
    }

    /// How many of these events go into one operation: one at least.
    fn fitting(&self, events: &[SiteEvent]) -> usize {
        let mut bytes = OPERATION_OVERHEAD;
        let most_bytes = MOST_TOGETHER_BYTES.min(self.config.operation_bytes);
        let fits = |event: &SiteEvent| {
            bytes += encode(event).len();
            bytes <= most_bytes
        };
        let fitting =
            events.iter().take(self.config.events_at_once).map(fits).take_while(|fits| *fits).count();
        fitting.max(1).min(events.len())
    }

    fn servers(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        self.config.links.servers(self.config.links.site).replicas()
    }

    /// Who carries what is said to a site.
    fn virtual_link(&self, to: SiteId, link: &Link) -> VirtualLink {
        self.config.links.order(to).virtual_link(link.progress.turn())
    }
}
