//! A protocol that can be any of those that have successors: what a group runs whose settings say what it runs.
//!
//! An instance is of one protocol all its life, and its [successor](Protocol::successor) is of the one that the
//! next settings are of. Nothing is translated: what the others are told is that protocol's own message, and what
//! lies on disk are its own records, of which the epoch says whose they are.

mod message;

pub use message::AnyMessage;

use crate::legacy::Legacy;
use crate::paxos::{Paxos, PaxosConfig};
use crate::pbft::{Pbft, PbftConfig};
use crate::zyzzyva::{Zyzzyva, ZyzzyvaConfig};
use crate::{Action, Actions, ConfigError, Event, Evidence, Misbehaviour, Protocol, Settings, SignedPart};
use alloc::boxed::Box;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq, View};

/// One replica of a group that runs what its settings say.
#[derive(Debug)]
pub enum AnyProtocol {
    /// Practical Byzantine Fault Tolerance.
    Pbft(Box<Pbft>),
    /// Paxos.
    Paxos(Box<Paxos>),
    /// Zyzzyva.
    Zyzzyva(Box<Zyzzyva>),
}

/// Does the same with whichever it is.
macro_rules! with {
    ($any:expr, $protocol:ident => $does:expr) => {
        match $any {
            AnyProtocol::Pbft($protocol) => $does,
            AnyProtocol::Paxos($protocol) => $does,
            AnyProtocol::Zyzzyva($protocol) => $does,
        }
    };
}

impl AnyProtocol {
    /// A replica that has not started yet.
    ///
    /// # Errors
    /// The rule that the settings break.
    pub fn new(me: ReplicaId, quorums: Quorums, settings: &Settings) -> Result<Self, ConfigError> {
        Ok(match settings.clone() {
            Settings::Pbft(settings) => Pbft::new(PbftConfig::new(me, quorums, settings)?).into(),
            Settings::Paxos(settings) => Paxos::new(PaxosConfig::new(me, quorums, settings)?).into(),
            Settings::Zyzzyva(settings) => Zyzzyva::new(ZyzzyvaConfig::new(me, quorums, settings)?).into(),
        })
    }

    /// The instance of the protocol that these settings are of, with a legacy.
    fn heir(
        legacy: Legacy,
        (me, quorums): (ReplicaId, Quorums),
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Result<Self, ConfigError> {
        Ok(match settings.clone() {
            Settings::Pbft(settings) => {
                Pbft::heir(legacy, PbftConfig::new(me, quorums, settings)?, start).into()
            }
            Settings::Paxos(settings) => {
                Paxos::heir(legacy, PaxosConfig::new(me, quorums, settings)?, start).into()
            }
            Settings::Zyzzyva(settings) => {
                Zyzzyva::heir(legacy, ZyzzyvaConfig::new(me, quorums, settings)?, start).into()
            }
        })
    }

    /// The view that the replica is in or moving to.
    #[must_use]
    pub fn view(&self) -> View {
        with!(self, protocol => protocol.view())
    }

    /// Whether that view has started here.
    #[must_use]
    pub fn is_in_view(&self) -> bool {
        with!(self, protocol => protocol.is_in_view())
    }

    /// Whether the replica votes. One that lost its disk does not until it is safe again.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        with!(self, protocol => protocol.is_voting())
    }

    /// Whether nothing that it may have said and does not know of can matter.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Pbft(pbft) => pbft.is_settled(),
            Self::Paxos(paxos) => paxos.is_voting(),
            Self::Zyzzyva(zyzzyva) => zyzzyva.is_voting(),
        }
    }

    /// Whether no replica was heard lately that has lost its disk, and none has said last that it is far behind.
    #[must_use]
    pub fn knows_no_straggler(&self, now: Instant) -> bool {
        match self {
            Self::Pbft(pbft) => pbft.knows_no_straggler(now),
            Self::Paxos(paxos) => paxos.knows_no_straggler(now),
            // Nobody is to recover meanwhile: who does would not vote any more.
            Self::Zyzzyva(_) => false,
        }
    }

    /// How much is held in memory, in elements: for the simulator's memory oracle.
    #[must_use]
    pub fn footprint(&self) -> usize {
        with!(self, protocol => protocol.footprint())
    }
}

impl From<Pbft> for AnyProtocol {
    fn from(pbft: Pbft) -> Self {
        Self::Pbft(Box::new(pbft))
    }
}

impl From<Paxos> for AnyProtocol {
    fn from(paxos: Paxos) -> Self {
        Self::Paxos(Box::new(paxos))
    }
}

impl From<Zyzzyva> for AnyProtocol {
    fn from(zyzzyva: Zyzzyva) -> Self {
        Self::Zyzzyva(Box::new(zyzzyva))
    }
}

impl Protocol for AnyProtocol {
    type Message = AnyMessage;

    fn handle(&mut self, now: Instant, event: Event<AnyMessage>, actions: &mut Actions<AnyMessage>) {
        with!(self, protocol => handle(protocol.as_mut(), now, event, actions));
    }

    fn answers_from(&self) -> Option<Seq> {
        with!(self, protocol => protocol.answers_from())
    }

    fn is_witness(&self) -> bool {
        with!(self, protocol => Protocol::is_witness(protocol.as_ref()))
    }

    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self> {
        let legacy = with!(self, protocol => protocol.legacy(quorums));
        Self::heir(legacy, (me, quorums), settings, start).ok()
    }

    fn settings(&self) -> Option<Settings> {
        with!(self, protocol => protocol.settings())
    }

    fn has_forgotten(&self) -> bool {
        with!(self, protocol => protocol.has_forgotten())
    }

    fn statements(&self, stable: Option<(Seq, Digest)>, records: &[Vec<u8>]) -> Option<Vec<SignedPart>> {
        with!(self, protocol => protocol.statements(stable, records))
    }

    fn knows_all(&self, records: &[Vec<u8>], has_forgotten: bool) -> bool {
        with!(self, protocol => protocol.knows_all(records, has_forgotten))
    }
}

/// Hands the event on, if it is the protocol's own. What is said in an epoch is said by who runs what that epoch
/// runs: whoever says something of another protocol there is faulty.
fn handle<P: Protocol>(
    protocol: &mut P,
    now: Instant,
    event: Event<AnyMessage>,
    actions: &mut Actions<AnyMessage>,
) where
    P::Message: TryFrom<AnyMessage> + Into<AnyMessage>,
{
    let event = match event.with_message(|message| P::Message::try_from(message).ok()) {
        Ok(event) => event,
        Err(accused) => {
            let (misbehaviour, statements) = (Misbehaviour::InvalidMessage, Vec::new());
            return actions.push(Action::Evidence(Evidence { accused, misbehaviour, statements }));
        }
    };
    let mut own = Vec::new();
    protocol.handle(now, event, &mut own);
    actions.extend(own.into_iter().map(|action| action.with_message(P::Message::into)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{PaxosMessage, PaxosSettings};
    use crate::pbft::{PbftMessage, PbftSettings};
    use crate::zyzzyva::{ZyzzyvaMessage, ZyzzyvaSettings};
    use crate::{PersistId, Request, RequestAuth, Start};
    use althing_crypto::Proof;
    use althing_types::{ClientId, Epoch, RequestNumber};

    const FOUR: [ReplicaId; 4] = [ReplicaId(0), ReplicaId(1), ReplicaId(2), ReplicaId(3)];

    fn pbft() -> Settings {
        Settings::Pbft(PbftSettings::default())
    }

    fn paxos() -> Settings {
        Settings::Paxos(PaxosSettings::default())
    }

    fn zyzzyva() -> Settings {
        Settings::Zyzzyva(ZyzzyvaSettings::default())
    }

    fn request(client: u64) -> Request {
        Request {
            client: ClientId(client),
            number: RequestNumber(1),
            kind: Default::default(),
            operation: Vec::new(),
            epoch: Epoch(0),
            answers: Default::default(),
            auth: RequestAuth::Signed(Proof(Vec::new())),
            is_authentic: true,
        }
    }

    fn started(me: u16, settings: &Settings) -> AnyProtocol {
        let quorums = settings.quorums(4, 1).expect("four are enough");
        let mut any = AnyProtocol::new(ReplicaId(me), quorums, settings).expect("good settings");
        any.handle(Instant(1), Event::Start(Start::Genesis), &mut Vec::new());
        any
    }

    /// What is said and written on the way.
    fn told(any: &mut AnyProtocol, event: Event<AnyMessage>) -> Actions<AnyMessage> {
        let mut actions = Vec::new();
        any.handle(Instant(1), event, &mut actions);
        actions
    }

    fn says(from: u16, message: AnyMessage) -> Event<AnyMessage> {
        Event::Message { from: ReplicaId(from), message, proof: None, key: 0 }
    }

    #[test]
    fn each_successor_is_of_the_protocol_that_the_settings_name() {
        let mut any = started(1, &pbft());
        for (settings, seq) in
            [(paxos(), 128), (paxos(), 130), (zyzzyva(), 200), (pbft(), 256), (pbft(), 300), (zyzzyva(), 301)]
        {
            let quorums = settings.quorums(4, 1).expect("four are enough");
            let start = Some((Seq(seq), Digest([7; 32])));
            any = any.successor(FOUR[1], quorums, &settings, start).expect("it has successors");
            assert_eq!(any.settings(), Some(settings));
            let handover = Start::Handover { executed: Seq(seq), has_state: true };
            told(&mut any, Event::Start(handover));
            assert!(any.is_voting() && any.answers_from().is_some());
        }
        let crash = paxos().quorums(4, 1).expect("four are enough");
        assert!(any.successor(FOUR[1], crash, &pbft(), None).is_none(), "quorums of another fault model");
    }

    #[test]
    fn what_is_of_another_protocol_is_said_by_nobody_who_is_correct() {
        let message = |settings: &Settings| -> AnyMessage {
            match settings {
                Settings::Pbft(_) => PbftMessage::Forward(request(1)).into(),
                Settings::Paxos(_) => PaxosMessage::Forward(request(1)).into(),
                Settings::Zyzzyva(_) => ZyzzyvaMessage::Forward(request(1)).into(),
            }
        };
        for (own, other) in [
            (pbft(), paxos()),
            (paxos(), pbft()),
            (pbft(), zyzzyva()),
            (zyzzyva(), paxos()),
            (zyzzyva(), pbft()),
        ] {
            let mut any = started(0, &own);
            let actions = told(&mut any, says(2, message(&other)));
            let [Action::Evidence(evidence)] = &actions[..] else { panic!("{actions:?}") };
            assert_eq!((evidence.accused, evidence.is_transferable()), (FOUR[2], false));
            let actions = told(&mut any, says(2, message(&own)));
            let has_proposed = actions.iter().any(|action| matches!(action, Action::Persist { .. }));
            assert!(has_proposed, "the leader takes a request that is passed on: {actions:?}");
        }
    }

    /// A backup of Paxos takes the leader's word for a request, and nobody's word is taken in PBFT.
    #[test]
    fn what_waits_at_the_word_of_others_is_not_taken_over_where_they_may_lie() {
        let forwarded = |any: &mut AnyProtocol| {
            let handover = Event::Start(Start::Handover { executed: Seq(0), has_state: false });
            let actions = told(any, handover);
            let is_forward = |action: &Action<AnyMessage>| match action {
                Action::Send { message, .. } => crate::Message::kind(message) == "forward",
                _ => false,
            };
            actions.iter().filter(|action| is_forward(action)).count()
        };
        for (from, to, expected) in [
            (pbft(), paxos(), 1),
            (paxos(), paxos(), 1),
            (paxos(), pbft(), 0),
            (pbft(), zyzzyva(), 1),
            (zyzzyva(), pbft(), 1),
            (paxos(), zyzzyva(), 0),
        ] {
            let mut any = started(1, &from);
            told(&mut any, Event::Request(request(1)));
            let quorums = to.quorums(4, 1).expect("four are enough");
            let mut next = any.successor(FOUR[1], quorums, &to, None).expect("it has successors");
            assert_eq!(forwarded(&mut next), expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn records_are_numbered_on_whatever_follows() {
        let first = |any: &mut AnyProtocol, event| {
            told(any, event).into_iter().find_map(|action| match action {
                Action::Persist { id, .. } => Some(id),
                _ => None,
            })
        };
        let mut any = started(0, &paxos());
        assert_eq!(first(&mut any, Event::Request(request(1))), Some(PersistId(1)));
        let quorums = pbft().quorums(4, 1).expect("four are enough");
        let mut next = any.successor(FOUR[0], quorums, &pbft(), None).expect("it has successors");
        told(&mut next, Event::Start(Start::Handover { executed: Seq(0), has_state: false }));
        assert_eq!(first(&mut next, Event::Request(request(2))), Some(PersistId(2)));
    }
}
