//! How often a server checks what sites have signed.

use super::register::Register;
use super::system::{SERVER, Setting, lane_client, resident, update};
use super::vouching::{ME, OTHER};
use super::{ORIGIN, pbft, setting};
use althing_crypto::site::SiteKeys;
use althing_protocol::pbft::Pbft;
use althing_replica::{Context, Service};
use althing_types::{ClientId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId, encode};
use althing_wide::{
    Lane, LogicalMachine, MachineConfig, Outpost, OutpostConfig, OutpostInput, OutpostOutput, SiteOperation,
};

/// The only server of a site.
struct Server {
    machine: LogicalMachine<Pbft, Register>,
    outpost: Outpost,
    keys: SiteKeys,
    seq: u64,
}

impl Server {
    fn new(setting: &Setting, site: SiteId) -> Self {
        let keys = setting.keys();
        let config = MachineConfig { keys: keys.clone(), ..setting.machine_config(site) };
        let machine =
            LogicalMachine::new(config, pbft(ReplicaId(site.0), setting.sites), Register::default());
        let config = OutpostConfig { keys: keys.clone(), ..setting.outpost_config(site) };
        let mut server = Self { machine, outpost: Outpost::new(config), keys, seq: 0 };
        server.tell(OutpostInput::Start);
        server
    }

    fn tell(&mut self, input: OutpostInput) -> Vec<OutpostOutput> {
        let mut outputs = Vec::new();
        let now = Instant(1_000_000_000 + self.seq);
        self.outpost.handle(now, input, (&self.machine, Seq(self.seq)), &mut outputs);
        outputs
    }

    /// Executes an operation, and what the site then says to itself, until it says no more; gives back what it sends to
    /// a site, and how many operations that were.
    fn execute(&mut self, client: ClientId, operation: &[u8], to: SiteId) -> (Vec<Vec<u8>>, usize) {
        let (mut sent, mut ordered) = (Vec::new(), vec![(client, None, operation.to_vec())]);
        let mut executed = 0;
        while let Some((client, lane, operation)) = ordered.pop() {
            executed += 1;
            self.seq += 1;
            let context = Context {
                client,
                number: RequestNumber(self.seq),
                seq: Seq(self.seq),
                time: Instant(1_000_000_000 + self.seq),
                seed: [0; 32],
            };
            self.machine.execute(&operation, &context);
            let mut outputs = self.tell(OutpostInput::Observe);
            outputs.extend(lane.into_iter().flat_map(|lane| self.tell(OutpostInput::Completed(lane))));
            for output in outputs {
                match output {
                    OutpostOutput::ToSite { site, bytes, .. } if site == to => sent.push(bytes.to_vec()),
                    OutpostOutput::Submit { lane, operation } => {
                        ordered.push((lane_client(lane), Some(lane), operation));
                    }
                    _ => {}
                }
            }
        }
        (sent, executed)
    }
}

#[test]
fn a_server_checks_what_comes_once_and_what_it_has_combined_never() {
    let setting = setting(Quorums::byzantine(4, 1).expect("valid"), ORIGIN);
    let (mut sender, mut receiver) = (Server::new(&setting, OTHER), Server::new(&setting, ME));
    let client = resident(OTHER, 0);
    let operation = encode(&SiteOperation::Update(update(client, 1, b"update")));
    let (sent, executed) = sender.execute(client, &operation, ME);
    assert_eq!((executed, sender.keys.checked()), (2, 0), "it believes the bundle that it says to itself");
    assert!(!sent.is_empty());
    for bytes in sent {
        let before = receiver.keys.checked();
        let outputs = receiver.tell(OutpostInput::FromSite { site: OTHER, server: SERVER, bytes });
        assert_eq!(receiver.keys.checked(), before + 1, "its outpost checks it");
        for output in outputs {
            if let OutpostOutput::Submit { lane: lane @ Lane::From(_), operation } = output {
                receiver.execute(lane_client(lane), &operation, OTHER);
                receiver.tell(OutpostInput::Completed(lane));
            }
        }
        assert_eq!(receiver.keys.checked(), before + 1, "and its machine believes that");
    }
    let heard = receiver.machine.link_standings().find(|link| link.site == OTHER);
    assert!(heard.is_some_and(|link| link.received > 0), "what was sent was executed");
}
