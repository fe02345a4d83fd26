//! What a server checks ahead, before its site executes it.

use super::parcels::Server;
use super::presumed::{not_said, said};
use super::register::Register;
use super::system::{SYSTEM, lane_client};
use super::vouching::{ME, OTHER};
use super::{ORIGIN, pbft, setting};
use althing_crypto::site::{SiteKeys, SitePublic, SiteSignature, SiteStatement, SiteVerifier};
use althing_replica::{Pages, Service};
use althing_types::{Quorums, ReplicaId, SiteId, encode};
use althing_wide::{Lane, LinkMessage, LogicalMachine, MachineConfig, Outpost, SiteEvent, SiteOperation};
use std::sync::{Arc, Mutex};

/// Takes note of what it could find out ahead.
#[derive(Debug)]
struct Noting {
    sites: Vec<SitePublic>,
    foreseen: Mutex<usize>,
}

impl SiteVerifier for Noting {
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        self.sites.verify(site, statement, signature)
    }

    fn can_foresee(&self) -> bool {
        true
    }

    fn foresee(&self, _: SiteId, _: SiteStatement, _: SiteSignature) {
        *self.foreseen.lock().expect("nobody panics") += 1;
    }
}

/// A server that hears what a peer of its site wants to have ordered, and then executes something.
struct Hearing {
    server: Server,
    verifier: Arc<Noting>,
    seq: u64,
}

impl Hearing {
    fn new() -> Self {
        let setting = setting(Quorums::byzantine(4, 1).expect("valid"), ORIGIN);
        let sites = setting.sites().map(|site| *super::system::Setting::deal(site).shares.public()).collect();
        let verifier = Arc::new(Noting { sites, foreseen: Mutex::default() });
        let keys = SiteKeys::with_verifier(SYSTEM, Arc::clone(&verifier) as Arc<dyn SiteVerifier>);
        let config = MachineConfig { keys, ..setting.machine_config(ME) };
        let protocol = pbft(ReplicaId(ME.0), config.sites);
        let machine = LogicalMachine::new(config, protocol, Register::default());
        let server = Server { machine, outpost: Outpost::new(setting.outpost_config(ME)) };
        Self { server, verifier, seq: 0 }
    }

    /// How many signatures it begins to check when it hears of this.
    fn begun(&mut self, messages: &[LinkMessage]) -> usize {
        let before = *self.verifier.foreseen.lock().expect("nobody panics");
        self.server.machine.foresee(&encode(&operation(messages)), lane_client(Lane::From(OTHER)));
        *self.verifier.foreseen.lock().expect("nobody panics") - before
    }

    fn execute(&mut self, messages: &[LinkMessage]) {
        self.seq += 1;
        self.server.execute(self.seq, lane_client(Lane::From(OTHER)), &operation(messages));
    }
}

fn operation(messages: &[LinkMessage]) -> SiteOperation {
    SiteOperation::Events(messages.iter().cloned().map(SiteEvent::Incoming).collect())
}

#[test]
fn what_follows_each_other_is_checked_ahead_once() {
    let mut server = Hearing::new();
    assert_eq!(server.begun(&[said(1), said(2), said(3)]), 3);
    assert_eq!(server.begun(&[said(1), said(2), said(3)]), 0, "it is heard of again");
    assert_eq!(server.begun(&[said(1), said(2)]), 0, "a lane has one operation at a time");
    server.execute(&[said(1), said(2), said(3)]);
    assert_eq!(server.begun(&[said(4)]), 1);
    server.execute(&[said(4)]);
    let many: Vec<LinkMessage> = (5..40).map(said).collect();
    assert_eq!(server.begun(&many), 16, "and no more than so many");
}

#[test]
fn what_nobody_may_look_at_later_is_not_checked_ahead() {
    let mut server = Hearing::new();
    let mut passing_over = said(5);
    passing_over.header.base = 3;
    let mut acknowledging = said(1000);
    acknowledging.header.acknowledged = 1;
    for message in [passing_over, acknowledging] {
        assert_eq!(server.begun(&[said(1), message]), 1);
        server = Hearing::new();
    }
}

#[test]
fn who_has_something_checked_in_vain_has_nothing_checked_for_long() {
    let something_else = [said(1), said(2)];
    let cases: [(&[LinkMessage], &[LinkMessage]); 2] =
        [(&[not_said(1)], &[not_said(1)]), (&[said(1)], &something_else)];
    for (heard, executed) in cases {
        let mut server = Hearing::new();
        assert_eq!(server.begun(heard), 1);
        server.execute(executed);
        assert_eq!(server.begun(&[said(3)]), 0);
        server.seq += 1024;
        server.execute(&[]);
        assert_eq!(server.begun(&[said(3)]), usize::from(executed.len() == 2), "what comes next is");
    }
}

#[test]
fn who_is_brought_to_another_state_has_not_heard_of_what_follows() {
    let (mut server, mut other) = (Hearing::new(), Hearing::new());
    assert_eq!(server.begun(&[said(1)]), 1);
    other.execute(&[said(1)]);
    let mut pages = Pages::default();
    other.server.machine.save(&mut pages);
    let changed: Vec<u32> = pages.iter().map(|(page, _)| page).collect();
    server.server.machine.install(&pages, &changed).expect("it is a state");
    assert_eq!(server.begun(&[said(2)]), 1);
}
