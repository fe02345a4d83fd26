use crate::{Lane, LogicalMachine, Outpost, OutpostTimer, Station, StationInput, StationOutput};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_protocol::{Protocol, Replicable};
use althing_replica::{Client, Input, Output, Replica, Service, Timer};
use althing_types::{ClientId, Instant, Principal, ReplicaId, SiteId};
use core::time::Duration;

/// Names a timer of a site's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerTimer {
    /// One of its replica's.
    Replica(Timer),
    /// One of its outpost's.
    Outpost(OutpostTimer),
    /// That of the client which it is on a lane.
    Lane(Lane),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum ServerInput {
    /// For its replica; the first one starts it. Its timers come as [`Self::Timer`].
    Replica(Input),
    /// Bytes came from a replica of the site's group, over the channel of a client that this server is.
    ForLane {
        /// Which client.
        lane: Lane,
        /// From whom.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// As [`StationInput::FromServer`].
    FromServer {
        /// Which.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// As [`StationInput::FromSite`].
    FromSite {
        /// Which site.
        site: SiteId,
        /// Which of its servers.
        server: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A timer expired.
    Timer(ServerTimer),
}

/// Something to be done.
#[derive(Debug, Clone)]
pub enum ServerOutput {
    /// What its replica wants done, timers apart.
    Replica(Box<Output>),
    /// Send to a replica of the site's group, over the channel of a client that this server is.
    FromLane {
        /// Which client.
        lane: Lane,
        /// To whom.
        to: ReplicaId,
        /// What.
        frame: Arc<[u8]>,
    },
    /// As [`StationOutput::ToServer`].
    ToServer {
        /// Which.
        to: ReplicaId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// As [`StationOutput::ToSite`].
    ToSite {
        /// Which site.
        site: SiteId,
        /// Which of its servers.
        server: ReplicaId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Hand in [`ServerInput::Timer`] after this time. A timer that is running starts afresh.
    SetTimer {
        /// Which.
        timer: ServerTimer,
        /// From now.
        after: Duration,
    },
    /// Forget a timer.
    CancelTimer(ServerTimer),
    /// A server of the site has sent a wrong share of a signature.
    WrongShare(ReplicaId),
}

/// One server of a site: a replica of the site's group, and the [`Station`] beside it.
pub struct SiteServer<L: Protocol, W: Replicable, S: Service> {
    me: ReplicaId,
    replica: Replica<L, LogicalMachine<W, S>>,
    station: Station,
}

/// What goes on inside a server.
enum Step {
    Replica(Input),
    Station(StationInput),
}

impl<L: Protocol, W: Replicable, S: Service> SiteServer<L, W, S> {
    /// A server that has yet to be started, with the client that it is on each lane, by its id in the group.
    ///
    /// # Panics
    /// As [`Station::new`].
    pub fn new(
        me: ReplicaId,
        replica: Replica<L, LogicalMachine<W, S>>,
        outpost: Outpost,
        lanes: BTreeMap<Lane, (ClientId, Client)>,
    ) -> Self {
        Self { me, replica, station: Station::new(me, outpost, lanes) }
    }

    /// Its replica.
    #[must_use]
    pub fn replica(&self) -> &Replica<L, LogicalMachine<W, S>> {
        &self.replica
    }

    /// Its replica, for fault injection.
    pub fn replica_mut(&mut self) -> &mut Replica<L, LogicalMachine<W, S>> {
        &mut self.replica
    }

    /// Takes one input at time `now`, appending what is to be done to `outputs`.
    pub fn handle(&mut self, now: Instant, input: ServerInput, outputs: &mut Vec<ServerOutput>) {
        let mut steps = VecDeque::new();
        let is_start = matches!(input, ServerInput::Replica(Input::Start(_)));
        steps.push_back(match input {
            ServerInput::Replica(input) => Step::Replica(input),
            ServerInput::ForLane { lane, from, bytes } => {
                Step::Station(StationInput::ForLane { lane, from, bytes })
            }
            ServerInput::FromServer { from, bytes } => {
                Step::Station(StationInput::FromServer { from, bytes })
            }
            ServerInput::FromSite { site, server, bytes } => {
                Step::Station(StationInput::FromSite { site, server, bytes })
            }
            ServerInput::Timer(ServerTimer::Replica(timer)) => Step::Replica(Input::Timer(timer)),
            ServerInput::Timer(ServerTimer::Outpost(timer)) => {
                Step::Station(StationInput::OutpostTimer(timer))
            }
            ServerInput::Timer(ServerTimer::Lane(lane)) => Step::Station(StationInput::LaneTimer(lane)),
        });
        if is_start {
            steps.push_back(Step::Station(StationInput::Start));
        }
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Replica(input) => self.step_replica(now, input, &mut steps, outputs),
                Step::Station(input) => self.step_station(now, input, &mut steps, outputs),
            }
        }
    }

    fn step_replica(
        &mut self,
        now: Instant,
        input: Input,
        steps: &mut VecDeque<Step>,
        outputs: &mut Vec<ServerOutput>,
    ) {
        let is_started = !matches!(input, Input::Start(_));
        let mut done = Vec::new();
        self.replica.handle(now, input, &mut done);
        for output in done {
            match output {
                Output::Send { to: Principal::Client(to), frame } if self.station.lane_of(to).is_some() => {
                    let lane = self.station.lane_of(to).expect("it was just there");
                    let input = StationInput::ForLane { lane, from: self.me, bytes: frame.to_vec() };
                    steps.push_back(Step::Station(input));
                }
                Output::SetTimer { timer, after } => {
                    outputs.push(ServerOutput::SetTimer { timer: ServerTimer::Replica(timer), after });
                }
                Output::CancelTimer(timer) => {
                    outputs.push(ServerOutput::CancelTimer(ServerTimer::Replica(timer)));
                }
                output => outputs.push(ServerOutput::Replica(Box::new(output))),
            }
        }
        if is_started {
            steps.push_back(Step::Station(StationInput::Observe));
        }
    }

    fn step_station(
        &mut self,
        now: Instant,
        input: StationInput,
        steps: &mut VecDeque<Step>,
        outputs: &mut Vec<ServerOutput>,
    ) {
        // What may be taken back must not be spoken of.
        assert!(!self.replica.is_tentative(), "a site's group executes nothing tentatively");
        let mut done = Vec::new();
        let machine = (self.replica.service(), self.replica.executed());
        self.station.handle(now, input, machine, &mut done);
        for output in done {
            outputs.push(match output {
                StationOutput::ToReplica { from, bytes } => {
                    steps.push_back(Step::Replica(Input::Frame { from: Principal::Client(from), bytes }));
                    continue;
                }
                StationOutput::FromLane { lane, to, frame } => ServerOutput::FromLane { lane, to, frame },
                StationOutput::ToServer { to, bytes } => ServerOutput::ToServer { to, bytes },
                StationOutput::ToSite { site, server, bytes } => ServerOutput::ToSite { site, server, bytes },
                StationOutput::SetTimer { timer, after } => ServerOutput::SetTimer { timer, after },
                StationOutput::CancelTimer(timer) => ServerOutput::CancelTimer(timer),
                StationOutput::WrongShare(server) => ServerOutput::WrongShare(server),
            });
        }
    }
}
