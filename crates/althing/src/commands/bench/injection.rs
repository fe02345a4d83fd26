use super::contender::Replicas;
use super::load::{Gap, Observed};
use super::usage::Meter;
use crate::running::ask;
use althing_node::control::{Fault, Flood, Request};
use miette::{IntoDiagnostic, Result, miette};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A fault to be injected during the measured time, as `KIND:WHOM@SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Injection {
    pub(super) kind: Kind,
    pub(super) whom: Whom,
    /// Seconds of the measured time.
    pub(super) at: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SIGKILL; the supervisor starts the process again.
    Crash,
    /// SIGKILL, for good.
    Stop,
    /// By the control socket.
    Fault(Fault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The primary at that time.
    Primary,
    /// The last replica that is not.
    Backup,
    All,
    Replica(u16),
}

/// What an argument has to look like.
const FORM: &str = "a fault is written KIND:WHOM@SECONDS, as in crash:primary@2: KIND is crash (it is started again), \
    stop, mute, lie, equivocate, delay=MILLISECONDS, flood=garbage|signatures|repeats or heal; WHOM is primary, backup, all or a replica's number";

impl Injection {
    /// Whether the replicas have to allow it.
    pub(super) fn needs_permission(&self) -> bool {
        matches!(self.kind, Kind::Fault(_))
    }

    /// Injects it; tells into which replicas. One that is down has its fault already.
    pub(super) async fn inject(&self, replicas: &Replicas<'_>, meter: &mut Meter) -> Result<Vec<String>> {
        let mut injected = Vec::new();
        for name in self.whom.among(replicas).await? {
            let report = replicas.running.replica(&name).await;
            match (self.kind, report) {
                (Kind::Stop, _) => {
                    meter.before_kill(&name);
                    replicas.running.supervisor.kill(&name).await.into_diagnostic()?;
                }
                (_, Err(_)) => continue,
                (Kind::Crash, Ok(report)) => {
                    meter.before_kill(&name);
                    kill(report.pid)?;
                }
                (Kind::Fault(fault), Ok(_)) => {
                    ask(&replicas.running.deployment, &name, &Request::Inject { fault }).await?;
                }
            }
            injected.push(name);
        }
        Ok(injected)
    }
}

impl Whom {
    pub(super) async fn among(self, replicas: &Replicas<'_>) -> Result<Vec<String>> {
        let wanted = match self {
            Self::All => return Ok(replicas.names.clone()),
            Self::Replica(number) => number,
            Self::Primary => primary(replicas).await?,
            Self::Backup => {
                let primary = primary(replicas).await?;
                let last = replicas.names.len().saturating_sub(1);
                let last = u16::try_from(last).into_diagnostic()?;
                if last == primary { last.saturating_sub(1) } else { last }
            }
        };
        let name = replicas.names.get(usize::from(wanted));
        Ok(vec![name.cloned().ok_or_else(|| miette!("there is no replica {wanted}"))?])
    }
}

/// The primary of the latest view that has started anywhere.
async fn primary(replicas: &Replicas<'_>) -> Result<u16> {
    let mut latest = None;
    for name in &replicas.names {
        // One that is down is not the primary of a view that others are in for long.
        if let Ok(report) = replicas.running.replica(name).await
            && report.is_in_view
        {
            latest = latest.max(Some((report.view, report.primary)));
        }
    }
    latest.map(|(_, primary)| primary).ok_or_else(|| miette!("no replica is in a view: there is no primary"))
}

/// Kills a process on the spot.
pub(crate) fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| miette!("the process told no usable id"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).into_diagnostic()
}

/// A fault that was injected, and what clients saw of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Injected {
    pub(super) fault: Injection,
    pub(super) replicas: Vec<String>,
    /// When, in milliseconds of the measured time.
    pub(super) at_ms: usize,
    /// The longest time without a completed operation from then on.
    pub(super) longest_gap: Gap,
}

impl Injected {
    pub(super) fn look_at(&mut self, observed: &Observed) {
        self.longest_gap = observed.longest_gap(self.at_ms);
    }
}

impl FromStr for Injection {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').ok_or(FORM)?;
        let (whom, at) = rest.split_once('@').ok_or(FORM)?;
        let kind = match (kind, kind.strip_prefix("delay=")) {
            ("crash", _) => Kind::Crash,
            ("stop", _) => Kind::Stop,
            ("mute", _) => Kind::Fault(Fault::Mute),
            ("lie", _) => Kind::Fault(Fault::Lie),
            ("equivocate", _) => Kind::Fault(Fault::Equivocate),
            ("heal", _) => Kind::Fault(Fault::None),
            (kind, _) if kind.starts_with("flood=") => {
                let flood = Flood::ALL.into_iter().find(|flood| kind == format!("flood={}", flood.name()));
                Kind::Fault(Fault::Flood { with: flood.ok_or(FORM)? })
            }
            (_, Some(ms)) => Kind::Fault(Fault::Delay { ms: ms.parse().map_err(|_| FORM)? }),
            _ => return Err(FORM),
        };
        let whom = match whom {
            "primary" => Whom::Primary,
            "backup" => Whom::Backup,
            "all" => Whom::All,
            number => Whom::Replica(number.parse().map_err(|_| FORM)?),
        };
        let at: f64 = at.parse().map_err(|_| FORM)?;
        if at.is_finite() && at >= 0.0 { Ok(Self { kind, whom, at }) } else { Err(FORM) }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Crash => f.write_str("crash")?,
            Kind::Stop => f.write_str("stop")?,
            Kind::Fault(Fault::None) => f.write_str("heal")?,
            Kind::Fault(Fault::Mute) => f.write_str("mute")?,
            Kind::Fault(Fault::Lie) => f.write_str("lie")?,
            Kind::Fault(Fault::Equivocate) => f.write_str("equivocate")?,
            Kind::Fault(Fault::Delay { ms }) => write!(f, "delay={ms}")?,
            Kind::Fault(Fault::Flood { with }) => write!(f, "flood={}", with.name())?,
            // None of a site: those have no form here.
            Kind::Fault(fault) => write!(f, "{fault:?}")?,
        }
        match self.whom {
            Whom::Primary => f.write_str(":primary")?,
            Whom::Backup => f.write_str(":backup")?,
            Whom::All => f.write_str(":all")?,
            Whom::Replica(number) => write!(f, ":{number}")?,
        }
        write!(f, "@{}", self.at)
    }
}

impl Serialize for Injection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in [
            "crash:primary@2",
            "stop:all@7",
            "mute:backup@0.5",
            "lie:3@1",
            "equivocate:primary@0",
            "delay=200:all@1.25",
            "heal:all@3",
            "flood=signatures:backup@1",
        ] {
            let injection: Injection = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(injection.to_string(), text);
        }
        let delay = Injection { kind: Kind::Fault(Fault::Delay { ms: 200 }), whom: Whom::All, at: 1.25 };
        assert_eq!("delay=200:all@1.25".parse(), Ok(delay));
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "crash",
            "crash:primary",
            "crash@2",
            "burn:primary@2",
            "crash:nobody@2",
            "crash:1@x",
            "crash:1@-1",
            "crash:1@inf",
            "delay:1@1",
            "delay=:1@1",
            "delay=-5:1@1",
            "flood:1@1",
            "flood=water:1@1",
            "crash:70000@1",
        ] {
            assert_eq!(text.parse::<Injection>(), Err(FORM), "{text}");
        }
    }
}
