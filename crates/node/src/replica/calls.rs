//! What a replica is asked and told over its control socket.

use std::time::Duration;

use althing_replica::Injected;
use althing_types::{Principal, Seq};
use althing_wide::Treachery;

use super::flood::Flooding;
use super::runtime::{NodeProtocol, Runtime};
use crate::config::ServiceConfig;
use crate::control::{
    ControlCall, Fault, Flood, ReplicaCounters, ReplicaReport, Request, Response, Role, Status,
};

impl<P: NodeProtocol> Runtime<P> {
    pub(super) fn on_call(&mut self, call: ControlCall) {
        let response = match call.request {
            Request::Status => Response::Status(Box::new(Status::Replica(self.report()))),
            Request::Inject { fault } => self.inject(fault),
            Request::InjectLink { .. } => {
                refused("a replica has no links between sites; ask the process `links`")
            }
            Request::Corrupt => self.corrupt(),
            Request::Shutdown => {
                self.end_as_told();
                Response::Done
            }
        };
        // Whoever asked may have gone.
        let _ = call.answer.send(response);
    }

    /// A bit of the state goes bad in memory. The next recovery heals it, or the next checkpoint, where that
    /// shows it.
    fn corrupt(&mut self) -> Response {
        if !self.file.allows_injection() {
            return refused("this deployment does not allow faults to be injected");
        }
        if !self.replica.corrupt(self.clock.now().0) {
            return refused("the service holds no state that could go bad without its noticing");
        }
        tracing::warn!("told to corrupt its state in memory");
        Response::Done
    }

    fn inject(&mut self, fault: Fault) -> Response {
        if !self.file.allows_injection() {
            return refused("this deployment does not allow faults to be injected");
        }
        if fault.is_of_sites() && self.site.is_none() {
            return refused("only a site's server can fail towards other sites; this replica is of no site");
        }
        if let (Fault::Betray { .. }, Some(site)) = (fault, &self.site)
            && site.tolerates_no_lies()
        {
            return refused(
                "the sites run paxos among themselves, which tolerates no lies: the others would believe this one; \
                 run the system with `wide: { protocol: pbft }` to see a site lie",
            );
        }
        let (tamper, delay, flood) = match fault {
            // Carried out beside the replica.
            Fault::SilentForwarder
            | Fault::SlowForwarder { .. }
            | Fault::DeafPeer
            | Fault::WrongShares
            | Fault::Betray { .. } => (None, 0, None),
            Fault::None => (None, 0, None),
            Fault::Mute => (Some(Injected::Mute), 0, None),
            Fault::Lie => (Some(Injected::Lie), 0, None),
            Fault::Equivocate => (Some(Injected::Equivocate), 0, None),
            Fault::Delay { ms } => (None, ms, None),
            Fault::Flood { with } => match self.flooding(with) {
                Ok(flood) => (None, 0, Some(flood)),
                Err(error) => return Response::Refused { reason: error.to_string() },
            },
        };
        tracing::warn!(?fault, "told to be faulty");
        self.replica.set_tamper(tamper.map(|tamper| Box::new(tamper) as _));
        self.outgoing.set_delay(Duration::from_millis(delay));
        self.outgoing.set_flood(flood);
        self.fault = fault;
        self.take_over(match fault {
            Fault::Betray { seed } => Some(betrayal(seed)),
            _ => None,
        });
        Response::Done
    }

    fn flooding(&self, kind: Flood) -> Result<Flooding, getrandom::Error> {
        let me = self.members.me();
        let own = self.members.route(Principal::Replica(me));
        let others = self.members.present().into_iter().filter(|slot| Some(*slot) != own).collect();
        Flooding::new(kind, &self.file, (self.members.epoch(), me), (self.network.clone(), others))
    }

    fn report(&mut self) -> ReplicaReport {
        let now = self.clock.now();
        let (status, group) = (self.replica.status(), self.file.group());
        let (me, quorums) = (self.members.me(), self.members.quorums());
        let primary = quorums.primary(status.view);
        let is_voting = self.replica.protocol().is_voting();
        let client = match self.file.service() {
            ServiceConfig::Component(component) => component.table.clients.first().copied(),
            _ => None,
        };
        ReplicaReport {
            name: self.file.name().to_owned(),
            pid: std::process::id(),
            group: group.name().to_owned(),
            replica: me.0,
            epoch: self.members.epoch().0,
            settings: self.replica.settings().as_ref().map(|settings| Box::new(settings.into())),
            engine: (&self.replica.engine_settings()).into(),
            n: quorums.n(),
            f: quorums.f(),
            role: match (is_voting, primary == me) {
                _ if self.replica.is_retired() => Role::Retired,
                _ if !self.replica.takes_part() => Role::Joining,
                (false, _) => Role::Learner,
                _ if self.replica.is_witness() => Role::Witness,
                (true, true) => Role::Primary,
                (true, false) => Role::Backup,
            },
            view: status.view.0,
            is_in_view: status.is_in_view,
            primary: primary.0,
            executed: status.executed.0,
            stable: status.stable.0,
            is_voting,
            is_transferring: status.is_transferring,
            clients: status.clients,
            outstanding: status.outstanding,
            connected: self.connected(),
            fault: self.fault,
            recovery: self.recovery.report,
            vulnerable_ms: self.vulnerable_ms(now),
            evidence: self.evidence.iter().cloned().collect(),
            counters: Box::new(self.counters()),
            service: self.replica.service().inspect(client),
            site: self.site_report().map(Box::new),
        }
    }

    fn connected(&self) -> Vec<String> {
        let replicas = self.members.quorums().replicas().map(Principal::Replica);
        let clients = self.file.group().clients().keys().copied().map(Principal::Client);
        let is_connected =
            |who: &Principal| self.members.route(*who).is_some_and(|who| self.network.is_connected(who));
        replicas.chain(clients).filter(is_connected).map(|who| who.to_string()).collect()
    }

    fn counters(&self) -> ReplicaCounters {
        let stats = self.network.stats();
        let mut total = stats.departed;
        stats.peers.iter().for_each(|(_, peer)| total += *peer);
        ReplicaCounters {
            sent_frames: total.sent_frames,
            sent_bytes: total.sent_bytes,
            received_frames: total.received_frames,
            received_bytes: total.received_bytes,
            dropped_frames: total.dropped_frames + stats.unroutable_frames,
            refused_connections: stats.refused,
            ..self.counters.clone()
        }
    }
}

/// A site that contradicts itself as often as not, and now and then keeps silent.
fn betrayal(seed: u64) -> Treachery {
    Treachery { from: Seq(0), seed, contradicts: 500, keeps_silent: 100, is_deaf_to: None }
}

fn refused(reason: &str) -> Response {
    Response::Refused { reason: reason.to_owned() }
}
