//! A client of a group on a real network: asks, and gets the answer that enough replicas agree on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use althing_replica::{
    Client, ClientConfig, ClientInput, ClientOutput, Limits, OperationKind, RequestAuthKind, SubmitError,
};
use althing_types::{Principal, ReplicaId, RequestNumber};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::clock::WallClock;
use crate::config::{self, ClientFile, GroupConfig};
use crate::net::{NetEvent, NetEvents, Network, NetworkHandle, StartError};
use crate::wiring;

/// Operations that wait for their turn, at most.
const MAX_WAITING: usize = 256;

/// Emissions that wait to be read, at most; what comes on top is dropped and can be asked for.
const MAX_EMISSIONS: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The time is over. The operation may or may not take effect.
    #[error(
        "no answer from the group `{group}` within {after:?} ({connected} of {replicas} replicas are \
         connected); whether the operation takes effect is unknown"
    )]
    TimedOut {
        /// The group.
        group: String,
        /// How long was waited.
        after: Duration,
        /// Replicas with a connection.
        connected: usize,
        /// Replicas of the group.
        replicas: usize,
    },
    /// The operation was refused before it was sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The operation took effect, but its result is longer than the group allows.
    #[error("the operation was executed, but its result of {bytes} bytes is longer than the group allows")]
    ResultTooLong {
        /// Length of the result.
        bytes: u64,
    },
    /// Somebody else uses the same client at the same time.
    #[error(
        "another program is using the same client file; whether the operation takes effect is unknown. \
         Give each program a client of its own"
    )]
    Superseded,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// An answer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The service's result.
    pub result: Vec<u8>,
    /// Whether the operation was ordered, or answered without.
    pub was_ordered: bool,
}

/// What one replica says that the service emitted. Only f + 1 of them together are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaEmission {
    /// Who says so.
    pub from: ReplicaId,
    /// The channel.
    pub channel: u32,
    /// The event.
    pub payload: Vec<u8>,
}

/// A client of a group. Clones are the same client, whose operations are carried out one after the
/// other. When the last is dropped it disconnects.
#[derive(Debug, Clone)]
pub struct GroupClient {
    group: Arc<GroupConfig>,
    commands: mpsc::Sender<Command>,
    connected: watch::Receiver<usize>,
}

#[derive(Debug)]
struct Command {
    operation: Vec<u8>,
    kind: OperationKind,
    answer: oneshot::Sender<Result<Answer, InvokeError>>,
}

impl GroupClient {
    /// Starts the client on the current tokio runtime. It connects in the background, and goes on
    /// trying for ever.
    ///
    /// # Errors
    /// When the network can't be started.
    pub async fn connect(file: &ClientFile) -> Result<Self, StartError> {
        Ok(Self::connect_listening(file).await?.0)
    }

    /// As [`Self::connect`], with what the group emits to this client.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_listening(
        file: &ClientFile,
    ) -> Result<(Self, mpsc::Receiver<ReplicaEmission>), StartError> {
        let group = Arc::clone(file.group());
        let me = Principal::Client(file.client());
        let limits = Limits::default();
        let (network, events) = Network::start(wiring::network(&group, me, file.identity(), &limits)).await?;
        let mut clock = WallClock::default();
        let client = Client::new(ClientConfig {
            client: file.client(),
            keyring: group.keyring(me, file.identity().clone()),
            quorums: group.quorums(),
            limits,
            auth: match group.request_auth() {
                config::RequestAuthKind::Macs => RequestAuthKind::Macs,
                config::RequestAuthKind::Signatures => RequestAuthKind::Signed,
            },
            reads: group.reads().into(),
            answers: file.answers().into(),
            retry: file.retry(),
            // The time in nanoseconds grows faster than a client can count.
            first_number: RequestNumber(clock.now().0),
        });
        let (commands, received) = mpsc::channel(MAX_WAITING);
        let (emitting, emissions) = mpsc::channel(MAX_EMISSIONS);
        let (connecting, connected) = watch::channel(0);
        let actor = Actor {
            client,
            clock,
            network,
            timer: None,
            waiting: VecDeque::new(),
            answer: None,
            emissions: emitting,
            connected: connecting,
        };
        tokio::spawn(actor.run(received, events));
        Ok((Self { group, commands, connected }, emissions))
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupConfig {
        &self.group
    }

    /// How many replicas are connected, and a way to wait until that changes.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<usize> {
        self.connected.clone()
    }

    /// Has the group order and execute an operation, waiting as long as it takes. When the returned
    /// future is dropped, the operation is given up and may or may not take effect.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke(&self, operation: Vec<u8>) -> Result<Answer, InvokeError> {
        self.ask(operation, OperationKind::Ordered).await
    }

    /// Asks something that changes nothing.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn query(&self, operation: Vec<u8>) -> Result<Answer, InvokeError> {
        self.ask(operation, OperationKind::ReadOnly).await
    }

    /// As [`Self::invoke`], for at most `within`.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke_within(&self, operation: Vec<u8>, within: Duration) -> Result<Answer, InvokeError> {
        self.limited(self.invoke(operation), within).await
    }

    /// As [`Self::query`], for at most `within`.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn query_within(&self, operation: Vec<u8>, within: Duration) -> Result<Answer, InvokeError> {
        self.limited(self.query(operation), within).await
    }

    async fn limited(
        &self,
        asking: impl Future<Output = Result<Answer, InvokeError>>,
        within: Duration,
    ) -> Result<Answer, InvokeError> {
        tokio::time::timeout(within, asking).await.unwrap_or_else(|_| {
            Err(InvokeError::TimedOut {
                group: self.group.name().to_owned(),
                after: within,
                connected: *self.connected.borrow(),
                replicas: self.group.replicas().len(),
            })
        })
    }

    async fn ask(&self, operation: Vec<u8>, kind: OperationKind) -> Result<Answer, InvokeError> {
        let (answer, answered) = oneshot::channel();
        let command = Command { operation, kind, answer };
        self.commands.send(command).await.map_err(|_| InvokeError::Closed)?;
        answered.await.map_err(|_| InvokeError::Closed)?
    }
}

struct Actor {
    client: Client,
    clock: WallClock,
    network: NetworkHandle,
    timer: Option<TokioInstant>,
    waiting: VecDeque<Command>,
    /// Who waits for the operation under way.
    answer: Option<oneshot::Sender<Result<Answer, InvokeError>>>,
    emissions: mpsc::Sender<ReplicaEmission>,
    connected: watch::Sender<usize>,
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut events: NetEvents) {
        loop {
            let timer = self.timer;
            tokio::select! {
                command = commands.recv(), if self.waiting.len() < MAX_WAITING => match command {
                    Some(command) => self.waiting.push_back(command),
                    // Whoever asks holds a handle, so nothing is under way.
                    None => break,
                },
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => break,
                },
                () = sleep_until(timer.unwrap_or_else(TokioInstant::now)), if timer.is_some() => {
                    self.timer = None;
                    self.handle(ClientInput::Timer);
                }
                () = given_up(self.answer.as_mut()) => self.abandon(),
            }
            self.start_next();
        }
        self.network.shutdown().await;
    }

    fn on_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Frame { from: Principal::Replica(from), bytes } => {
                self.handle(ClientInput::Frame { from, bytes: bytes.into() });
            }
            NetEvent::Frame { .. } => {}
            NetEvent::Connected(_) => self.connected.send_modify(|count| *count += 1),
            NetEvent::Disconnected(_) => self.connected.send_modify(|count| *count = count.saturating_sub(1)),
        }
    }

    fn handle(&mut self, input: ClientInput) {
        let mut outputs = Vec::new();
        self.client.handle(self.clock.now(), input, &mut outputs);
        self.carry_out(outputs);
    }

    fn abandon(&mut self) {
        self.answer = None;
        let mut outputs = Vec::new();
        self.client.abandon(&mut outputs);
        self.carry_out(outputs);
    }

    fn start_next(&mut self) {
        while self.answer.is_none()
            && let Some(Command { operation, kind, answer }) = self.waiting.pop_front()
        {
            if answer.is_closed() {
                continue;
            }
            let mut outputs = Vec::new();
            match self.client.submit(self.clock.now(), operation, kind, &mut outputs) {
                Ok(_) => self.answer = Some(answer),
                // Whoever asked has gone if this fails.
                Err(error) => drop(answer.send(Err(error.into()))),
            }
            self.carry_out(outputs);
        }
    }

    fn carry_out(&mut self, outputs: Vec<ClientOutput>) {
        for output in outputs {
            match output {
                ClientOutput::Send { to, frame } => {
                    // A frame that is lost is sent again when the timer expires.
                    let _ = self.network.send(Principal::Replica(to), Bytes::from_owner(frame));
                }
                ClientOutput::SetTimer { after } => self.timer = Some(TokioInstant::now() + after),
                ClientOutput::CancelTimer => self.timer = None,
                ClientOutput::Completed { result, was_ordered, .. } => {
                    self.complete(Ok(Answer { result, was_ordered }));
                }
                ClientOutput::ResultTooLong { bytes, .. } => {
                    self.complete(Err(InvokeError::ResultTooLong { bytes }));
                }
                ClientOutput::Emission { from, channel, payload } => {
                    // One that is dropped can be asked for.
                    let _ = self.emissions.try_send(ReplicaEmission { from, channel, payload });
                }
                ClientOutput::Renumbered { from, to } => {
                    tracing::warn!(%from, %to, "numbers go on above those used before: was the clock set back?");
                }
                ClientOutput::Superseded { .. } => self.complete(Err(InvokeError::Superseded)),
                ClientOutput::Busy { number } => tracing::debug!(%number, "the group is busy"),
                ClientOutput::Refused { from, reason } => tracing::debug!(%from, reason, "refused a frame"),
            }
        }
    }

    fn complete(&mut self, answer: Result<Answer, InvokeError>) {
        if let Some(waiter) = self.answer.take() {
            // Whoever asked may have gone.
            let _ = waiter.send(answer);
        }
    }
}

/// Resolves when nobody waits for the operation under way any more.
async fn given_up(answer: Option<&mut oneshot::Sender<Result<Answer, InvokeError>>>) {
    match answer {
        Some(answer) => answer.closed().await,
        None => std::future::pending().await,
    }
}
