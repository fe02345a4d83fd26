mod ahead;
mod config;
mod drive;
mod incoming;
mod links;
mod pages;
mod said;
mod standing;
mod timers;
mod transfer;
mod treachery;
mod updates;

pub use config::{Dissemination, MachineConfig, Resident};
pub use standing::LinkStanding;
pub use timers::Timer;
pub use treachery::Treachery;

use crate::bundle::Bundler;
use crate::operation::{SiteEvent, SiteOperation};
use ahead::Ahead;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use althing_protocol::{Event, Evidence, Protocol, Replicable, Start};
use althing_replica::{
    Context, Gathering, InstallError, LateResult, Nested, Outcome, Pages, Service, StateTree,
};
use althing_types::{ClientId, Digest, Instant, Recent, ReplicaId, Seq, SiteId, View, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use said::Said;
use timers::Timers;
use transfer::Fetching;
use treachery::Takeover;
use updates::Waiting;

pub(crate) use links::{LEAST_WINDOW_BYTES, Link, Links, Outgoing};
pub(crate) use said::Place;

/// How many signatures of clients, and contents of bundles, are remembered to be good.
const MOST_VERIFIED: usize = 8192;

/// How many accusations are kept.
const MOST_EVIDENCE: usize = 256;

/// All that is replicated beside the state that the sites replicate.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct Core<P> {
    protocol: P,
    has_started: bool,
    /// The last wide-area batch that was executed.
    executed: Seq,
    /// The wide-area view that the protocol is in or moving to.
    view: View,
    timers: Timers,
    links: Links,
    /// The clients of this site that wait for an update.
    waiting: BTreeMap<ClientId, Waiting>,
    bundler: Bundler,
    /// How often the relay timer has expired.
    relays: u64,
    /// The state that the protocol wants to be brought to.
    fetching: Option<Fetching>,
    /// Which of its servers somebody has taken over, for fault injection.
    takeover: Takeover,
}

/// A site as one machine: a [`Service`] whose operations are the events of the wide-area protocol `P`, which in
/// turn orders the operations of `S` among the sites.
#[derive(Debug)]
pub struct LogicalMachine<P: Protocol, S> {
    config: MachineConfig,
    core: Core<P>,
    /// What the sites replicate.
    nested: Nested<S>,
    /// What of `core.fetching` is there.
    gathering: Option<Gathering>,
    /// The checkpoints that this site has made since the last stable one, for others to fetch.
    checkpoints: BTreeMap<Seq, (Digest, StateTree)>,
    /// What the protocol still has to handle of what the present operation has led to.
    to_handle: VecDeque<Event<P::Message>>,
    /// The last wide-area batch that this server has not executed itself.
    installed: Seq,
    /// How often this server was brought to a state of its site.
    lives: u64,
    /// How many pages `core` has taken.
    shown: u32,
    /// What clients have signed, as was found lately.
    verified: Recent<Digest>,
    /// How many signatures of clients were checked.
    checked: u64,
    /// What other sites have said, as far as that is checked before it is executed.
    ahead: Ahead,
    /// What sites were caught at.
    evidence: Vec<Evidence>,
    /// The local batch that is executed, and its agreed time.
    now: (Seq, Instant),
    /// What the present operation has led to for clients that waited.
    late: Vec<LateResult>,
    /// How this server alone betrays the other sites, if it does.
    treachery: Option<Treachery>,
    /// How many messages that concerned during the present local batch.
    said: u64,
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// The initial state. `protocol` has not started; it executes nothing tentatively.
    #[must_use]
    pub fn new(config: MachineConfig, protocol: P, service: S) -> Self {
        Self {
            config,
            core: Core {
                protocol,
                has_started: false,
                executed: Seq(0),
                view: View(0),
                timers: Timers::default(),
                links: Links::default(),
                waiting: BTreeMap::new(),
                bundler: Bundler::default(),
                relays: 0,
                fetching: None,
                takeover: Takeover::default(),
            },
            nested: Nested::new(service),
            gathering: None,
            checkpoints: BTreeMap::new(),
            to_handle: VecDeque::new(),
            installed: Seq(0),
            lives: 0,
            shown: 0,
            verified: Recent::new(MOST_VERIFIED),
            checked: 0,
            ahead: Ahead::default(),
            evidence: Vec::new(),
            now: (Seq(0), Instant(0)),
            late: Vec::new(),
            treachery: None,
            said: 0,
        }
    }

    /// Which site it is.
    #[must_use]
    pub fn site(&self) -> SiteId {
        self.config.site()
    }

    /// The wide-area protocol.
    #[must_use]
    pub fn protocol(&self) -> &P {
        &self.core.protocol
    }

    /// The last wide-area batch that was executed.
    #[must_use]
    pub fn executed(&self) -> Seq {
        self.core.executed
    }

    /// The last of them that this server has not executed itself, but was brought to; 0 if there is none.
    #[must_use]
    pub fn installed(&self) -> Seq {
        self.installed
    }

    /// The wide-area view that this site is in or moving to.
    #[must_use]
    pub fn view(&self) -> View {
        self.core.view
    }

    /// The service that the sites replicate.
    #[must_use]
    pub fn service(&self) -> &S {
        self.nested.service()
    }

    /// What sites were caught at, each thing once, as far as this server has seen it since it started.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// How many messages to sites were said during a local batch, and may still have to be sent: one signature of
    /// this site covers them.
    #[must_use]
    pub fn said_in(&self, batch: Seq) -> usize {
        self.core.links.batches().get(&batch).map_or(0, Said::len)
    }

    /// How many signatures of clients this server has checked since it started.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.checked
    }

    pub(crate) fn links(&self) -> &Links {
        &self.core.links
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.core.timers
    }

    /// How often this server was brought to a state of its site: what it knew before may have been wrong.
    pub(crate) fn lives(&self) -> u64 {
        self.lives
    }

    fn me(&self) -> ReplicaId {
        ReplicaId(self.config.site().0)
    }

    fn start_once(&mut self) {
        if !core::mem::replace(&mut self.core.has_started, true) {
            self.drive(Event::Start(Start::Genesis));
        }
    }

    /// Says whether a correct server could have said it.
    fn on_event(&mut self, server: ReplicaId, event: SiteEvent) -> bool {
        match event {
            SiteEvent::Incoming(message) => return self.on_incoming(&message),
            SiteEvent::Expired { timer, generation } => {
                if self.core.timers.on_expired((timer, generation), server, self.config.enough()) {
                    self.on_timer(timer);
                }
            }
            SiteEvent::Suspected { site, turn, number } => {
                let (now, enough) = (self.now.1, self.config.enough());
                let owed = (site, turn, number);
                self.core.links.on_suspected(now, owed, (server, enough), &self.config.links);
            }
            SiteEvent::Fetched(parts) => {
                self.on_fetched(parts);
                self.drive_on();
            }
            SiteEvent::TakenOver(treachery) => self.on_taken_over(server, treachery),
        }
        true
    }

    fn accuse(&mut self, evidence: Evidence) {
        if self.evidence.len() < MOST_EVIDENCE && !self.evidence.contains(&evidence) {
            self.evidence.push(evidence);
        }
    }
}

impl<P: Replicable, S: Service> Service for LogicalMachine<P, S> {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        if core::mem::replace(&mut self.now, (context.seq, context.time)).0 != context.seq {
            self.said = 0;
        }
        self.start_once();
        let outcome = match decode(operation, usize::MAX) {
            Ok(SiteOperation::Update(update)) => match self.on_update(context, update) {
                Some(answer) => encode(&answer).into(),
                None => Outcome::deferred(),
            },
            Ok(SiteOperation::Events(events)) => {
                if let Some(server) = self.config.lanes.get(&context.client).copied() {
                    // The first thing that was not said ends it: a correct server brings forward no other, after it has
                    // once believed what it should not have.
                    let was_said = events.into_iter().all(|event| self.on_event(server, event));
                    self.note_executed(context.client, operation, was_said);
                }
                Outcome::default()
            }
            Err(_) => Outcome::default(),
        };
        Outcome { late: core::mem::take(&mut self.late), ..outcome }
    }

    fn foresee(&mut self, operation: &[u8], client: ClientId) {
        self.check_ahead(client, operation);
    }

    fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
        None
    }

    fn save(&mut self, pages: &mut Pages) {
        self.save_pages(pages);
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        self.install_pages(pages, changed)
    }
}
