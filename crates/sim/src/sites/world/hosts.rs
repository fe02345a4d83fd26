//! The machines of the servers: their disks, and how they go down and start again.

use super::{Happening, World};
use crate::dice::nanos;
use crate::disk::End;
use crate::oracle::{Verdict, Violation};
use crate::sites::server::Blueprint;
use althing_replica::{Input, Output};
use althing_types::{ReplicaId, Seq, SiteId};
use althing_wide::ServerInput;

/// How much longer it takes to write a state than a record.
const KEEPING_SLOWNESS: u32 = 5;

impl World<'_> {
    /// Starts a server from what is on its disk.
    pub(super) fn boot(&mut self, site: SiteId, me: ReplicaId) -> Verdict {
        let place = (site, me);
        let World { config, plan, materials, residents, hosts, .. } = self;
        let host = hosts.get_mut(&place).expect("it is there");
        if host.server.is_some() {
            return Ok(());
        }
        let server = Blueprint { config, plan, materials, residents }.server(place, host.incarnation);
        let startup = host.boot(server).map_err(|error| {
            Violation::new("durability", format!("the disk of {me} of {site} is refused: {error}"))
        })?;
        self.shown.insert(place, Seq(0));
        self.ledger.restarted(Self::number(place));
        self.input(site, me, ServerInput::Replica(Input::Start(startup)))
    }

    /// By which number the ledger knows a server.
    pub(super) fn number((site, me): (SiteId, ReplicaId)) -> usize {
        usize::from(site.0) * 100 + usize::from(me.0)
    }

    pub(super) fn crash(&mut self, site: SiteId, me: ReplicaId, how: End) {
        self.hosts.get_mut(&(site, me)).expect("it is there").crash(how);
        self.timers.retain(|(at, server, _), _| (*at, *server) != (site, me));
    }

    /// What a replica wants of its disk.
    pub(super) fn disk_output(&mut self, site: SiteId, me: ReplicaId, output: Output) {
        let host = self.hosts.get_mut(&(site, me)).expect("it is there");
        let incarnation = host.incarnation;
        match output {
            Output::Append { id, record } => host.disk.append(id, record),
            Output::Rewrite { records, dropped } => host.disk.rewrite(records, dropped),
            Output::Keep { seq, segments } => {
                host.disk.keep(seq, segments);
                let delay = nanos(self.dice.around(self.plan.disk_delay * KEEPING_SLOWNESS));
                self.schedule(self.now + delay, Happening::Kept(site, me, incarnation));
            }
            _ => {}
        }
    }

    /// Has a disk write what waits for it.
    pub(super) fn write(&mut self, site: SiteId, me: ReplicaId) {
        let host = self.hosts.get_mut(&(site, me)).expect("it is there");
        if host.disk.start() {
            let incarnation = host.incarnation;
            let delay = nanos(self.dice.around(self.plan.disk_delay));
            self.schedule(self.now + delay, Happening::Written(site, me, incarnation));
        }
    }

    pub(super) fn written(&mut self, site: SiteId, me: ReplicaId, incarnation: u32) -> Verdict {
        let host = self.hosts.get_mut(&(site, me)).expect("it is there");
        if host.incarnation != incarnation {
            return Ok(());
        }
        let last = host.written().map_err(|error| Violation::new("durability", error.to_string()))?;
        if let Some(id) = last {
            self.input(site, me, ServerInput::Replica(Input::Persisted(id)))?;
        }
        self.write(site, me);
        Ok(())
    }

    pub(super) fn kept(&mut self, site: SiteId, me: ReplicaId, incarnation: u32) -> Verdict {
        let host = self.hosts.get_mut(&(site, me)).expect("it is there");
        if host.incarnation != incarnation {
            return Ok(());
        }
        let seq =
            host.disk.finish_keeping().map_err(|error| Violation::new("durability", error.to_string()))?;
        match seq {
            Some(seq) => self.input(site, me, ServerInput::Replica(Input::Kept(seq))),
            None => Ok(()),
        }
    }
}
