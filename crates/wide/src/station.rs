use crate::{
    Lane, LogicalMachine, Outpost, OutpostInput, OutpostOutput, OutpostTimer, ServerTimer, Treachery,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_protocol::Replicable;
use althing_replica::{Client, ClientInput, ClientOutput, OperationKind, Service};
use althing_types::{ClientId, Instant, ReplicaId, Seq, SiteId};
use core::time::Duration;

/// Something that happened to a [`Station`].
#[derive(Debug, Clone)]
pub enum StationInput {
    /// The server's replica has started. Always the first.
    Start,
    /// The replica may have executed something.
    Observe,
    /// Bytes came from a replica of the site's group, this server's own included, to a client that the server is.
    ForLane {
        /// Which client.
        lane: Lane,
        /// From whom.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A replica of the group can't be reached by the clients that this server is.
    Unreachable(ReplicaId),
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
    /// A timer of the outpost expired.
    OutpostTimer(OutpostTimer),
    /// The timer of the client on a lane expired.
    LaneTimer(Lane),
    /// As [`OutpostInput::TakeOver`].
    TakeOver(Option<Treachery>),
}

/// Something that a [`Station`] wants done.
#[derive(Debug, Clone)]
pub enum StationOutput {
    /// Hand a frame to the server's own replica, as over the channel of this client.
    ToReplica {
        /// Which client.
        from: ClientId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Send to another replica of the site's group, over the channel of a client that this server is.
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
    /// A timer that is not the replica's is to expire after this time. One that is running starts afresh.
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

/// What stands beside the replica of a site's server: an outpost, and the clients as which that speaks to the site's
/// group. Whoever runs the replica hands it what the replica shows, and what the others send.
pub struct Station {
    me: ReplicaId,
    outpost: Outpost,
    lanes: BTreeMap<Lane, (ClientId, Client)>,
    /// The same lanes.
    all: Vec<Lane>,
    /// By which client ids the group knows the lanes.
    names: BTreeMap<ClientId, Lane>,
}

/// What goes on inside.
enum Step {
    Lane(Lane, ClientInput),
    Outpost(OutpostInput),
}

impl Station {
    /// The station of a server that has yet to be started, with the client that it is on each lane, by its id in the
    /// group.
    ///
    /// # Panics
    /// If the outpost may submit longer operations than the group takes.
    #[must_use]
    pub fn new(me: ReplicaId, outpost: Outpost, lanes: BTreeMap<Lane, (ClientId, Client)>) -> Self {
        let most = lanes.values().map(|(_, client)| client.max_operation_bytes()).min();
        assert!(
            most.is_none_or(|most| outpost.operation_bytes() <= most),
            "the group takes what is submitted"
        );
        let names = lanes.iter().map(|(lane, (id, _))| (*id, *lane)).collect();
        let all = lanes.keys().copied().collect();
        Self { me, outpost, lanes, all, names }
    }

    /// On which lane the server is this client of its group, if it is.
    #[must_use]
    pub fn lane_of(&self, client: ClientId) -> Option<Lane> {
        self.names.get(&client).copied()
    }

    /// Takes one input at time `now`, appending what is to be done to `outputs`. `machine` is that of the server's
    /// replica, with nothing in its state that may be taken back, after the local batch given with it.
    pub fn handle<P: Replicable, S: Service>(
        &mut self,
        now: Instant,
        input: StationInput,
        machine: (&LogicalMachine<P, S>, Seq),
        outputs: &mut Vec<StationOutput>,
    ) {
        let mut steps = VecDeque::new();
        match input {
            StationInput::Start => {
                steps.extend([OutpostInput::Start, OutpostInput::Observe].map(Step::Outpost))
            }
            StationInput::Observe => steps.push_back(Step::Outpost(OutpostInput::Observe)),
            StationInput::ForLane { lane, from, bytes } => {
                steps.push_back(Step::Lane(lane, ClientInput::Frame { from, bytes }));
            }
            StationInput::Unreachable(replica) => {
                let lanes = self.lanes.keys();
                steps.extend(lanes.map(|lane| Step::Lane(*lane, ClientInput::Unreachable(replica))));
            }
            StationInput::FromServer { from, bytes } => {
                steps.push_back(Step::Outpost(OutpostInput::FromServer { from, bytes }));
            }
            StationInput::FromSite { site, server, bytes } => {
                steps.push_back(Step::Outpost(OutpostInput::FromSite { site, server, bytes }));
            }
            StationInput::OutpostTimer(timer) => steps.push_back(Step::Outpost(OutpostInput::Timer(timer))),
            StationInput::LaneTimer(lane) => steps.push_back(Step::Lane(lane, ClientInput::Timer)),
            StationInput::TakeOver(treachery) => {
                steps.push_back(Step::Outpost(OutpostInput::TakeOver(treachery)));
            }
        }
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Lane(lane, input) => {
                    if let Some((id, client)) = self.lanes.get_mut(&lane) {
                        let mut done = Vec::new();
                        client.handle(now, input, &mut done);
                        carry_out_for_lane((self.me, lane, *id), &self.all, done, &mut steps, outputs);
                    }
                }
                Step::Outpost(input) => self.step_outpost(now, input, machine, &mut steps, outputs),
            }
        }
    }

    fn step_outpost<P: Replicable, S: Service>(
        &mut self,
        now: Instant,
        input: OutpostInput,
        machine: (&LogicalMachine<P, S>, Seq),
        steps: &mut VecDeque<Step>,
        outputs: &mut Vec<StationOutput>,
    ) {
        let mut done = Vec::new();
        self.outpost.handle(now, input, machine, &mut done);
        for output in done {
            match output {
                OutpostOutput::ToServer { to, bytes } => outputs.push(StationOutput::ToServer { to, bytes }),
                OutpostOutput::ToSite { site, server, bytes } => {
                    outputs.push(StationOutput::ToSite { site, server, bytes });
                }
                OutpostOutput::SetTimer { timer, after } => {
                    outputs.push(StationOutput::SetTimer { timer: ServerTimer::Outpost(timer), after });
                }
                OutpostOutput::WrongShare(server) => outputs.push(StationOutput::WrongShare(server)),
                OutpostOutput::Submit { lane, operation } => {
                    let (id, client) = self.lanes.get_mut(&lane).expect("there is a client for each lane");
                    let mut done = Vec::new();
                    client
                        .submit(now, operation, OperationKind::Ordered, &mut done)
                        .expect("one operation at a time on a lane, and none too long");
                    carry_out_for_lane((self.me, lane, *id), &self.all, done, steps, outputs);
                }
            }
        }
    }
}

/// Carries out what the client on a lane of `me` wants, whom the group knows by `id`. `others` are all lanes.
fn carry_out_for_lane(
    (me, lane, id): (ReplicaId, Lane, ClientId),
    others: &[Lane],
    done: Vec<ClientOutput>,
    steps: &mut VecDeque<Step>,
    outputs: &mut Vec<StationOutput>,
) {
    for output in done {
        match output {
            ClientOutput::Send { to, frame } if to == me => {
                outputs.push(StationOutput::ToReplica { from: id, bytes: frame.to_vec() });
            }
            ClientOutput::Send { to, frame } => outputs.push(StationOutput::FromLane { lane, to, frame }),
            ClientOutput::SetTimer { after } => {
                outputs.push(StationOutput::SetTimer { timer: ServerTimer::Lane(lane), after });
            }
            ClientOutput::CancelTimer => {
                outputs.push(StationOutput::CancelTimer(ServerTimer::Lane(lane)));
            }
            ClientOutput::Completed { .. }
            | ClientOutput::ResultTooLong { .. }
            | ClientOutput::Superseded { .. } => {
                steps.push_back(Step::Outpost(OutpostInput::Completed(lane)));
            }
            // The clients on the other lanes need not find that out.
            ClientOutput::Epoch(membership) => {
                let others = others.iter().filter(|other| **other != lane);
                steps.extend(others.map(|other| Step::Lane(*other, ClientInput::Epoch(membership.clone()))));
            }
            ClientOutput::Renumbered { .. }
            | ClientOutput::Busy { .. }
            | ClientOutput::Emission { .. }
            | ClientOutput::EmissionsEnded { .. }
            | ClientOutput::Refused { .. } => {}
        }
    }
}
