use crate::{Lane, LogicalMachine, Outpost, OutpostInput, OutpostOutput, OutpostTimer};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_protocol::{Protocol, Replicable};
use althing_replica::{
    Client, ClientInput, ClientOutput, Input, OperationKind, Output, Replica, Service, Timer,
};
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
    /// As [`OutpostInput::FromServer`].
    FromServer {
        /// Which.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// As [`OutpostInput::FromSite`].
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
    /// As [`OutpostOutput::ToServer`].
    ToServer {
        /// Which.
        to: ReplicaId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// As [`OutpostOutput::ToSite`].
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

/// One server of a site: a replica of the site's group, the outpost beside it, and the clients as which that speaks
/// to the group.
pub struct SiteServer<L: Protocol, W: Replicable, S: Service> {
    me: ReplicaId,
    replica: Replica<L, LogicalMachine<W, S>>,
    outpost: Outpost,
    lanes: BTreeMap<Lane, Client>,
    /// By which client ids the group knows the lanes.
    names: BTreeMap<ClientId, Lane>,
}

/// What goes on inside a server.
enum Step {
    Replica(Input),
    Lane(Lane, ClientInput),
    Outpost(OutpostInput),
}

impl<L: Protocol, W: Replicable, S: Service> SiteServer<L, W, S> {
    /// A server that has yet to be started, with the client that it is on each lane, by its id in the group.
    ///
    /// # Panics
    /// If the outpost may submit longer operations than the group takes.
    pub fn new(
        me: ReplicaId,
        replica: Replica<L, LogicalMachine<W, S>>,
        outpost: Outpost,
        lanes: BTreeMap<Lane, (ClientId, Client)>,
    ) -> Self {
        let most = lanes.values().map(|(_, client)| client.max_operation_bytes()).min();
        assert!(
            most.is_none_or(|most| outpost.operation_bytes() <= most),
            "the group takes what is submitted"
        );
        let names = lanes.iter().map(|(lane, (id, _))| (*id, *lane)).collect();
        let lanes = lanes.into_iter().map(|(lane, (_, client))| (lane, client)).collect();
        Self { me, replica, outpost, lanes, names }
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
        if matches!(input, ServerInput::Replica(Input::Start(_))) {
            steps.push_back(Step::Outpost(OutpostInput::Start));
        }
        steps.push_front(match input {
            ServerInput::Replica(input) => Step::Replica(input),
            ServerInput::ForLane { lane, from, bytes } => {
                Step::Lane(lane, ClientInput::Frame { from, bytes })
            }
            ServerInput::FromServer { from, bytes } => {
                Step::Outpost(OutpostInput::FromServer { from, bytes })
            }
            ServerInput::FromSite { site, server, bytes } => {
                Step::Outpost(OutpostInput::FromSite { site, server, bytes })
            }
            ServerInput::Timer(ServerTimer::Replica(timer)) => Step::Replica(Input::Timer(timer)),
            ServerInput::Timer(ServerTimer::Outpost(timer)) => Step::Outpost(OutpostInput::Timer(timer)),
            ServerInput::Timer(ServerTimer::Lane(lane)) => Step::Lane(lane, ClientInput::Timer),
        });
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Replica(input) => self.step_replica(now, input, &mut steps, outputs),
                Step::Lane(lane, input) => {
                    if let Some(client) = self.lanes.get_mut(&lane) {
                        let mut done = Vec::new();
                        client.handle(now, input, &mut done);
                        self.carry_out_for_lane(lane, done, &mut steps, outputs);
                    }
                }
                Step::Outpost(input) => self.step_outpost(now, input, &mut steps, outputs),
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
        let mut done = Vec::new();
        self.replica.handle(now, input, &mut done);
        for output in done {
            match output {
                Output::Send { to: Principal::Client(to), frame } if self.names.contains_key(&to) => {
                    let input = ClientInput::Frame { from: self.me, bytes: frame.to_vec() };
                    steps.push_back(Step::Lane(self.names[&to], input));
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
        steps.push_back(Step::Outpost(OutpostInput::Observe));
    }

    fn step_outpost(
        &mut self,
        now: Instant,
        input: OutpostInput,
        steps: &mut VecDeque<Step>,
        outputs: &mut Vec<ServerOutput>,
    ) {
        // What may be taken back must not be spoken of.
        assert!(!self.replica.is_tentative(), "a site's group executes nothing tentatively");
        let mut done = Vec::new();
        let machine = (self.replica.service(), self.replica.executed());
        self.outpost.handle(now, input, machine, &mut done);
        for output in done {
            match output {
                OutpostOutput::ToServer { to, bytes } => outputs.push(ServerOutput::ToServer { to, bytes }),
                OutpostOutput::ToSite { site, server, bytes } => {
                    outputs.push(ServerOutput::ToSite { site, server, bytes });
                }
                OutpostOutput::SetTimer { timer, after } => {
                    outputs.push(ServerOutput::SetTimer { timer: ServerTimer::Outpost(timer), after });
                }
                OutpostOutput::WrongShare(server) => outputs.push(ServerOutput::WrongShare(server)),
                OutpostOutput::Submit { lane, operation } => {
                    let client = self.lanes.get_mut(&lane).expect("there is a client for each lane");
                    let mut done = Vec::new();
                    client
                        .submit(now, operation, OperationKind::Ordered, &mut done)
                        .expect("one operation at a time on a lane, and none too long");
                    self.carry_out_for_lane(lane, done, steps, outputs);
                }
            }
        }
    }

    fn carry_out_for_lane(
        &mut self,
        lane: Lane,
        done: Vec<ClientOutput>,
        steps: &mut VecDeque<Step>,
        outputs: &mut Vec<ServerOutput>,
    ) {
        let name = self.names.iter().find(|(_, named)| **named == lane).map(|(id, _)| *id);
        for output in done {
            match output {
                ClientOutput::Send { to, frame } if to == self.me => {
                    let from = Principal::Client(name.expect("each lane has a name"));
                    steps.push_back(Step::Replica(Input::Frame { from, bytes: frame.to_vec() }));
                }
                ClientOutput::Send { to, frame } => outputs.push(ServerOutput::FromLane { lane, to, frame }),
                ClientOutput::SetTimer { after } => {
                    outputs.push(ServerOutput::SetTimer { timer: ServerTimer::Lane(lane), after });
                }
                ClientOutput::CancelTimer => {
                    outputs.push(ServerOutput::CancelTimer(ServerTimer::Lane(lane)));
                }
                ClientOutput::Completed { .. }
                | ClientOutput::ResultTooLong { .. }
                | ClientOutput::Superseded { .. } => {
                    steps.push_back(Step::Outpost(OutpostInput::Completed(lane)));
                }
                ClientOutput::Renumbered { .. }
                | ClientOutput::Busy { .. }
                | ClientOutput::Epoch(_)
                | ClientOutput::Emission { .. }
                | ClientOutput::EmissionsEnded { .. }
                | ClientOutput::Refused { .. } => {}
            }
        }
    }
}
