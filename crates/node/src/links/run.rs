use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::Uplink;
use super::flow::Flow;
use super::pair::Pair;
use super::way::Way;
use crate::config::{LinksConfig, WayConfig};
use crate::control::{
    ControlCall, ControlError, ControlServer, LinkFault, LinkSelection, LinksReport, Request, Response,
    Status, UplinkReport,
};

/// Why the links did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// An address can't be listened at.
    #[error("the links can't listen at {address}, on the way from `{from}` to `{to}`: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The site whose servers connect there.
        from: String,
        /// The site that they want to reach.
        to: String,
        /// The cause.
        source: io::Error,
    },
    /// The control socket can't be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// One of the tasks ended, which it never should.
    #[error("a part of the links has ended unexpectedly")]
    Ended,
}

/// Runs the links between sites until `shutdown` resolves, they are told to end over their control socket, or they
/// fail.
///
/// # Errors
/// See [`LinksError`].
pub async fn run_links(
    config: LinksConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), LinksError> {
    raise_file_limit();
    let links = Links::new(config);
    let (control, mut calls) = ControlServer::open(links.config.control())?;
    let mut tasks = JoinSet::new();
    for way in links.open()? {
        tasks.spawn(way.run());
    }
    tracing::info!(system = links.config.system(), "the links run");
    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            Some(call) = calls.recv() => if links.answer(call) { break Ok(()) },
            Some(_) = tasks.join_next() => break Err(LinksError::Ended),
        }
    };
    drop(control);
    tasks.shutdown().await;
    result
}

/// Each connection takes two files, and systems of many servers more than a process may usually have open.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused accepting fails later on, and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// All links between the sites of a system.
#[derive(Debug)]
pub(super) struct Links {
    config: LinksConfig,
    /// By site.
    uplinks: Vec<Arc<Uplink>>,
    /// By sending site, then by receiving site.
    pairs: Vec<Vec<Arc<Pair>>>,
}

impl Links {
    pub(super) fn new(config: LinksConfig) -> Self {
        let sites = || config.sites().iter();
        let delay = Duration::from_millis(config.delay_ms());
        let pairs = || sites().map(|_| Arc::new(Pair::new(delay))).collect();
        let uplinks = sites().map(|_| Arc::new(Uplink::new(config.uplink_bps()))).collect();
        let pairs = sites().map(|_| pairs()).collect();
        Self { config, uplinks, pairs }
    }

    /// Listens on all ways.
    pub(super) fn open(&self) -> Result<Vec<Way>, LinksError> {
        let flow = |from: usize, to: usize| Flow {
            pair: Arc::clone(&self.pairs[from][to]),
            uplink: Arc::clone(&self.uplinks[from]),
        };
        let sites = self.config.sites();
        let open = |way: &WayConfig| {
            let opened = Way::open(way.listen, way.server, flow(way.from, way.to), flow(way.to, way.from));
            opened.map_err(|source| LinksError::Listen {
                address: way.listen,
                from: sites[way.from].clone(),
                to: sites[way.to].clone(),
                source,
            })
        };
        self.config.ways().iter().map(open).collect()
    }

    /// Answers a request; returns whether the links were told to end.
    fn answer(&self, call: ControlCall) -> bool {
        let (response, is_end) = match call.request {
            Request::Status => (Response::Status(Box::new(Status::Links(self.report()))), false),
            Request::Shutdown => (Response::Done, true),
            Request::InjectLink { links, fault } => (self.inject(&links, fault), false),
            _ => {
                let reason = "the links have no such faults; choose a replica".to_owned();
                (Response::Refused { reason }, false)
            }
        };
        // Whoever asked may have gone.
        let _ = call.answer.send(response);
        is_end
    }

    /// Makes links faulty, or mends them.
    pub(super) fn inject(&self, links: &LinkSelection, fault: LinkFault) -> Response {
        match self.impose(links, fault) {
            Ok(()) => Response::Done,
            Err(reason) => Response::Refused { reason },
        }
    }

    fn impose(&self, links: &LinkSelection, fault: LinkFault) -> Result<(), String> {
        if !self.config.allows_injection() && fault != LinkFault::None {
            return Err("the deployment does not allow faults; make it with --allow-injection".to_owned());
        }
        let sites = self.config.sites();
        let place = |name: &String| {
            let known = || format!("there is no site `{name}`; there are {}", sites.join(", "));
            sites.iter().position(|site| site == name).ok_or_else(known)
        };
        match links {
            LinkSelection::Pair { from, to } => {
                let (from, to) = (place(from)?, place(to)?);
                if from == to {
                    return Err("a link leads from one site to another".to_owned());
                }
                self.pairs[from][to].impose(fault);
            }
            LinkSelection::Site { site } => {
                let site = place(site)?;
                for other in 0..sites.len() {
                    self.pairs[site][other].impose(fault);
                    self.pairs[other][site].impose(fault);
                }
            }
            LinkSelection::All => self.pairs.iter().flatten().for_each(|pair| pair.impose(fault)),
        }
        Ok(())
    }

    /// Where they stand.
    pub(super) fn report(&self) -> LinksReport {
        let sites = self.config.sites();
        let mut pairs = Vec::new();
        for (from, row) in sites.iter().zip(&self.pairs) {
            let others = sites.iter().zip(row).filter(|(to, _)| *to != from);
            pairs.extend(others.map(|(to, pair)| pair.report(from, to)));
        }
        let uplink = |(site, uplink): (&String, &Arc<Uplink>)| UplinkReport {
            site: site.clone(),
            backlog_ms: u64::try_from(uplink.backlog().as_millis()).unwrap_or(u64::MAX),
        };
        LinksReport {
            name: "links".to_owned(),
            pid: std::process::id(),
            system: self.config.system().to_owned(),
            delay_ms: self.config.delay_ms(),
            uplink_bps: self.config.uplink_bps(),
            uplinks: sites.iter().zip(&self.uplinks).map(uplink).collect(),
            pairs,
        }
    }
}
