use std::collections::BTreeSet;
use std::sync::Arc;

use althing_replica::membership::Membership;
use althing_replica::{Client, ClientConfig, ClientInput, ClientOutput, Limits, OperationKind};
use althing_types::{ClientId, Principal, ReplicaId, RequestNumber};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::updates::Updates;
use super::{Answer, Command, InvokeError, ReplicaEmission};
use crate::clock::WallClock;
use crate::config::ClientFile;
use crate::net::{NetEvent, NetEvents, Network, NetworkHandle, Sent, StartError};
use crate::roster::Roster;
use crate::timers::Timers;
use crate::wiring;

/// Events handled before new operations are looked for, at most.
const BATCH: usize = 256;

/// The sessions of a client, and the connections that they share. To the group each is a client of its own,
/// with one operation under way at a time.
pub(super) struct Sessions {
    sessions: Vec<Session>,
    /// Those without an operation.
    free: Vec<u16>,
    clock: WallClock,
    timers: Timers<u16>,
    network: NetworkHandle,
    /// Who is who there, in the present epoch.
    roster: Roster,
    membership: watch::Sender<Option<Membership>>,
    emissions: mpsc::Sender<ReplicaEmission>,
    /// Those of whom whoever reads emissions has yet to be told that what they said so far counts no longer.
    ended: BTreeSet<ReplicaId>,
    connected: watch::Sender<usize>,
}

struct Session {
    client: Client,
    /// What it asks is an update of a system of sites, if its group is one.
    updates: Option<Updates>,
    /// Who waits for the operation under way.
    answer: Option<oneshot::Sender<Result<Answer, InvokeError>>>,
}

impl Sessions {
    pub(super) async fn start(
        file: &ClientFile,
        emissions: mpsc::Sender<ReplicaEmission>,
        (connected, membership): (watch::Sender<usize>, watch::Sender<Option<Membership>>),
    ) -> Result<(Self, NetEvents), StartError> {
        let me = Principal::Client(file.client());
        let limits = Limits::default();
        let roster = Roster::new(file.group(), me, file.identity().public());
        let network = wiring::network(file.group(), &roster, me, file.identity(), &limits);
        let (network, events) = Network::start(network).await?;
        let mut clock = WallClock::default();
        // The time in nanoseconds grows faster than a client can count.
        let first_number = RequestNumber(clock.now().0);
        let session = |session: u16| {
            let id = ClientId(file.client().0 + u64::from(session));
            let config = client_config(file, id, first_number, limits.clone());
            let updates = file.system().map(|system| Updates::new(system, id, file.identity(), first_number));
            Session { client: Client::new(config), updates, answer: None }
        };
        let sessions = Self {
            sessions: (0..file.sessions()).map(session).collect(),
            free: (0..file.sessions()).rev().collect(),
            clock,
            timers: Timers::default(),
            network,
            roster,
            membership,
            emissions,
            ended: BTreeSet::new(),
            connected,
        };
        Ok((sessions, events))
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: NetEvents,
        given_up: Arc<Notify>,
    ) {
        loop {
            let timer = self.timers.next();
            tokio::select! {
                command = commands.recv(), if !self.free.is_empty() => match command {
                    Some(command) => self.submit(command),
                    // Whoever asks holds a handle, so nothing is under way.
                    None => break,
                },
                event = events.recv() => match event {
                    Some(event) => self.on_events(event, &mut events),
                    None => break,
                },
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => self.expire(),
                () = given_up.notified() => self.abandon(),
            }
            while !self.free.is_empty()
                && let Ok(command) = commands.try_recv()
            {
                self.submit(command);
            }
        }
        self.network.shutdown().await;
    }

    fn on_events(&mut self, first: NetEvent, events: &mut NetEvents) {
        self.on_event(first);
        for _ in 1..BATCH {
            match events.try_recv() {
                Some(event) => self.on_event(event),
                None => return,
            }
        }
    }

    fn on_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Frame { from: Principal::Replica(slot), session, bytes } => {
                // Who has left has nothing to say any more.
                if let Some(from) = self.roster.place(slot) {
                    self.handle(session, ClientInput::Frame { from, bytes: bytes.into() });
                }
            }
            NetEvent::Frame { .. } => {}
            NetEvent::Connected(_) => self.connected.send_modify(|count| *count += 1),
            NetEvent::Disconnected(who) => {
                self.connected.send_modify(|count| *count = count.saturating_sub(1));
                self.on_disconnected(who);
            }
        }
    }

    fn on_disconnected(&mut self, who: Principal) {
        let Principal::Replica(slot) = who else { return };
        let Some(replica) = self.roster.place(slot) else { return };
        for session in 0..self.sessions.len() {
            let session = u16::try_from(session).expect("sessions are counted in 16 bits");
            self.handle(session, ClientInput::Unreachable(replica));
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(session) = self.timers.expired(now) {
            self.handle(session, ClientInput::Timer);
        }
    }

    fn handle(&mut self, session: u16, input: ClientInput) {
        // A replica may name any session.
        let Some(Session { client, .. }) = self.sessions.get_mut(usize::from(session)) else { return };
        let mut outputs = Vec::new();
        client.handle(self.clock.now(), input, &mut outputs);
        self.carry_out(session, outputs);
    }

    /// Starts an operation in a session that is free.
    fn submit(&mut self, Command { operation, kind, answer }: Command) {
        if answer.is_closed() {
            return;
        }
        let session = self.free.pop().expect("the caller has seen one");
        let Session { client, updates, answer: waiter } = &mut self.sessions[usize::from(session)];
        let mut outputs = Vec::new();
        let wrapped = match updates {
            Some(updates) => updates.wrap(operation).map(|update| (update, OperationKind::Ordered)),
            None => Ok((operation, kind)),
        };
        let submitted = wrapped.and_then(|(operation, kind)| {
            Ok(client.submit(self.clock.now(), operation, kind, &mut outputs)?)
        });
        match submitted {
            Ok(_) => *waiter = Some(answer),
            Err(error) => {
                self.free.push(session);
                // Whoever asked may have gone.
                let _ = answer.send(Err(error));
            }
        }
        self.carry_out(session, outputs);
    }

    /// Gives up the operations that nobody waits for any more.
    fn abandon(&mut self) {
        for session in 0..self.sessions.len() {
            let Session { client, answer, .. } = &mut self.sessions[session];
            if answer.take_if(|answer| answer.is_closed()).is_some() {
                let mut outputs = Vec::new();
                client.abandon(&mut outputs);
                let session = u16::try_from(session).expect("sessions are counted in 16 bits");
                self.free.push(session);
                self.carry_out(session, outputs);
            }
        }
    }

    fn carry_out(&mut self, session: u16, outputs: Vec<ClientOutput>) {
        let mut unreachable = None;
        for output in outputs {
            match output {
                ClientOutput::Send { to, frame } => {
                    // A frame that is lost is sent again when the timer expires.
                    let Some(slot) = self.roster.route(Principal::Replica(to)) else { continue };
                    let sent = self.network.send_in(session, slot, Bytes::from_owner(frame));
                    if sent == Sent::NotConnected {
                        unreachable = Some(to);
                    }
                }
                ClientOutput::SetTimer { after } => self.timers.set(session, after),
                ClientOutput::CancelTimer => self.timers.cancel(session),
                ClientOutput::Completed { result, was_ordered, .. } => {
                    let updates = &mut self.sessions[usize::from(session)].updates;
                    let result = match updates {
                        Some(updates) => updates.unwrap(&result),
                        None => Ok(result),
                    };
                    self.complete(session, result.map(|result| Answer { result, was_ordered }));
                }
                ClientOutput::ResultTooLong { bytes, .. } => {
                    self.complete(session, Err(InvokeError::ResultTooLong { bytes }));
                }
                // They go to the first session; only that one sees to it that what was said ends with its key.
                ClientOutput::Emission { from, channel, payload } if session == 0 => {
                    self.ended.retain(|from| {
                        self.emissions.try_send(ReplicaEmission::Ended { from: *from }).is_err()
                    });
                    if self.ended.is_empty() {
                        // One that is dropped can be asked for.
                        let event = ReplicaEmission::Event { from, channel, payload };
                        let _ = self.emissions.try_send(event);
                    }
                }
                ClientOutput::Emission { .. } => {}
                ClientOutput::EmissionsEnded { from } => drop(self.ended.insert(from)),
                ClientOutput::Renumbered { from, to } => {
                    tracing::warn!(%from, %to, "numbers go on above those used before: was the clock set back?");
                }
                ClientOutput::Epoch(membership) => self.enter(session, &membership),
                ClientOutput::Superseded { .. } => self.complete(session, Err(InvokeError::Superseded)),
                ClientOutput::Busy { number } => tracing::debug!(%number, "the group is busy"),
                ClientOutput::Refused { from, reason } => tracing::debug!(%from, reason, "refused a frame"),
            }
        }
        // It comes to nothing for what went to all, so this ends.
        if let Some(replica) = unreachable {
            self.handle(session, ClientInput::Unreachable(replica));
        }
    }

    /// A session has found out who the members are by now, and the others go by that as well.
    fn enter(&mut self, session: u16, membership: &Membership) {
        let is_news = |known: &mut Option<Membership>| {
            let is_news = known.as_ref().is_none_or(|known| known.epoch < membership.epoch);
            if is_news {
                *known = Some(membership.clone());
            }
            is_news
        };
        if !self.membership.send_if_modified(is_news) {
            return;
        }
        tracing::info!(epoch = %membership.epoch, "the members of the group have changed");
        self.roster.enter(membership);
        self.network.set_peers(&self.roster.peers(&[]));
        for other in (0..self.sessions.len()).map(|other| u16::try_from(other).expect("16 bits count them")) {
            if other != session {
                self.handle(other, ClientInput::Epoch(Box::new(membership.clone())));
            }
        }
    }

    fn complete(&mut self, session: u16, answer: Result<Answer, InvokeError>) {
        if let Some(waiter) = self.sessions[usize::from(session)].answer.take() {
            self.free.push(session);
            // Whoever asked may have gone.
            let _ = waiter.send(answer);
        }
    }
}

fn client_config(
    file: &ClientFile,
    client: ClientId,
    first_number: RequestNumber,
    limits: Limits,
) -> ClientConfig {
    let group = file.group();
    ClientConfig {
        client,
        keyring: group.keyring(Principal::Client(client), file.identity().clone()),
        quorums: group.quorums(),
        membership: group.membership(),
        limits,
        auth: group.client_auth(),
        reads: group.reads().into(),
        answers: file.answers().into(),
        separate_bytes: group.separate_bytes(),
        composition: group.composition(),
        witnesses: group.witnesses().to_vec(),
        retry: file.retry(),
        first_number,
    }
}
