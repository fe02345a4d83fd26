//! Bundles leave while the links have room.

use super::register::Register;
use super::system::{SYSTEM, Setting, lane_client, resident, update};
use super::vouching::ME;
use super::{pbft, setting};
use althing_crypto::site::SiteBatch;
use althing_crypto::{Domain, hash};
use althing_protocol::pbft::Pbft;
use althing_replica::{Context, Service};
use althing_types::{ClientId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId};
use althing_wide::{
    Dissemination, Header, Kind, Lane, LinkMessage, LogicalMachine, SiteEvent, SiteOperation,
};

struct Sender {
    machine: LogicalMachine<Pbft, Register>,
    seq: u64,
}

impl Sender {
    fn execute(&mut self, client: ClientId, operation: &SiteOperation) {
        self.seq += 1;
        let context = Context {
            client,
            number: RequestNumber(self.seq),
            seq: Seq(self.seq),
            time: Instant(1_000_000_000 + self.seq),
            seed: [0; 32],
        };
        self.machine.execute(&althing_types::encode(operation), &context);
    }

    fn update(&mut self, index: u64) {
        let client = resident(ME, index);
        self.execute(client, &SiteOperation::Update(update(client, 1, b"update")));
    }

    /// A site says that it has received up to this number.
    fn acknowledge(&mut self, site: u16, acknowledged: u64) {
        let from = SiteId(site);
        let header = Header { from, to: ME, number: 0, base: 1, acknowledged, kind: Kind::Acknowledgement };
        let statement = header.statement(hash("althing link body", &[]));
        let batch = SiteBatch::new(SYSTEM, from, &[(Domain::Link, &statement[..])]);
        let deal = Setting::deal(from);
        let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
        let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one is enough");
        let message = LinkMessage { header, proof: batch.proof(0, signature), body: Vec::new() };
        let events = SiteOperation::Events(vec![SiteEvent::Incoming(message)]);
        self.execute(lane_client(Lane::From(from)), &events);
    }

    /// How many messages wait for each other site.
    fn waiting(&self) -> Vec<usize> {
        self.machine.link_standings().map(|link| link.unacknowledged).collect()
    }
}

#[test]
fn a_bundle_waits_until_as_many_links_as_it_takes_to_decide_have_room() {
    let sites = Quorums::byzantine(4, 1).expect("valid");
    // One bundle is longer than that.
    let dissemination =
        Dissemination::Origin { slots: 9, most_bytes: 2000, window_bytes: 10, is_vouching: false };
    let config = setting(sites, dissemination).machine_config(ME);
    let machine = LogicalMachine::new(config, pbft(ReplicaId(ME.0), sites), Register::default());
    let mut sender = Sender { machine, seq: 0 };
    sender.update(0);
    assert_eq!(sender.waiting(), [1, 1, 1], "nothing is in its way");
    sender.update(1);
    assert_eq!(sender.waiting(), [1, 1, 1]);
    sender.acknowledge(3, 1);
    assert_eq!(sender.waiting(), [1, 1, 0], "two others have to decide with this one");
    sender.acknowledge(1, 1);
    assert_eq!(sender.waiting(), [1, 2, 1], "a site that is away holds nobody up");
}
