//! What is believed before it is checked, and who deceives.

use super::parcels::{Messages, Server, alone, header};
use super::register::Register;
use super::system::{SERVER, SYSTEM, Setting, lane_client, resident, update};
use super::vouching::{ME, OTHER};
use super::{ORIGIN, pbft, setting};
use althing_crypto::KeySeed;
use althing_crypto::site::{SiteDeal, SiteKeys};
use althing_types::{Quorums, ReplicaId, SiteId, decode, encode};
use althing_wide::{
    Kind, Lane, LinkMessage, LogicalMachine, MachineConfig, Outpost, OutpostInput, OutpostOutput,
    OutpostTimer, Parcel, SiteEvent, SiteOperation,
};
use std::sync::Arc;

const ANOTHER: ReplicaId = ReplicaId(1);
const LINK: u8 = 0;

/// A server that is told by servers of the other site, and how often it checks what comes before it puts it in order.
struct Receiver {
    server: Server,
    keys: SiteKeys,
    ms: u64,
    seq: u64,
    /// What it has put in order, and has not been executed.
    submitted: Option<Vec<u8>>,
}

impl Receiver {
    fn new() -> Self {
        let setting = setting(Quorums::byzantine(4, 1).expect("valid"), ORIGIN);
        let (of_machine, config) = (setting.machine_config(ME), setting.outpost_config(ME));
        let keys = config.keys.clone();
        let of_machine = MachineConfig { keys: keys.clone(), ..of_machine };
        let protocol = pbft(ReplicaId(ME.0), of_machine.sites);
        let machine = LogicalMachine::new(of_machine, protocol, Register::default());
        let server = Server { machine, outpost: Outpost::new(config) };
        Self { server, keys, ms: 1, seq: 1, submitted: None }
    }

    fn tell(&mut self, input: OutpostInput) {
        for output in self.server.outputs(self.ms, self.seq, input) {
            if let OutpostOutput::Submit { lane: Lane::From(OTHER), operation } = output {
                assert!(self.submitted.replace(operation).is_none(), "one at a time");
            }
        }
    }

    /// How often it has checked something when this has come.
    fn checks(&mut self, server: ReplicaId, message: &LinkMessage) -> u64 {
        let bytes = [vec![LINK], encode(&Parcel::from(message.clone()))].concat();
        self.tell(OutpostInput::FromSite { site: OTHER, server, bytes });
        self.keys.checked()
    }

    /// Its site executes what was put in order: up to which number it has then received.
    fn received(&mut self) -> u64 {
        let operation = self.submitted.take().expect("something was put in order");
        let operation: SiteOperation = decode(&operation, 1 << 20).expect("it is an operation");
        self.seq += 1;
        self.server.execute(self.seq, lane_client(Lane::From(OTHER)), &operation);
        self.tell(OutpostInput::Observe);
        self.tell(OutpostInput::Completed(Lane::From(OTHER)));
        let heard = self.server.machine.link_standings().find(|link| link.site == OTHER);
        heard.map_or(0, |link| link.received)
    }
}

/// A message of the other site, with a signature of its own; and the same changed.
pub(crate) fn said(number: u64) -> LinkMessage {
    let messages: Messages = vec![(header(number, 0, Kind::Protocol), vec![5; 20])];
    alone(&messages, 0)
}

pub(crate) fn not_said(number: u64) -> LinkMessage {
    let mut message = said(number);
    message.body[3] ^= 1;
    message
}

#[test]
fn who_is_believed_and_deceives_is_heard_but_not_believed_again_for_long() {
    let mut receiver = Receiver::new();
    assert_eq!(receiver.checks(SERVER, &said(1)), 1, "who is new is not believed");
    assert_eq!(receiver.received(), 1);
    assert_eq!(receiver.checks(SERVER, &said(2)), 1, "who has told the truth is");
    assert_eq!((receiver.received(), receiver.keys.checked()), (2, 2), "until it is executed");
    assert_eq!(receiver.checks(SERVER, &not_said(3)), 2);
    assert_eq!(receiver.checks(SERVER, &said(4)), 2, "it waits behind that");
    assert_eq!(receiver.received(), 2, "the machine does not take what was not said");
    assert_eq!((receiver.keys.checked(), receiver.submitted.is_none()), (4, true), "so it is looked at");
    assert_eq!(receiver.checks(SERVER, &said(3)), 5, "what is right is heard at once, and checked");
    assert_eq!(receiver.received(), 3);
    assert_eq!(receiver.checks(SERVER, &not_said(4)), 6);
    assert!(receiver.submitted.is_none(), "the second time nothing is executed");
    assert_eq!(receiver.checks(SERVER, &not_said(4)), 6, "it is known to be wrong");
    assert_eq!(receiver.checks(SERVER, &not_said(5)), 7);
    assert_eq!(receiver.checks(SERVER, &said(4)), 7, "and now it is not listened to");
    // No other server of its site is believed either.
    assert_eq!(receiver.checks(ANOTHER, &not_said(4)), 8);
    receiver.ms += 1023 * 100;
    assert_eq!(receiver.checks(ANOTHER, &said(4)), 9);
    assert_eq!(receiver.received(), 4);
    assert_eq!(receiver.checks(ANOTHER, &not_said(5)), 10);
    assert!(receiver.submitted.is_none());
    receiver.ms += 1024 * 100;
    receiver.checks(ANOTHER, &said(5));
    assert_eq!(receiver.received(), 5);
    assert_eq!(receiver.checks(ANOTHER, &not_said(6)), 11, "after a long while it is");
    assert!(receiver.submitted.is_some());
}

#[test]
fn who_deceives_is_found_out_even_if_what_is_right_comes_first_in_order() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    assert_eq!(receiver.received(), 1);
    receiver.checks(SERVER, &not_said(2));
    assert!(receiver.submitted.is_some(), "it was believed");
    // Another server has brought forward what is right meanwhile.
    let right = SiteOperation::Events(vec![SiteEvent::Incoming(said(2))]);
    receiver.seq += 1;
    receiver.server.execute(receiver.seq, lane_client(Lane::From(OTHER)), &right);
    assert_eq!(receiver.received(), 2);
    let checked = receiver.keys.checked();
    assert_eq!(receiver.checks(SERVER, &said(3)), checked + 1, "nobody of its site is believed now");
}

#[test]
fn what_has_come_before_a_deception_is_kept() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    receiver.checks(SERVER, &said(2));
    receiver.checks(SERVER, &not_said(3));
    receiver.checks(SERVER, &said(3));
    assert_eq!(receiver.received(), 1, "it was under way all the time");
    assert_eq!(receiver.received(), 3);
}

#[test]
fn what_was_not_checked_keeps_nothing_genuine_out() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    assert_eq!(receiver.checks(SERVER, &not_said(2)), 1);
    assert_eq!(receiver.checks(SERVER, &said(3)), 1);
    assert_eq!(receiver.checks(ANOTHER, &said(2)), 3, "it is looked at, and what it replaces");
    assert_eq!(receiver.received(), 1);
    assert_eq!(receiver.received(), 2, "what has come from the other server was put in order");
    assert!(receiver.submitted.is_none(), "nothing else is kept of who deceived");
}

#[test]
fn what_is_genuine_behind_what_is_not_is_put_in_order_again() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    receiver.checks(SERVER, &not_said(2));
    receiver.checks(ANOTHER, &said(3));
    assert_eq!(receiver.received(), 1);
    assert_eq!(receiver.received(), 1, "what was not said ends the operation");
    assert!(receiver.submitted.is_none());
    receiver.checks(ANOTHER, &said(2));
    assert_eq!(receiver.received(), 3, "with what comes before it, once that has come");
}

#[test]
fn what_passes_something_over_or_only_acknowledges_is_checked_first() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    assert_eq!(receiver.received(), 1);
    assert_eq!(receiver.checks(SERVER, &not_said(3)), 2, "not the next");
    let mut others: Vec<LinkMessage> = vec![said(2), said(2)];
    (others[0].header.base, others[1].header.number) = (3, 0);
    for other in others {
        let mut receiver = Receiver::new();
        receiver.checks(SERVER, &said(1));
        assert_eq!(receiver.received(), 1);
        assert_eq!(receiver.checks(SERVER, &other), 2);
        assert!(receiver.submitted.is_none());
    }
}

#[test]
fn what_is_repeated_is_looked_at_once_in_a_tick() {
    let mut receiver = Receiver::new();
    receiver.checks(SERVER, &said(1));
    assert_eq!(receiver.received(), 1);
    let old = |kind: u8| {
        let mut old = not_said(1);
        old.body[4] ^= kind;
        old
    };
    assert_eq!(receiver.checks(ANOTHER, &old(1)), 2, "the next forwarder may repeat something");
    assert_eq!(receiver.checks(ANOTHER, &old(2)), 2, "and is not looked at again");
    assert_eq!(receiver.checks(SERVER, &old(3)), 3, "each for itself");
    receiver.ms += 100;
    assert_eq!(receiver.checks(ANOTHER, &old(4)), 4);
}

/// The servers of a site of four that sign together, each with what it gives to the others when the site says something:
/// who carries that to the other site, and what it is given.
struct Together {
    servers: Vec<Server>,
    keys: SiteKeys,
    seq: u64,
}

impl Together {
    fn new() -> Self {
        let sites = Quorums::byzantine(4, 1).expect("valid");
        let deal = SiteDeal::threshold(sites, &KeySeed::from([8; 32]));
        let setting = setting(sites, ORIGIN);
        let public =
            |site| if site == ME { *deal.shares.public() } else { *Setting::deal(site).shares.public() };
        let keys = || SiteKeys::new(SYSTEM, setting.sites().map(public).collect());
        let server = |(id, secret): (ReplicaId, &_)| {
            let (mut of_machine, mut config) = (setting.machine_config(ME), setting.outpost_config(ME));
            of_machine.links.groups[usize::from(ME.0)] = sites;
            (of_machine.keys, config.keys) = (keys(), keys());
            config.links = of_machine.links.clone();
            config.server = id;
            config.signer = Arc::new((Clone::clone(secret), deal.shares.clone()));
            let machine = LogicalMachine::new(of_machine, pbft(ReplicaId(ME.0), sites), Register::default());
            Server { machine, outpost: Outpost::new(config) }
        };
        let servers = sites.replicas().zip(&deal.secrets).map(server).collect();
        Self { servers, keys: keys(), seq: 0 }
    }

    /// The site says something: the shares that are given to whoever carries it to the other site, by who gives them, and
    /// who that is.
    fn say(&mut self) -> (ReplicaId, Vec<(ReplicaId, Vec<u8>)>) {
        self.seq += 1;
        let client = resident(ME, 0);
        let operation = SiteOperation::Update(update(client, self.seq, &[7; 300]));
        let mut given = Vec::new();
        for (id, server) in (0..).map(ReplicaId).zip(&mut self.servers) {
            server.execute(self.seq, client, &operation);
            for output in server.outputs(self.seq, self.seq, OutpostInput::Observe) {
                if let OutpostOutput::ToServer { to, bytes } = output {
                    given.push((to, id, bytes.to_vec()));
                }
            }
        }
        let links = self.servers[0].machine.link_standings();
        let forwarder = links.filter(|link| link.site == OTHER).map(|link| link.link.forwarder).next();
        let forwarder = forwarder.expect("there is a link");
        let shares = given.into_iter().filter(|(to, ..)| *to == forwarder);
        (forwarder, shares.map(|(_, from, bytes)| (from, bytes)).collect())
    }

    fn outputs(&mut self, server: ReplicaId, input: OutpostInput) -> Vec<OutpostOutput> {
        self.servers[usize::from(server.0)].outputs(self.seq, self.seq, input)
    }

    /// Whether each parcel that is sent to the other site is signed.
    fn sent(&self, outputs: &[OutpostOutput]) -> Vec<bool> {
        let sent = outputs.iter().filter_map(|output| match output {
            OutpostOutput::ToSite { site: SiteId(1), bytes, .. } => Some(bytes),
            _ => None,
        });
        sent.map(|bytes| {
            let parcel: Parcel = decode(&bytes[1..], bytes.len()).expect("it is a parcel");
            parcel.open(&self.keys).is_some()
        })
        .collect()
    }
}

/// A share as its sender lies: with the point of another's.
fn wrong(share: &[u8], of_another: &[u8]) -> Vec<u8> {
    // One byte for what it is, eight for the batch, and one for the kind come before it.
    const POINT_AT: usize = 1 + 8 + 1;
    [&share[..POINT_AT], &of_another[POINT_AT..]].concat()
}

fn is_checked_later(outputs: &[OutpostOutput]) -> bool {
    outputs.iter().any(|it| matches!(it, OutpostOutput::SetTimer { timer: OutpostTimer::Check, .. }))
}

fn accused(outputs: &[OutpostOutput]) -> Vec<ReplicaId> {
    let accused = outputs.iter().filter_map(|output| match output {
        OutpostOutput::WrongShare(server) => Some(*server),
        _ => None,
    });
    accused.collect()
}

#[test]
fn what_was_made_of_a_wrong_share_is_sent_once_and_then_what_is_right() {
    // Another share comes before the check, or after it.
    for comes_before in [true, false] {
        let mut site = Together::new();
        let (forwarder, shares) = site.say();
        let (honest, right) = shares[1].clone();
        let (liar, lie) = (shares[0].0, wrong(&shares[0].1, &right));
        let share = |from, bytes: &[u8]| OutpostInput::FromServer { from, bytes: bytes.to_vec() };
        let check = || OutpostInput::Timer(OutpostTimer::Check);
        let outputs = site.outputs(forwarder, share(liar, &lie));
        assert!(is_checked_later(&outputs) && accused(&outputs).is_empty());
        assert_eq!(site.sent(&outputs), [false], "it is sent as it is");
        let (first, second) =
            if comes_before { (share(honest, &right), check()) } else { (check(), share(honest, &right)) };
        let first = site.outputs(forwarder, first);
        assert_eq!(site.sent(&first), [], "there is nothing to send yet");
        let second = site.outputs(forwarder, second);
        assert_eq!(site.sent(&second), [true], "then it is sent again");
        assert_eq!([accused(&first), accused(&second)].concat(), [liar]);
        // It does not happen to this server again.
        let (forwarder, shares) = site.say();
        for (from, right) in &shares {
            let bytes = if *from == liar { wrong(right, &shares[1].1) } else { right.clone() };
            let outputs = site.outputs(forwarder, share(*from, &bytes));
            assert!(!is_checked_later(&outputs));
            assert!(site.sent(&outputs).into_iter().all(|is_good| is_good));
        }
    }
}

#[test]
fn whoever_sends_a_right_share_after_a_wrong_one_has_still_lied() {
    let mut site = Together::new();
    let (forwarder, shares) = site.say();
    let (liar, right) = shares[0].clone();
    let wrong = wrong(&right, &shares[1].1);
    for bytes in [wrong, right] {
        site.outputs(forwarder, OutpostInput::FromServer { from: liar, bytes });
    }
    let outputs = site.outputs(forwarder, OutpostInput::Timer(OutpostTimer::Check));
    assert_eq!((accused(&outputs), site.sent(&outputs)), (vec![liar], vec![]));
}

#[test]
fn only_one_batch_is_sent_unchecked() {
    let mut site = Together::new();
    let (forwarder, first) = site.say();
    let (_, second) = site.say();
    let from_liar = |shares: &[(ReplicaId, Vec<u8>)]| OutpostInput::FromServer {
        from: shares[0].0,
        bytes: wrong(&shares[0].1, &shares[1].1),
    };
    let mut sent = Vec::new();
    for input in [from_liar(&first), from_liar(&second)] {
        let outputs = site.outputs(forwarder, input);
        sent.extend(site.sent(&outputs));
    }
    assert_eq!(sent, [false], "it is one at a time");
}

#[test]
fn where_nobody_lies_what_is_made_is_sent_at_once_and_only_once() {
    let mut site = Together::new();
    let (forwarder, shares) = site.say();
    let (from, bytes) = shares[0].clone();
    let outputs = site.outputs(forwarder, OutpostInput::FromServer { from, bytes });
    assert_eq!((site.sent(&outputs), is_checked_later(&outputs)), (vec![true], true));
    let outputs = site.outputs(forwarder, OutpostInput::Timer(OutpostTimer::Check));
    assert_eq!((site.sent(&outputs), accused(&outputs)), (vec![], vec![]));
}
