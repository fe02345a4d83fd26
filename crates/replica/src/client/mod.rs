mod ballot;
mod numbering;
mod respondents;

use crate::Limits;
use crate::frame::{
    ClientFrame, ClientMessage, Query, QueryAnswer, ReplyOutcome, decode_reply_frame, frame_bytes,
};
use crate::tally::Tally;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Authenticator, Domain, Keyring};
use althing_protocol::{Answers, Request, RequestAuth};
use althing_types::{ClientId, Instant, Principal, Quorums, ReplicaId, RequestNumber, View};
use ballot::{Ballot, Verdict};
use core::time::Duration;
use numbering::Numbering;
use respondents::Respondents;
use thiserror::Error;

/// Waiting times double with each retransmission, up to so many times the first.
const MAX_DOUBLINGS: u32 = 5;

/// How a client authenticates its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestAuthKind {
    /// With a MAC for each replica.
    #[default]
    Macs,
    /// With a signature.
    Signed,
}

/// How the clients of a group read. All of them have to read alike, since the writers have to wait
/// for as many replicas as the readers count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadPolicy {
    /// Reads are ordered like writes, and one correct replica's word is enough for both.
    #[default]
    Ordered,
    /// Reads are first tried without ordering (PBFT §5.1.3). An agreement quorum has to give the
    /// same answer, and writes too are complete only once an agreement quorum has executed them:
    /// otherwise a read could miss a write that was complete before it. The price is that a write
    /// waits for the slowest correct replicas when others are faulty (SRDS'21).
    Fast,
}

/// Whom clients ask to answer a request at first. One that has to be sent again is answered by all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerPolicy {
    /// As few as can convince the client: one gives the result and the others its digest (PBFT §5.1.1).
    /// A client that waits in vain for one of them pays with the time until it asks again, once.
    #[default]
    Few,
    /// All, each with the whole result.
    All,
}

/// What a client has to know from the start.
#[derive(Clone)]
pub struct ClientConfig {
    /// Which client it is.
    pub client: ClientId,
    /// Its keys, and the replicas' public ones.
    pub keyring: Keyring,
    /// The group's quorums.
    pub quorums: Quorums,
    /// The group's bounds.
    pub limits: Limits,
    /// How it authenticates requests.
    pub auth: RequestAuthKind,
    /// How the group's clients read.
    pub reads: ReadPolicy,
    /// Whom it asks to answer.
    pub answers: AnswerPolicy,
    /// How long it waits before it asks all replicas.
    pub retry: Duration,
    /// The number of its first request: above all that it has ever used, as far as it knows.
    pub first_number: RequestNumber,
}

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// It may: it has to be ordered.
    Ordered,
    /// It changes nothing: it is tried without ordering, as far as [`ReadPolicy`] lets it.
    ReadOnly,
}

/// Why an operation was not submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// A client has one operation under way at a time.
    #[error("request {number} is still outstanding")]
    Outstanding {
        /// The one under way.
        number: RequestNumber,
    },
    /// The operation is longer than the group allows.
    #[error("the operation has {bytes} bytes where at most {limit} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The length allowed.
        limit: usize,
    },
}

/// Something that happened to a client.
#[derive(Debug, Clone)]
pub enum ClientInput {
    /// Bytes came over the channel of a replica.
    Frame {
        /// Whose channel it is.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The timer expired.
    Timer,
}

/// Something to be done by the client's runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send a frame. It may get lost.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        frame: Arc<[u8]>,
    },
    /// Hand in [`ClientInput::Timer`] after this time. There is one timer; it starts afresh.
    SetTimer {
        /// From now.
        after: Duration,
    },
    /// Forget the timer.
    CancelTimer,
    /// The outstanding operation is complete.
    Completed {
        /// Its number.
        number: RequestNumber,
        /// Its result.
        result: Vec<u8>,
        /// Whether it was ordered, or answered without.
        was_ordered: bool,
    },
    /// The outstanding operation was executed, but its result is longer than the group allows.
    ResultTooLong {
        /// Its number.
        number: RequestNumber,
        /// The result's length.
        bytes: u64,
    },
    /// The outstanding operation is submitted under another number, because an earlier instance of this
    /// client has used higher ones.
    Renumbered {
        /// The number that it had.
        from: RequestNumber,
        /// The one that it has now.
        to: RequestNumber,
    },
    /// Another instance of this client is at work, which must not be: the outstanding operation is given
    /// up, and may or may not have taken effect.
    Superseded {
        /// Its number.
        number: RequestNumber,
    },
    /// The group has no room for the operation now. The client keeps trying.
    Busy {
        /// Its number.
        number: RequestNumber,
    },
    /// One replica says that the service emitted this. Only f + 1 of them together are right.
    Emission {
        /// Who says so.
        from: ReplicaId,
        /// Which listeners it is for.
        channel: u32,
        /// The event.
        payload: Vec<u8>,
    },
    /// Something that came was not let in.
    Refused {
        /// Over whose channel it came.
        from: ReplicaId,
        /// Why.
        reason: &'static str,
    },
}

/// What is being waited for.
#[derive(Debug)]
enum Phase {
    Ordered(Ballot),
    Query(Tally<QueryAnswer>),
}

#[derive(Debug)]
struct Outstanding {
    number: RequestNumber,
    operation: Vec<u8>,
    phase: Phase,
    frame: Arc<[u8]>,
    retransmissions: u32,
    busy: BTreeSet<ReplicaId>,
}

/// A client of a group: submits one operation at a time, and believes a result once enough replicas
/// agree on it.
///
/// It does no input or output itself: a runtime hands in what happens and does what comes out.
pub struct Client {
    config: ClientConfig,
    numbering: Numbering,
    outstanding: Option<Outstanding>,
    respondents: Respondents,
    /// The last view that each replica said it was in.
    views: BTreeMap<ReplicaId, View>,
}

impl Client {
    /// A client with nothing under way.
    ///
    /// # Panics
    /// If the keyring belongs to somebody else than `config.client`.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        assert_eq!(config.keyring.me(), Principal::Client(config.client), "the keyring is its own");
        let enough = enough_replies(config.reads, config.quorums);
        Self {
            numbering: Numbering::new(config.first_number),
            respondents: Respondents::new(config.answers, config.client, config.quorums, enough),
            config,
            outstanding: None,
            views: BTreeMap::new(),
        }
    }

    /// Submits an operation, appending what is to be done to `out`; gives back its number.
    ///
    /// # Errors
    /// While another one is outstanding, and when it is too long.
    pub fn submit(
        &mut self,
        _now: Instant,
        operation: Vec<u8>,
        kind: OperationKind,
        out: &mut Vec<ClientOutput>,
    ) -> Result<RequestNumber, SubmitError> {
        if let Some(Outstanding { number, .. }) = self.outstanding {
            return Err(SubmitError::Outstanding { number });
        }
        let (bytes, limit) = (operation.len(), self.config.limits.settings().max_operation_bytes);
        if bytes > limit {
            return Err(SubmitError::TooLong { bytes, limit });
        }
        let number = self.numbering.take();
        if kind == OperationKind::ReadOnly && self.config.reads == ReadPolicy::Fast {
            self.start_query(number, operation, out);
        } else {
            let answers = self.respondents.next();
            self.start_ordered(number, operation, answers, out);
        }
        Ok(number)
    }

    /// Gives up the outstanding operation, which may or may not take effect; says which it was.
    pub fn abandon(&mut self, out: &mut Vec<ClientOutput>) -> Option<RequestNumber> {
        let outstanding = self.outstanding.take()?;
        out.push(ClientOutput::CancelTimer);
        Some(outstanding.number)
    }

    /// The operation under way, if there is one.
    #[must_use]
    pub fn outstanding(&self) -> Option<RequestNumber> {
        self.outstanding.as_ref().map(|outstanding| outstanding.number)
    }

    /// Takes one input, appending what is to be done to `out`.
    pub fn handle(&mut self, _now: Instant, input: ClientInput, out: &mut Vec<ClientOutput>) {
        match input {
            ClientInput::Frame { from, bytes } => self.on_frame(from, &bytes, out),
            ClientInput::Timer => self.on_timer(out),
        }
    }

    fn start_query(&mut self, number: RequestNumber, operation: Vec<u8>, out: &mut Vec<ClientOutput>) {
        let mut query =
            Query { client: self.config.client, number, operation, macs: Authenticator(Vec::new()) };
        query.macs = self.config.keyring.authenticate(Domain::Query, &query.signed_bytes());
        let operation = query.operation.clone();
        let frame = frame_bytes(&ClientFrame::Query(query));
        self.begin(number, operation, Phase::Query(Tally::new()), frame);
        self.send_to_all(out);
    }

    fn start_ordered(
        &mut self,
        number: RequestNumber,
        operation: Vec<u8>,
        answers: Answers,
        out: &mut Vec<ClientOutput>,
    ) {
        let frame = self.request_frame(number, &operation, answers, self.config.auth);
        self.begin(number, operation, Phase::Ordered(self.ballot()), frame.clone());
        let to = self.config.quorums.primary(self.view());
        out.push(ClientOutput::Send { to, frame });
        out.push(ClientOutput::SetTimer { after: self.config.retry });
    }

    fn request_frame(
        &self,
        number: RequestNumber,
        operation: &[u8],
        answers: Answers,
        auth: RequestAuthKind,
    ) -> Arc<[u8]> {
        let mut request = Request {
            client: self.config.client,
            number,
            operation: operation.to_vec(),
            answers,
            auth: RequestAuth::Macs(Authenticator(Vec::new())),
            is_authentic: false,
        };
        let bytes = request.signed_bytes();
        request.auth = match auth {
            RequestAuthKind::Macs => {
                RequestAuth::Macs(self.config.keyring.authenticate(Domain::Request, &bytes))
            }
            RequestAuthKind::Signed => RequestAuth::Signed(self.config.keyring.sign(Domain::Request, &bytes)),
        };
        frame_bytes(&ClientFrame::Request(request))
    }

    fn ballot(&self) -> Ballot {
        Ballot::new(enough_replies(self.config.reads, self.config.quorums), self.config.quorums)
    }

    fn begin(&mut self, number: RequestNumber, operation: Vec<u8>, phase: Phase, frame: Arc<[u8]>) {
        let (retransmissions, busy) = (0, BTreeSet::new());
        self.outstanding = Some(Outstanding { number, operation, phase, frame, retransmissions, busy });
    }

    /// The highest view that a correct replica is in, or was.
    fn view(&self) -> View {
        let mut views: Vec<View> = self.views.values().copied().collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        views.get(self.config.quorums.one_correct() - 1).copied().unwrap_or_default()
    }

    fn send_to_all(&self, out: &mut Vec<ClientOutput>) {
        let Some(outstanding) = &self.outstanding else { return };
        let frame = &outstanding.frame;
        out.extend(self.config.quorums.replicas().map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        let doublings = outstanding.retransmissions.min(MAX_DOUBLINGS);
        out.push(ClientOutput::SetTimer { after: self.config.retry.saturating_mul(1 << doublings) });
    }

    fn on_timer(&mut self, out: &mut Vec<ClientOutput>) {
        match self.outstanding {
            Some(Outstanding { phase: Phase::Query(_), .. }) => self.fall_back(out),
            Some(_) => self.ask_again(out),
            None => {}
        }
    }

    /// Asks all replicas, and to answer: the primary may be faulty, or not the primary any more, or one
    /// of those that were to answer is faulty. It signs now, since replicas hold a wait against the
    /// primary only if they can be sure that the primary believes the request too.
    fn ask_again(&mut self, out: &mut Vec<ClientOutput>) {
        let Some(outstanding) = &mut self.outstanding else { return };
        outstanding.retransmissions = outstanding.retransmissions.saturating_add(1);
        outstanding.busy.clear();
        if outstanding.retransmissions == 1 {
            if let Phase::Ordered(ballot) = &outstanding.phase {
                let silent = ballot.silent(self.respondents.asked(), self.respondents.firmly());
                self.respondents.blame(&silent);
                self.respondents.beware();
            }
            let (number, operation) = (outstanding.number, outstanding.operation.clone());
            let frame = self.request_frame(number, &operation, Answers::All, RequestAuthKind::Signed);
            if let Some(outstanding) = &mut self.outstanding {
                outstanding.frame = frame;
            }
        }
        self.send_to_all(out);
    }

    /// Has the query ordered after all. That it was not answered may be the fault of one of those that
    /// would be asked to answer, so all are.
    fn fall_back(&mut self, out: &mut Vec<ClientOutput>) {
        if let Some(Outstanding { number, operation, .. }) = self.outstanding.take() {
            self.start_ordered(number, operation, Answers::All, out);
        }
    }

    fn on_frame(&mut self, from: ReplicaId, bytes: &[u8], out: &mut Vec<ClientOutput>) {
        let Ok((frame, message)) = decode_reply_frame(bytes, &self.config.limits) else {
            let reason = "a frame is malformed or too long";
            return out.push(ClientOutput::Refused { from, reason });
        };
        let sender = Principal::Replica(from);
        let is_authentic = frame.replica == from
            && self.config.keyring.verify_mac(sender, &frame.mac, Domain::Reply, &frame.body);
        if !is_authentic {
            let reason = "a frame's authentication does not hold";
            return out.push(ClientOutput::Refused { from, reason });
        }
        match message {
            ClientMessage::Reply { view, number, execution, outcome } => {
                self.views.insert(from, view);
                self.on_reply(number, |ballot| ballot.give(from, (view, execution), outcome), out);
            }
            ClientMessage::ReplyDigest { view, number, execution, outcome } => {
                self.views.insert(from, view);
                self.on_reply(number, |ballot| ballot.vouch(from, (view, execution), outcome), out);
            }
            ClientMessage::QueryReply { number, answer } => self.on_answer(from, number, answer, out),
            ClientMessage::Busy { number } => self.on_busy(from, number, out),
            ClientMessage::Superseded { number, last } => self.on_superseded(from, number, last, out),
            ClientMessage::Emission { channel, payload } => {
                out.push(ClientOutput::Emission { from, channel, payload });
            }
        }
    }

    fn on_reply(
        &mut self,
        number: RequestNumber,
        vote: impl FnOnce(&mut Ballot) -> Verdict,
        out: &mut Vec<ClientOutput>,
    ) {
        let Some(Outstanding { phase: Phase::Ordered(ballot), retransmissions, .. }) =
            self.outstanding.as_mut().filter(|outstanding| outstanding.number == number)
        else {
            return;
        };
        let outcome = match vote(ballot) {
            Verdict::Decided(outcome) => outcome,
            // Who was to give the result has given a wrong one.
            Verdict::Withheld
                if *retransmissions == 0
                    && self.respondents.first().is_some_and(|first| ballot.has_heard(first)) =>
            {
                let first: Vec<_> = self.respondents.first().into_iter().collect();
                self.respondents.blame(&first);
                return self.ask_again(out);
            }
            Verdict::Withheld | Verdict::Open => return,
        };
        self.respondents.blame(&ballot.liars(&outcome));
        self.outstanding = None;
        self.numbering.establish();
        out.push(ClientOutput::CancelTimer);
        out.push(match outcome {
            ReplyOutcome::Result(result) => ClientOutput::Completed { number, result, was_ordered: true },
            ReplyOutcome::TooLong { bytes } => ClientOutput::ResultTooLong { number, bytes },
        });
    }

    fn on_answer(
        &mut self,
        from: ReplicaId,
        number: RequestNumber,
        answer: QueryAnswer,
        out: &mut Vec<ClientOutput>,
    ) {
        let quorums = self.config.quorums;
        let Some(Outstanding { phase: Phase::Query(tally), .. }) = self.outstanding_as(number) else {
            return;
        };
        let same = tally.vote(from, answer.clone());
        let still_to_come = quorums.n() - tally.voters();
        match answer {
            QueryAnswer::Result(result) if same >= quorums.agreement() => {
                self.outstanding = None;
                out.push(ClientOutput::CancelTimer);
                out.push(ClientOutput::Completed { number, result, was_ordered: false });
            }
            QueryAnswer::MustOrder if same >= quorums.one_correct() => self.fall_back(out),
            _ if tally.largest() + still_to_come < quorums.agreement() => self.fall_back(out),
            _ => {}
        }
    }

    fn on_busy(&mut self, from: ReplicaId, number: RequestNumber, out: &mut Vec<ClientOutput>) {
        let one_correct = self.config.quorums.one_correct();
        if let Some(outstanding) = self.outstanding_as(number) {
            let is_new = outstanding.busy.insert(from);
            if is_new && outstanding.busy.len() == one_correct {
                out.push(ClientOutput::Busy { number });
            }
        }
    }

    fn on_superseded(
        &mut self,
        from: ReplicaId,
        number: RequestNumber,
        last: RequestNumber,
        out: &mut Vec<ClientOutput>,
    ) {
        let is_ordered = |outstanding: &mut Outstanding| {
            outstanding.number == number && matches!(outstanding.phase, Phase::Ordered(_))
        };
        if !self.outstanding.as_mut().is_some_and(is_ordered)
            || !self.numbering.claim(from, last, self.config.quorums)
        {
            return;
        }
        let Some(Outstanding { operation, .. }) = self.outstanding.take() else { return };
        if self.numbering.is_established() {
            out.push(ClientOutput::CancelTimer);
            out.push(ClientOutput::Superseded { number });
        } else {
            let to = self.numbering.take();
            out.push(ClientOutput::Renumbered { from: number, to });
            self.start_ordered(to, operation, Answers::All, out);
        }
    }

    fn outstanding_as(&mut self, number: RequestNumber) -> Option<&mut Outstanding> {
        self.outstanding.as_mut().filter(|outstanding| outstanding.number == number)
    }
}

/// How many replicas have to give the same result of an operation that they have executed for good.
fn enough_replies(reads: ReadPolicy, quorums: Quorums) -> usize {
    match reads {
        ReadPolicy::Ordered => quorums.one_correct(),
        ReadPolicy::Fast => quorums.agreement(),
    }
}
