use crate::adversary::{Adversary, Behaviour, Means};
use crate::disk::AnyStorage;
use crate::keys::{self, GroupKeys};
use crate::medium::Medium;
use crate::plan::Plan;
use crate::sites::paxos_settings;
use crate::witness::Witness;
use althing_protocol::paxos::{Paxos, PaxosConfig, PaxosMessage};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftMessage, PbftSettings};
use althing_protocol::zyzzyva::{Composition, Zyzzyva, ZyzzyvaConfig, ZyzzyvaMessage, ZyzzyvaSettings};
use althing_protocol::{AnyMessage, AnyProtocol, Protocol, Settings};
use althing_replica::membership::Membership;
use althing_replica::{Client, ClientConfig, LimitSettings, Limits, Replica, ReplicaConfig, Service, Tamper};
use althing_services::Kv;
use althing_types::{ClientId, Principal, Quorums, ReplicaId};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is put to the test: the production code, or a variant with a bug planted in it.
pub(crate) trait Subject {
    /// The protocol, or a wrapper around it.
    type Protocol: Protocol;
    /// The service, or a wrapper around it.
    type Service: Service;

    /// The protocol of replica `me`. Where it is not PBFT, it goes by what it shares of these settings.
    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> Self::Protocol;

    /// As [`Self::protocol`], of a group that has agreed on its settings.
    fn agreed_protocol(&self, me: ReplicaId, quorums: Quorums, agreed: &Settings) -> Self::Protocol {
        match agreed {
            Settings::Pbft(settings) => self.protocol(me, quorums, self.settings(settings.clone())),
            Settings::Paxos(_) | Settings::Zyzzyva(_) => {
                unreachable!("the operator leaves this subject its protocol")
            }
        }
    }

    /// Whether its group may change to another protocol.
    fn switches(&self) -> bool {
        false
    }

    /// What changes what a replica says that does these things. `None` where nobody lies.
    fn adversary(behaviours: BTreeSet<Behaviour>, means: Means) -> Option<AnyTamper<Message<Self>>> {
        let _ = (behaviours, means);
        None
    }

    /// Whose request a message passes on.
    fn forwarded(message: &Message<Self>) -> Option<ClientId>;

    /// The service of replica `me`, in its initial state.
    fn service(&self, me: ReplicaId) -> Self::Service;

    /// A correct client.
    fn client(&self, config: ClientConfig) -> Client {
        Client::new(config)
    }

    /// Whether replicas that are to recover do.
    fn recovers(&self) -> bool {
        true
    }

    /// Whether a replica that recovers doubts what is on its disk.
    fn doubts(&self) -> bool {
        true
    }

    /// Whether one that recovers and is cut off recovers still.
    fn remembers_recoveries(&self) -> bool {
        true
    }

    /// Whether one that recovers does so in a new process.
    fn starts_afresh(&self) -> bool {
        true
    }

    /// Whether replicas take new keys where the plan says so.
    fn renews_keys(&self) -> bool {
        true
    }

    /// The bounds that replicas and clients go by.
    fn limits(&self) -> Limits {
        limits()
    }

    /// The quorums that replicas go by.
    fn quorums(&self, quorums: Quorums) -> Quorums {
        quorums
    }

    /// The settings that replicas go by.
    fn settings(&self, settings: PbftSettings) -> PbftSettings {
        settings
    }

    /// A correct replica has come to be in another epoch.
    fn on_epoch(&self, replica: &mut Tested<Self>, plan: &Plan)
    where
        Self: Sized,
    {
        let _ = (replica, plan);
    }

    /// Whether the runtime of a replica that has left forgets what that said last.
    fn forgets_leavers(&self) -> bool {
        true
    }

    /// A host's disk, as the code that writes the log sees it.
    fn storage(&self, medium: Medium) -> AnyStorage {
        Box::new(medium)
    }

    /// What a protocol says of itself.
    fn probe(protocol: &Self::Protocol) -> Probe;
}

/// What a protocol says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// How many elements it holds.
    pub(crate) footprint: usize,
    /// Whether it takes part in votes.
    pub(crate) is_voting: bool,
    /// Whether it never will, in this instance: it has forgotten what it said.
    pub(crate) is_mute: bool,
    /// Whether nothing that it may have said and does not know of can matter any more.
    pub(crate) is_settled: bool,
}

/// The production code as it is.
pub(crate) struct Genuine;

impl Subject for Genuine {
    type Protocol = Pbft;
    type Service = Kv;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> Pbft {
        Pbft::new(PbftConfig::new(me, quorums, settings).expect("valid settings"))
    }

    fn adversary(behaviours: BTreeSet<Behaviour>, means: Means) -> Option<AnyTamper<PbftMessage>> {
        Some(Box::new(Adversary::new(behaviours, means)))
    }

    fn forwarded(message: &PbftMessage) -> Option<ClientId> {
        match message {
            PbftMessage::Forward(request) => Some(request.client),
            _ => None,
        }
    }

    fn service(&self, _me: ReplicaId) -> Kv {
        Kv::new()
    }

    fn probe(protocol: &Pbft) -> Probe {
        Probe {
            footprint: protocol.footprint(),
            is_voting: protocol.is_voting(),
            is_mute: false,
            is_settled: protocol.is_settled(),
        }
    }
}

/// The same of a group that runs what its settings say, and may come to run something else.
pub(crate) struct GenuineAny;

impl Subject for GenuineAny {
    type Protocol = AnyProtocol;
    type Service = Kv;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> AnyProtocol {
        Genuine.protocol(me, quorums, settings).into()
    }

    fn agreed_protocol(&self, me: ReplicaId, quorums: Quorums, agreed: &Settings) -> AnyProtocol {
        AnyProtocol::new(me, quorums, agreed).expect("valid settings")
    }

    fn switches(&self) -> bool {
        true
    }

    fn adversary(behaviours: BTreeSet<Behaviour>, means: Means) -> Option<AnyTamper<AnyMessage>> {
        Some(Box::new(Adversary::new(behaviours, means)))
    }

    fn forwarded(message: &AnyMessage) -> Option<ClientId> {
        match message {
            AnyMessage::Pbft(message) => Genuine::forwarded(message),
            AnyMessage::Paxos(message) => GenuinePaxos::forwarded(message),
            AnyMessage::Zyzzyva(message) => GenuineZyzzyva::forwarded(message),
        }
    }

    fn service(&self, _me: ReplicaId) -> Kv {
        Kv::new()
    }

    fn probe(protocol: &AnyProtocol) -> Probe {
        Probe {
            footprint: protocol.footprint(),
            is_voting: protocol.is_voting(),
            is_mute: matches!(protocol, AnyProtocol::Zyzzyva(_)) && !protocol.is_voting(),
            is_settled: protocol.is_settled(),
        }
    }
}

/// The same of Paxos.
pub(crate) struct GenuinePaxos;

impl Subject for GenuinePaxos {
    type Protocol = Paxos;
    type Service = Kv;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> Paxos {
        let settings = paxos_settings(&settings);
        Paxos::new(PaxosConfig::new(me, quorums, settings).expect("valid settings"))
    }

    fn forwarded(message: &PaxosMessage) -> Option<ClientId> {
        match message {
            PaxosMessage::Forward(request) => Some(request.client),
            _ => None,
        }
    }

    fn service(&self, _me: ReplicaId) -> Kv {
        Kv::new()
    }

    fn probe(protocol: &Paxos) -> Probe {
        let is_voting = protocol.is_voting();
        Probe { footprint: protocol.footprint(), is_voting, is_mute: false, is_settled: is_voting }
    }
}

/// The same of Zyzzyva.
pub(crate) struct GenuineZyzzyva(pub(crate) Composition);

impl Subject for GenuineZyzzyva {
    type Protocol = Zyzzyva;
    type Service = Kv;

    fn protocol(&self, me: ReplicaId, quorums: Quorums, settings: PbftSettings) -> Zyzzyva {
        let settings = zyzzyva_settings(self.0, &settings);
        Zyzzyva::new(ZyzzyvaConfig::new(me, quorums, settings).expect("valid settings"))
    }

    fn adversary(behaviours: BTreeSet<Behaviour>, means: Means) -> Option<AnyTamper<ZyzzyvaMessage>> {
        Some(Box::new(Adversary::new(behaviours, means)))
    }

    fn forwarded(message: &ZyzzyvaMessage) -> Option<ClientId> {
        match message {
            ZyzzyvaMessage::Forward(request) => Some(request.client),
            _ => None,
        }
    }

    fn service(&self, _me: ReplicaId) -> Kv {
        Kv::new()
    }

    fn probe(protocol: &Zyzzyva) -> Probe {
        let is_voting = protocol.is_voting();
        Probe { footprint: protocol.footprint(), is_voting, is_mute: !is_voting, is_settled: is_voting }
    }
}

/// What these settings say that means the same there. How long batches stay speculative follows from the others.
pub(crate) fn zyzzyva_settings(composition: Composition, settings: &PbftSettings) -> ZyzzyvaSettings {
    ZyzzyvaSettings {
        composition,
        // So few that much of it is seen.
        backup_requests: 8,
        checkpoint_period: settings.checkpoint_period,
        log_size: settings.log_size,
        pipeline: settings.pipeline,
        max_batch_requests: settings.max_batch_requests,
        max_batch_bytes: settings.max_batch_bytes,
        settle_patience: settings.status_period.min(settings.view_timeout / 4),
        view_timeout: settings.view_timeout,
        status_period: settings.status_period,
        max_clock_skew: settings.max_clock_skew,
    }
}

/// What the protocol of a subject has its replicas say to each other.
pub(crate) type Message<X> = <<X as Subject>::Protocol as Protocol>::Message;

/// Something that changes messages on their way out.
pub(crate) type AnyTamper<M> = Box<dyn Tamper<M> + Send>;

/// The replica that is put to the test.
pub(crate) type Tested<X> = Replica<<X as Subject>::Protocol, Witness<<X as Subject>::Service>>;

/// How long replaced keys stay good: longer than messages take on a good day.
pub(crate) const KEY_GRACE: Duration = Duration::from_millis(50);

/// The bounds that simulated groups go by: small, so that they are met.
pub(crate) fn limits() -> Limits {
    let settings = LimitSettings {
        max_operation_bytes: 4096,
        max_requests_per_message: 64,
        transfer_timeout: Duration::from_millis(100),
        key_grace: KEY_GRACE,
        key_repeat: Duration::from_millis(20),
        ..LimitSettings::default()
    };
    Limits::new(settings).expect("valid bounds")
}

/// A new instance of the replica on a machine, not started; `membership` is what it is given to start with.
pub(crate) fn instance<X: Subject>(
    subject: &X,
    plan: &Plan,
    machine: ReplicaId,
    membership: Option<&Membership>,
) -> Tested<X> {
    let (me, quorums, keyring) = match membership {
        None => (machine, plan.quorums, GroupKeys::of_group(plan.quorums.n()).replica(machine).clone()),
        Some(membership) => {
            let place = membership.place_of(&keys::member(machine).key).expect("it has a place");
            let keyring = keys::elastic(Principal::Replica(place), keys::machine(machine));
            (place, membership.quorums(), keyring)
        }
    };
    let quorums = subject.quorums(quorums);
    let config = ReplicaConfig {
        replica: me,
        quorums,
        keyring,
        membership: membership.cloned(),
        limits: subject.limits(),
        engine: plan.engine,
        durability: plan.durability,
    };
    let protocol = match membership.map(|membership| &membership.settings) {
        Some(agreed) => subject.agreed_protocol(me, quorums, agreed),
        None => subject.protocol(me, quorums, subject.settings(plan.settings.clone())),
    };
    Replica::new(config, protocol, Witness::new(subject.service(machine)))
}
