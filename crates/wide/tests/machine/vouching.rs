//! What a site may say of its clients without their signatures.

use super::register::Register;
use super::system::{SYSTEM, Setting, lane_client, resident};
use super::{ORIGIN, VOUCHED, pbft, setting};
use althing_crypto::site::SiteBatch;
use althing_crypto::{Domain, hash};
use althing_protocol::{Bundle, Misbehaviour, Request, RequestKind};
use althing_replica::{Context, Service};
use althing_types::{ClientId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId, encode};
use althing_wide::{
    Dissemination, Header, Kind, Lane, LinkMessage, LogicalMachine, SiteEvent, SiteOperation,
};

pub(crate) const ME: SiteId = SiteId(0);
pub(crate) const OTHER: SiteId = SiteId(1);

/// The first bundle of the other site, with an unsigned update of each of these clients.
pub(crate) fn bundle(clients: &[ClientId]) -> LinkMessage {
    let slot = ClientId(1 << 63 | u64::from(OTHER.0) << 16);
    let updates = clients.iter().map(|client| (*client, RequestNumber(1), b"update".to_vec()));
    let operation = encode(&Bundle::Vouched(updates.collect()));
    let request =
        Request { kind: RequestKind::Bundle, ..Request::vouched(slot, RequestNumber(1), operation) };
    let body = encode(&request);
    let header = Header { from: OTHER, to: ME, number: 1, base: 1, acknowledged: 0, kind: Kind::Bundle };
    let statement = header.statement(hash("althing link body", &body));
    let batch = SiteBatch::new(SYSTEM, OTHER, &[(Domain::Link, &statement[..])]);
    let deal = Setting::deal(OTHER);
    let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
    let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one server is enough");
    LinkMessage { header, proof: batch.proof(0, signature), body }
}

/// What a site accuses another of that sends it this.
fn accusations(dissemination: Dissemination, clients: &[ClientId]) -> Vec<Misbehaviour> {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    let config = setting(sites, dissemination).machine_config(ME);
    let mut machine = LogicalMachine::new(config, pbft(ReplicaId(ME.0), sites), Register::default());
    let context = Context {
        client: lane_client(Lane::From(OTHER)),
        number: RequestNumber(1),
        seq: Seq(1),
        time: Instant(1_000_000_000),
        seed: [0; 32],
    };
    let operation = SiteOperation::Events(vec![SiteEvent::Incoming(bundle(clients))]);
    machine.execute(&encode(&operation), &context);
    machine.evidence().iter().map(|evidence| evidence.misbehaviour.clone()).collect()
}

#[test]
fn a_site_may_answer_for_its_own_clients_and_for_no_others() {
    let (own, foreign) = (resident(OTHER, 0), resident(ME, 0));
    assert_eq!(accusations(VOUCHED, &[own]), []);
    assert_eq!(accusations(VOUCHED, &[own, foreign]), [Misbehaviour::Forgery]);
    assert_eq!(accusations(VOUCHED, &[ClientId(99_999)]), [Misbehaviour::Forgery], "nobody is that");
}

#[test]
fn where_sites_do_not_answer_for_their_clients_each_update_is_signed() {
    assert_eq!(accusations(ORIGIN, &[resident(OTHER, 0)]), [Misbehaviour::Forgery]);
}
