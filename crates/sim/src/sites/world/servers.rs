use super::{Happening, Place, World};
use crate::clock::Clock;
use crate::dice::nanos;
use crate::disk::End;
use crate::oracle::{Verdict, Violation};
use crate::sites::keys::{lane_client, lane_of};
use crate::sites::plan::ServerFault;
use althing_replica::{Input, Output, Report};
use althing_types::{Principal, ReplicaId, SiteId};
use althing_wide::{OutpostTimer, ServerInput, ServerOutput, ServerTimer, link_headers};
use std::time::Duration;

impl World<'_> {
    pub(super) fn input(&mut self, site: SiteId, me: ReplicaId, input: ServerInput) -> Verdict {
        let fault = self.plan.faulty.get(&(site, me)).copied();
        let is_from_site = matches!(input, ServerInput::FromSite { .. });
        let is_from_outside = match &input {
            ServerInput::Replica(input) => matches!(input, Input::Frame { .. }),
            ServerInput::Timer(_) => false,
            ServerInput::ForLane { .. } | ServerInput::FromServer { .. } | ServerInput::FromSite { .. } => {
                true
            }
        };
        let is_cut_off = self.failed.contains(&site) && is_from_outside;
        if is_cut_off
            || fault == Some(ServerFault::Down)
            || (is_from_site && fault == Some(ServerFault::DeafPeer))
        {
            return Ok(());
        }
        if let (Some(fabricator), ServerInput::FromSite { bytes, .. }) =
            (self.fabricators.get_mut(&(site, me)), &input)
        {
            fabricator.overhear(bytes);
        }
        let mut outputs = Vec::new();
        let host = self.hosts.get_mut(&(site, me)).expect("it is there");
        let Some(server) = &mut host.server else { return Ok(()) };
        server.handle(Clock::TRUE.read(self.now), input, &mut outputs);
        for output in outputs {
            self.output(site, me, output)?;
        }
        self.write(site, me);
        self.check(site, me)
    }

    /// Holds a correct server of a correct site to what it has executed.
    pub(super) fn check(&mut self, site: SiteId, me: ReplicaId) -> Verdict {
        let place = (site, me);
        if !self.is_correct(place) {
            return Ok(());
        }
        let host = Self::number(place);
        let Some(server) = &self.hosts[&place].server else { return Ok(()) };
        if let Some(accused) = server.accused().into_iter().find(|site| self.is_correct_site(*site)) {
            let message = format!("{me} of {site} accuses {accused}, which is correct");
            return Err(Violation::new("accusation", message));
        }
        server.check_settings(host)?;
        let seq = server.standing().0;
        let from = self.shown.insert(place, seq).unwrap_or_default();
        if seq > from { server.show(host, from, &mut self.ledger) } else { Ok(()) }
    }

    /// Carries out what a server wants.
    pub(super) fn output(&mut self, site: SiteId, me: ReplicaId, output: ServerOutput) -> Verdict {
        let fault = self.plan.faulty.get(&(site, me)).copied();
        let from = Place::Server(site, me);
        match output {
            ServerOutput::Replica(output) => return self.replica_output(site, me, *output),
            ServerOutput::FromLane { lane, to, frame } => {
                let from_client = Principal::Client(lane_client(me, lane));
                let bytes = frame.to_vec();
                let input = ServerInput::Replica(Input::Frame { from: from_client, bytes });
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            ServerOutput::ToServer { to, bytes } => {
                let mut bytes = bytes.to_vec();
                if fault == Some(ServerFault::WrongShares) && !bytes.is_empty() {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                }
                let input = ServerInput::FromServer { from: me, bytes };
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            ServerOutput::ToSite { site: to, server, bytes } => {
                if let Some(fabricator) = self.fabricators.get_mut(&(site, me)) {
                    fabricator.on_sent(to, &bytes);
                }
                let lag = match fault {
                    Some(ServerFault::SilentForwarder) => return Ok(()),
                    Some(ServerFault::SlowForwarder(lag)) => nanos(lag),
                    _ => 0,
                };
                if self.failed.contains(&site) {
                    return Ok(());
                }
                self.messages += link_headers(&bytes).len().max(1) as u64;
                for at in self.uplinks.arrivals(self.now, site, to, bytes.len()) {
                    let input = ServerInput::FromSite { site, server: me, bytes: bytes.to_vec() };
                    self.schedule(at + lag, Happening::Input(to, server, input));
                }
            }
            ServerOutput::SetTimer { timer, after } => {
                let is_of_site = matches!(timer, ServerTimer::Outpost(OutpostTimer::Machine(_)));
                let is_at_once = is_of_site && fault == Some(ServerFault::Hasty);
                let after = if is_at_once { Duration::ZERO } else { after };
                self.generation += 1;
                self.timers.insert((site, me, timer), self.generation);
                let generation = self.generation;
                self.schedule(self.now + nanos(after), Happening::Timer(site, me, timer, generation));
            }
            ServerOutput::CancelTimer(timer) => drop(self.timers.remove(&(site, me, timer))),
            ServerOutput::WrongShare(liar) => {
                if self.is_correct((site, me)) && self.is_correct((site, liar)) {
                    let message = format!("{me} of {site} says that {liar} sent a wrong share");
                    return Err(Violation::new("accusation", message));
                }
            }
        }
        Ok(())
    }

    pub(super) fn replica_output(&mut self, site: SiteId, me: ReplicaId, output: Output) -> Verdict {
        let from = Place::Server(site, me);
        match output {
            Output::Send { to: Principal::Replica(to), frame }
            | Output::SendLazily { to: Principal::Replica(to), frame } => {
                let principal = Principal::Replica(me);
                let input = ServerInput::Replica(Input::Frame { from: principal, bytes: frame.to_vec() });
                self.deliver(from, Place::Server(site, to), Happening::Input(site, to, input));
            }
            Output::Send { to: Principal::Client(to), frame }
            | Output::SendLazily { to: Principal::Client(to), frame } => {
                let bytes = frame.to_vec();
                match lane_of(to) {
                    Some((server, lane)) => {
                        let input = ServerInput::ForLane { lane, from: me, bytes };
                        self.deliver(
                            from,
                            Place::Server(site, server),
                            Happening::Input(site, server, input),
                        );
                    }
                    None => self.deliver(from, Place::Client(to), Happening::ToClient(to, me, bytes)),
                }
            }
            Output::Report(Report::StateRefused { seq, error }) if self.is_correct((site, me)) => {
                let message = format!("{me} of {site} refuses the state of {seq}: {error}");
                return Err(Violation::new("checkpoint", message));
            }
            Output::Report(Report::Diverged { seq }) if self.is_correct((site, me)) => {
                let message = format!("{me} of {site} has diverged at {seq}");
                return Err(Violation::new("checkpoint", message));
            }
            Output::Epoch { membership, start, .. } if self.is_correct((site, me)) => {
                let host = Self::number((site, me));
                let succession = self.successions.get_mut(&site).expect("its group changes");
                return succession.entered(host, &membership, start);
            }
            Output::Stop(reason) if self.is_correct((site, me)) => {
                return Err(Violation::new("checkpoint", format!("{me} of {site} stops: {reason}")));
            }
            Output::Stop(_) => self.crash(site, me, End::Killed),
            output => self.disk_output(site, me, output),
        }
        Ok(())
    }

    /// Sends within a site: in order, and nothing is lost unless the site has failed.
    pub(super) fn deliver(&mut self, from: Place, to: Place, happening: Happening) {
        let lan = &self.plan.lan;
        let delay = nanos(self.dice.duration(lan.least_delay, lan.most_delay));
        let last = self.last_arrivals.entry((from, to)).or_default();
        let at = (self.now + delay).max(*last + 1);
        *last = at;
        self.schedule(at, happening);
    }
}
