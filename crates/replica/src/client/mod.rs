mod ballot;
mod certificates;
mod config;
mod epochs;
mod io;
mod keys;
mod lateness;
mod numbering;
mod respondents;
mod witnesses;

pub use config::{AnswerPolicy, ClientConfig, ReadPolicy, RequestAuthKind};
pub use io::{ClientInput, ClientOutput, OperationKind, SubmitError};

use crate::frame::{
    ClientFrame, ClientMessage, Given, Query, QueryAnswer, ReplyOutcome, decode_reply_frame, frame_bytes,
};
use crate::tally::Tally;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Authenticator, Domain};
use althing_protocol::zyzzyva::Mode;
use althing_protocol::{Answers, Request, RequestAuth, RequestKind};
use althing_types::{Instant, Principal, ReplicaId, RequestNumber, View, decode};
use ballot::{Ballot, Verdict};
use certificates::{Hasty, Stage};
use lateness::Lateness;
use numbering::Numbering;
use respondents::Respondents;
use witnesses::Witnesses;

/// Waiting times double with each retransmission, up to so many times the first.
const MAX_DOUBLINGS: u32 = 5;

/// A client that was told to sign does so for so many requests before it tries MACs again.
const SIGNED_IN_A_ROW: u32 = 256;

/// What is being waited for.
#[derive(Debug)]
enum Phase {
    Ordered(Ballot),
    Query(Tally<QueryAnswer>),
}

#[derive(Debug)]
struct Outstanding {
    number: RequestNumber,
    kind: RequestKind,
    operation: Vec<u8>,
    phase: Phase,
    frame: Arc<[u8]>,
    retransmissions: u32,
    /// Whether it is authenticated by MACs: good only at replicas whose keys are known.
    has_macs: bool,
    /// The primary, while it went there alone.
    went_to: Option<ReplicaId>,
    busy: BTreeSet<ReplicaId>,
    /// The oldest key of each replica under which it has said something since this began, by its number.
    said_under: BTreeMap<ReplicaId, u64>,
    since: Instant,
    stage: Stage,
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
    witnesses: Witnesses,
    lateness: Lateness,
    /// How many requests are still to be signed, because a replica does not believe the client's MACs.
    to_sign: u32,
    /// Where a certificate is shown as soon as there is one.
    hasty: Hasty,
    /// When the last input came.
    now: Instant,
    /// The last view that each replica said it was in.
    views: BTreeMap<ReplicaId, View>,
    /// When to retire the keys that replicas have replaced.
    retire_at: Option<Instant>,
    /// The oldest key of each replica under which it has passed on what its service emitted, by its number.
    emitted_under: BTreeMap<ReplicaId, u64>,
}

impl Client {
    /// A client with nothing under way.
    ///
    /// # Panics
    /// If the keyring belongs to somebody else than `config.client`.
    #[must_use]
    pub fn new(mut config: ClientConfig) -> Self {
        assert_eq!(config.keyring.me(), Principal::Client(config.client), "the keyring is its own");
        if let Some(membership) = &config.membership {
            config.keyring = membership.keyring(&config.keyring);
            config.quorums = membership.quorums();
            config.separate_bytes = membership.settings.separate_bytes();
            config.composition = membership.settings.composition();
            config.witnesses = membership.settings.witnesses().to_vec();
        }
        Self {
            numbering: Numbering::new(config.first_number),
            respondents: Respondents::new(&config),
            config,
            outstanding: None,
            witnesses: Witnesses::default(),
            lateness: Lateness::default(),
            to_sign: 0,
            hasty: Hasty::default(),
            now: Instant::default(),
            views: BTreeMap::new(),
            retire_at: None,
            emitted_under: BTreeMap::new(),
        }
    }

    /// Submits an operation, appending what is to be done to `out`; gives back its number.
    ///
    /// # Errors
    /// While another one is outstanding, and when it is too long.
    pub fn submit(
        &mut self,
        now: Instant,
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
        self.now = now;
        let number = self.numbering.take();
        if kind == OperationKind::ReadOnly && self.config.reads == ReadPolicy::Fast {
            self.start_query(number, operation, out);
        } else {
            let answers = self.respondents.next();
            let kind = match kind {
                OperationKind::Reconfigure => RequestKind::Reconfigure,
                OperationKind::Ordered | OperationKind::ReadOnly => RequestKind::Service,
            };
            if self.lateness.complains() {
                let all = (Answers::All, RequestAuthKind::Signed);
                let frame = self.request_frame((number, kind, &operation), all.0, all.1);
                self.begin((number, kind, operation), Phase::Ordered(self.ballot()), (frame, false));
                self.send_to_all(out);
            } else {
                self.start_ordered((number, kind, operation), answers, out);
                self.show(now, out);
            }
        }
        Ok(number)
    }

    /// Gives up the outstanding operation, which may or may not take effect; says which it was.
    pub fn abandon(&mut self, out: &mut Vec<ClientOutput>) -> Option<RequestNumber> {
        let outstanding = self.outstanding.take()?;
        out.push(ClientOutput::CancelTimer);
        Some(outstanding.number)
    }

    /// The longest operation that the group takes, in bytes.
    #[must_use]
    pub fn max_operation_bytes(&self) -> usize {
        self.config.limits.settings().max_operation_bytes
    }

    /// The operation under way, if there is one.
    #[must_use]
    pub fn outstanding(&self) -> Option<RequestNumber> {
        self.outstanding.as_ref().map(|outstanding| outstanding.number)
    }

    /// Takes one input, appending what is to be done to `out`.
    pub fn handle(&mut self, now: Instant, input: ClientInput, out: &mut Vec<ClientOutput>) {
        self.now = now;
        self.retire_keys(now, out);
        match input {
            ClientInput::Frame { from, bytes } => self.on_frame(now, from, &bytes, out),
            ClientInput::Timer => self.on_timer(out),
            ClientInput::Unreachable(replica) => self.on_unreachable(replica, out),
            ClientInput::Epoch(membership) => self.enter(*membership, out),
        }
    }

    fn start_query(&mut self, number: RequestNumber, operation: Vec<u8>, out: &mut Vec<ClientOutput>) {
        let frame = self.query_frame(number, operation.clone());
        self.begin((number, RequestKind::Service, operation), Phase::Query(Tally::new()), (frame, true));
        self.send_to_all(out);
    }

    fn query_frame(&mut self, number: RequestNumber, operation: Vec<u8>) -> Arc<[u8]> {
        let epoch = self.epoch();
        let mut query =
            Query { client: self.config.client, number, epoch, operation, macs: Authenticator(Vec::new()) };
        query.macs = self.config.keyring.authenticate(Domain::Query, &query.signed_bytes());
        frame_bytes(&ClientFrame::Query(query))
    }

    fn start_ordered(
        &mut self,
        (number, kind, operation): (RequestNumber, RequestKind, Vec<u8>),
        answers: Answers,
        out: &mut Vec<ClientOutput>,
    ) {
        let auth = if self.to_sign > 0 { RequestAuthKind::Signed } else { self.auth() };
        self.to_sign = self.to_sign.saturating_sub(1);
        let to = self.config.quorums.primary(self.view());
        let request = self.request((number, kind, &operation), answers, auth);
        if self.config.separate_bytes > 0 && operation.len() >= self.config.separate_bytes {
            // Before the primary can propose it.
            let frame = frame_bytes(&ClientFrame::Body(request.clone()));
            let backups = self.config.quorums.replicas().filter(|id| *id != to);
            out.extend(backups.map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        }
        let frame = frame_bytes(&ClientFrame::Request(request));
        let has_macs = auth == RequestAuthKind::Macs;
        self.begin((number, kind, operation), Phase::Ordered(self.ballot()), (frame.clone(), has_macs));
        if self.is_quorum(self.view()) {
            return self.send_to_all(out);
        }
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.went_to = Some(to);
        }
        out.push(ClientOutput::Send { to, frame });
        out.push(ClientOutput::SetTimer { after: self.config.retry });
    }

    /// Whether replicas order in this view what all of them have got.
    fn is_quorum(&self, view: View) -> bool {
        self.config.composition.mode(self.config.quorums, view) == Mode::Quorum
    }

    /// Who was sent the request alone is in a view in which all need it, and the client did not know: they get it too.
    fn catch_up_with(&mut self, view: View, number: RequestNumber, out: &mut Vec<ClientOutput>) {
        let is_quorum = self.is_quorum(view);
        let quorums = self.config.quorums;
        let Some(outstanding) = self.outstanding_as(number).filter(|_| is_quorum) else { return };
        if let Some(went_to) = outstanding.went_to.take() {
            let frame = outstanding.frame.clone();
            let others = quorums.replicas().filter(|id| *id != went_to);
            out.extend(others.map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        }
    }

    /// Shows the request that was just sent to a backup, now and then.
    fn show(&mut self, now: Instant, out: &mut Vec<ClientOutput>) {
        let (keyring, quorums) = (&self.config.keyring, self.config.quorums);
        let primary = quorums.primary(self.view());
        let Some(to) = self.witnesses.choose(now, primary, keyring, quorums) else { return };
        let shown = self.outstanding.as_ref().and_then(|outstanding| as_witness(&outstanding.frame));
        out.extend(shown.map(|frame| ClientOutput::Send { to, frame }));
    }

    fn request_frame(
        &mut self,
        content: (RequestNumber, RequestKind, &[u8]),
        answers: Answers,
        auth: RequestAuthKind,
    ) -> Arc<[u8]> {
        frame_bytes(&ClientFrame::Request(self.request(content, answers, auth)))
    }

    fn request(
        &mut self,
        (number, kind, operation): (RequestNumber, RequestKind, &[u8]),
        answers: Answers,
        auth: RequestAuthKind,
    ) -> Request {
        let mut request = Request {
            client: self.config.client,
            number,
            kind,
            operation: operation.to_vec(),
            epoch: self.epoch(),
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
        request
    }

    fn ballot(&self) -> Ballot {
        let ClientConfig { quorums, composition, .. } = self.config;
        Ballot::new(self.config.enough_replies(), quorums, composition)
    }

    fn begin(
        &mut self,
        (number, kind, operation): (RequestNumber, RequestKind, Vec<u8>),
        phase: Phase,
        (frame, has_macs): (Arc<[u8]>, bool),
    ) {
        let (retransmissions, busy) = (0, BTreeSet::new());
        self.outstanding = Some(Outstanding {
            number,
            kind,
            operation,
            phase,
            frame,
            retransmissions,
            has_macs,
            went_to: None,
            busy,
            said_under: BTreeMap::new(),
            since: self.now,
            stage: Stage::Gathering,
        });
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
        let is_query = matches!(outstanding.phase, Phase::Query(_));
        let to = self.config.quorums.replicas().filter(|id| !is_query || self.config.executes(*id));
        out.extend(to.map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        let doublings = outstanding.retransmissions.min(MAX_DOUBLINGS);
        out.push(ClientOutput::SetTimer { after: self.config.retry.saturating_mul(1 << doublings) });
    }

    fn on_timer(&mut self, out: &mut Vec<ClientOutput>) {
        match self.outstanding {
            Some(Outstanding { phase: Phase::Query(_), .. }) => self.fall_back(out),
            Some(Outstanding { stage: Stage::Waiting, .. }) => self.wait_no_more(out),
            Some(_) => self.ask_again(out),
            None => {}
        }
    }

    /// The primary is down, perhaps on purpose: the others know who leads by now, or will.
    fn on_unreachable(&mut self, replica: ReplicaId, out: &mut Vec<ClientOutput>) {
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.went_to == Some(replica)) {
            self.sign();
            self.send_to_all(out);
        }
    }

    /// Asks all replicas, and to answer: the primary may be faulty, or not the primary any more, or one
    /// of those that were to answer is faulty. It signs now, since replicas hold a wait against the
    /// primary only if they can be sure that the primary believes the request too.
    fn ask_again(&mut self, out: &mut Vec<ClientOutput>) {
        let Some(outstanding) = &mut self.outstanding else { return };
        outstanding.retransmissions = outstanding.retransmissions.saturating_add(1);
        outstanding.busy.clear();
        outstanding.stage = Stage::Gathering;
        if outstanding.retransmissions == 1 {
            if let Phase::Ordered(ballot) = &outstanding.phase {
                let silent = ballot.silent(self.respondents.asked(), self.respondents.firmly());
                self.respondents.blame(&silent);
                self.respondents.beware();
            }
            self.sign();
        }
        self.send_to_all(out);
    }

    /// From now on the outstanding request is signed, and asks all replicas to answer.
    fn sign(&mut self) {
        let Some(Outstanding { number, kind, operation, .. }) = &self.outstanding else { return };
        let (number, kind, operation) = (*number, *kind, operation.clone());
        let signed = self.request_frame((number, kind, &operation), Answers::All, RequestAuthKind::Signed);
        if let Some(outstanding) = &mut self.outstanding {
            (outstanding.frame, outstanding.has_macs, outstanding.went_to) = (signed, false, None);
        }
    }

    /// Has the query ordered after all. That it was not answered may be the fault of one of those that
    /// would be asked to answer, so all are.
    fn fall_back(&mut self, out: &mut Vec<ClientOutput>) {
        if let Some(Outstanding { number, kind, operation, .. }) = self.outstanding.take() {
            self.start_ordered((number, kind, operation), Answers::All, out);
        }
    }

    fn on_frame(&mut self, now: Instant, from: ReplicaId, bytes: &[u8], out: &mut Vec<ClientOutput>) {
        let Ok((frame, message)) = decode_reply_frame(bytes, &self.config.limits) else {
            let reason = "a frame is malformed or too long";
            return out.push(ClientOutput::Refused { from, reason });
        };
        let message = match message {
            // It stands for itself.
            ClientMessage::Succession(links) => return self.follow(&links, out),
            message => message,
        };
        if let ClientMessage::NewKey(new_key) = message {
            return self.on_new_key(now, from, new_key, out);
        }
        let sender = Principal::Replica(from);
        let keyring = &mut self.config.keyring;
        let under = keyring.check_mac(sender, &frame.mac, Domain::Reply, &frame.body).key();
        let Some(under) = under.filter(|_| frame.replica == from) else {
            let reason = "a frame's authentication does not hold";
            return out.push(ClientOutput::Refused { from, reason });
        };
        self.note_key(from, under);
        let counts_executors = self.config.reads == ReadPolicy::Fast;
        if counts_executors && !self.config.executes(from) && message.is_result() {
            // Else it stands in for one that executes, and its word is worth what others say too.
            return;
        }
        match message {
            ClientMessage::Reply { view, number, execution, outcome } => {
                self.views.insert(from, view);
                let given = Given::Whole(outcome);
                self.on_reply(number, |ballot| ballot.say(from, (view, execution), given), out);
            }
            ClientMessage::ReplyDigest { view, number, execution, outcome } => {
                self.views.insert(from, view);
                let given = Given::Digest(outcome);
                self.on_reply(number, |ballot| ballot.say(from, (view, execution), given), out);
            }
            ClientMessage::Speculated { number, speculation, proof, given } => {
                self.views.insert(from, speculation.view);
                self.catch_up_with(speculation.view, number, out);
                let said = (speculation, proof);
                self.on_reply(number, |ballot| ballot.speculate(from, said, given), out);
                self.consider_certificate(from, number, out);
            }
            ClientMessage::Certified { number, speculation } => {
                self.on_reply(number, |ballot| ballot.keep(from, speculation), out);
            }
            ClientMessage::QueryReply { number, answer } => self.on_answer(from, number, answer, out),
            ClientMessage::Busy { number } => self.on_busy(from, number, out),
            ClientMessage::Superseded { number, last } => self.on_superseded(from, number, last, out),
            ClientMessage::Succession(_) => {}
            ClientMessage::MustSign { number } => self.on_must_sign(from, number, out),
            ClientMessage::Late => self.lateness.hear(now, from, self.config.quorums),
            ClientMessage::Emission { channel, payload } => {
                let oldest = self.emitted_under.entry(from).or_insert(under);
                *oldest = under.min(*oldest);
                out.push(ClientOutput::Emission { from, channel, payload });
            }
            // Taken care of before: it needs no MAC.
            ClientMessage::NewKey(_) => {}
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
        let (quorums, witnesses) = (self.config.quorums, self.config.witnesses.len());
        let enough = quorums.read(witnesses);
        let Some(Outstanding { phase: Phase::Query(tally), .. }) = self.outstanding_as(number) else {
            return;
        };
        let same = tally.vote(from, answer.clone());
        let still_to_come = quorums.n() - witnesses - tally.voters();
        match answer {
            QueryAnswer::Result(result) if same >= enough => {
                self.outstanding = None;
                out.push(ClientOutput::CancelTimer);
                out.push(ClientOutput::Completed { number, result, was_ordered: false });
            }
            QueryAnswer::MustOrder if same >= quorums.one_correct() => self.fall_back(out),
            _ if tally.largest() + still_to_come < enough => self.fall_back(out),
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

    /// Signs, and goes on to for a while. A replica may say so without a reason; it gains nothing but that
    /// the client, and whoever checks, has more to do.
    fn on_must_sign(&mut self, to: ReplicaId, number: RequestNumber, out: &mut Vec<ClientOutput>) {
        let has_macs = self.to_sign == 0 && self.auth() == RequestAuthKind::Macs;
        let Some(Outstanding { kind, operation, retransmissions: 0, phase: Phase::Ordered(_), .. }) =
            self.outstanding_as(number).filter(|_| has_macs)
        else {
            return;
        };
        let (kind, operation) = (*kind, operation.clone());
        self.to_sign = SIGNED_IN_A_ROW;
        let frame = self.request_frame((number, kind, &operation), Answers::All, RequestAuthKind::Signed);
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.frame = frame.clone();
            outstanding.has_macs = false;
        }
        out.push(ClientOutput::Send { to, frame });
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
        let Some(Outstanding { kind, operation, .. }) = self.outstanding.take() else { return };
        if self.numbering.is_established() {
            out.push(ClientOutput::CancelTimer);
            out.push(ClientOutput::Superseded { number });
        } else {
            let to = self.numbering.take();
            out.push(ClientOutput::Renumbered { from: number, to });
            self.start_ordered((to, kind, operation), Answers::All, out);
        }
    }

    fn outstanding_as(&mut self, number: RequestNumber) -> Option<&mut Outstanding> {
        self.outstanding.as_mut().filter(|outstanding| outstanding.number == number)
    }
}

/// The frame of a request as it is shown to somebody who is not to order it.
fn as_witness(frame: &[u8]) -> Option<Arc<[u8]>> {
    match decode(frame, frame.len()) {
        Ok(ClientFrame::Request(request)) => Some(frame_bytes(&ClientFrame::Witness(request))),
        Ok(_) | Err(_) => None,
    }
}
