use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use althing_replica::Input;
use althing_types::{ClientId, Principal, ReplicaId};
use althing_wide::{Lane, ServerTimer, StationInput, StationOutput, Treachery, contradiction};
use bytes::Bytes;
use tokio::time::Instant;

use super::super::runtime::{BATCH, LONGEST_BATCH, NodeProtocol, Runtime};
use super::super::service::NodeService;
use super::part::{Line, SiteArrival};
use crate::control::{Accused, EvidenceReport, Fault, SiteReport};
use crate::net::NetEvent;

impl<P: NodeProtocol> Runtime<P> {
    /// Starts what stands beside the replica, where it is a site's.
    pub(in crate::replica) fn start_site(&mut self) {
        self.attend(StationInput::Start);
    }

    /// Whether a client of the group is this server itself, which then takes the frame.
    pub(in crate::replica) fn answers_lane(&mut self, client: ClientId, frame: &Arc<[u8]>) -> bool {
        let Some(site) = &mut self.site else { return false };
        let Some(lane) = site.station.lane_of(client) else { return false };
        site.answers.push((lane, Arc::clone(frame)));
        true
    }

    /// Shows what the replica has done to what stands beside it. Whether that led to something for the replica.
    pub(in crate::replica) fn observe(&mut self) -> bool {
        let Some(site) = &mut self.site else { return false };
        let me = site.me;
        for (lane, frame) in mem::take(&mut site.answers) {
            self.attend(StationInput::ForLane { lane, from: me, bytes: frame.to_vec() });
        }
        self.attend(StationInput::Observe);
        self.note_accused_sites();
        !self.outputs.is_empty()
    }

    /// Takes what has come, and as much of what waits behind it as there is time for. Whether more is waiting.
    pub(in crate::replica) fn on_site_arrival(&mut self, first: SiteArrival) -> bool {
        let begun = Clock::now();
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(arrival) = next.take().or_else(|| self.next_site_arrival()) else { return false };
            let before = Clock::now();
            let is_outposts = matches!(arrival, SiteArrival::Outpost(_));
            self.on_one_arrival(arrival);
            let Some(site) = &mut self.site else { return false };
            let Line { events, .. } = if is_outposts { &mut site.outposts } else { &mut site.lanes };
            events.charge(before.elapsed());
            if begun.elapsed() >= LONGEST_BATCH {
                break;
            }
        }
        true
    }

    fn next_site_arrival(&mut self) -> Option<SiteArrival> {
        let site = self.site.as_mut()?;
        let outposts = site.outposts.events.try_recv().map(SiteArrival::Outpost);
        outposts.or_else(|| site.lanes.events.try_recv().map(SiteArrival::Lane))
    }

    fn on_one_arrival(&mut self, arrival: SiteArrival) {
        let Some(site) = &self.site else { return };
        let input = match arrival {
            SiteArrival::Outpost(NetEvent::Frame { from: Principal::Replica(slot), bytes, .. }) => {
                let Some((from, server)) = site.slots.get(usize::from(slot.0)).copied() else { return };
                let bytes = bytes.into();
                if from != site.config.site && self.fault == Fault::DeafPeer {
                    return;
                }
                match from == site.config.site {
                    true => StationInput::FromServer { from: server, bytes },
                    false => StationInput::FromSite { site: from, server, bytes },
                }
            }
            SiteArrival::Lane(NetEvent::Frame { from: Principal::Replica(from), session, bytes }) => {
                // A replica may name any session.
                let Some(lane) = site.sessions.get(&session).copied() else { return };
                StationInput::ForLane { lane, from, bytes: bytes.into() }
            }
            SiteArrival::Lane(NetEvent::Disconnected(Principal::Replica(replica))) => {
                StationInput::Unreachable(replica)
            }
            SiteArrival::Outpost(_) | SiteArrival::Lane(_) => return,
        };
        self.attend(input);
    }

    pub(in crate::replica) fn expire_site(&mut self, now: Instant) {
        if let Some(site) = &mut self.site {
            while let Some((to, bytes)) = site.late.due(now) {
                let _ = site.outposts.network.send(to, bytes);
            }
        }
        while let Some(timer) = self.site.as_mut().and_then(|site| site.timers.expired(now)) {
            match timer {
                ServerTimer::Outpost(timer) => self.attend(StationInput::OutpostTimer(timer)),
                ServerTimer::Lane(lane) => self.attend(StationInput::LaneTimer(lane)),
                ServerTimer::Replica(_) => unreachable!("a station sets none of the replica's timers"),
            }
        }
    }

    /// Has the server say in its site that somebody has taken it over, or has no more.
    pub(in crate::replica) fn take_over(&mut self, treachery: Option<Treachery>) {
        self.attend(StationInput::TakeOver(treachery));
    }

    /// Has the station take an input, and does what it wants.
    fn attend(&mut self, input: StationInput) {
        let at = (self.clock.now(), self.replica.executed());
        let Some(site) = &mut self.site else { return };
        let NodeService::Site(machine) = self.replica.service() else { return };
        // What may be taken back must not be spoken of.
        assert!(!self.replica.is_tentative(), "a site's group executes nothing tentatively");
        let mut outputs = mem::take(&mut site.outputs);
        machine.attend(&mut site.station, at, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out_for_site(output);
        }
        if let Some(site) = &mut self.site {
            site.outputs = outputs;
        }
    }

    fn carry_out_for_site(&mut self, output: StationOutput) {
        let fault = self.fault;
        let Some(site) = &mut self.site else { return };
        match output {
            StationOutput::ToReplica { from, bytes } => {
                self.handle(Input::Frame { from: Principal::Client(from), bytes });
            }
            StationOutput::SetTimer { timer, after } => site.timers.set(timer, after),
            StationOutput::CancelTimer(timer) => site.timers.cancel(timer),
            StationOutput::WrongShare(server) => self.on_wrong_share(server),
            // What is dropped is sent again by whoever needs it.
            _ if fault == Fault::Mute => {}
            StationOutput::FromLane { lane, to, frame } => {
                let frame = Bytes::from_owner(frame);
                let _ = site.lanes.network.send_in(session_of(lane), Principal::Replica(to), frame);
            }
            StationOutput::ToServer { to, bytes } => {
                let bytes = if matches!(fault, Fault::Lie | Fault::WrongShares) {
                    Bytes::from(contradiction(&bytes))
                } else {
                    Bytes::from_owner(bytes)
                };
                let to = site.slot((site.config.site, to));
                let _ = to.map(|to| site.outposts.network.send(to, bytes));
            }
            StationOutput::ToSite { .. } if fault == Fault::SilentForwarder => {}
            StationOutput::ToSite { site: other, server, bytes } => {
                let Some(to) = site.slot((other, server)) else { return };
                let bytes = Bytes::from_owner(bytes);
                match fault {
                    Fault::SlowForwarder { ms } => site.late.push(to, bytes, Duration::from_millis(ms)),
                    _ => drop(site.outposts.network.send(to, bytes)),
                }
            }
        }
    }

    fn on_wrong_share(&mut self, server: ReplicaId) {
        if let Some(site) = &mut self.site {
            site.wrong_shares += 1;
        }
        let report = EvidenceReport {
            accused: server.0,
            of: Accused::Replica,
            misbehaviour: "sent a wrong share of the site's signature".to_owned(),
            is_transferable: false,
            seen_ns: self.clock.now().0,
        };
        self.note_evidence(report);
    }

    /// Passes on what sites were caught at.
    fn note_accused_sites(&mut self) {
        let (Some(site), NodeService::Site(machine)) = (&mut self.site, self.replica.service()) else {
            return;
        };
        let evidence = machine.evidence();
        if evidence.len() == site.accused {
            return;
        }
        let new = evidence[site.accused..].to_vec();
        site.accused = evidence.len();
        for evidence in new {
            let report = EvidenceReport {
                accused: evidence.accused.0,
                of: Accused::Site,
                misbehaviour: evidence.misbehaviour.to_string(),
                is_transferable: evidence.is_transferable(),
                seen_ns: self.clock.now().0,
            };
            self.note_evidence(report);
        }
    }

    /// Where the site stands, if the replica is one's.
    pub(in crate::replica) fn site_report(&self) -> Option<SiteReport> {
        let (Some(site), NodeService::Site(machine)) = (&self.site, self.replica.service()) else {
            return None;
        };
        let stats = site.outposts.network.stats();
        let mut total = stats.departed;
        stats.peers.iter().for_each(|(_, peer)| total += *peer);
        let is_connected = |slot: &usize| {
            let slot = u16::try_from(*slot).map(ReplicaId);
            slot.is_ok_and(|slot| site.outposts.network.is_connected(Principal::Replica(slot)))
        };
        Some(SiteReport {
            servers: site.slots.len(),
            connected: (0..site.slots.len()).filter(is_connected).count(),
            wrong_shares: site.wrong_shares,
            sent_frames: total.sent_frames,
            sent_bytes: total.sent_bytes,
            received_frames: total.received_frames,
            received_bytes: total.received_bytes,
            ..machine.report(&site.config)
        })
    }
}

/// The session of the server's client that a lane is.
fn session_of(lane: Lane) -> u16 {
    match lane {
        Lane::Control => 0,
        Lane::From(site) => site.0 + 1,
    }
}
