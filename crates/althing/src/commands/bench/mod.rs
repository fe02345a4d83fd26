mod load;
mod report;

use crate::output;
use crate::running::{Running, block_on};
use althing_node::config::{ClientFile, Durability, ProtocolKind, RawService, RequestAuthKind};
use althing_node::deployment::{ProvisionOptions, ServiceGroup, provision_service};
use althing_services::KvOperation;
use clap::{Args, ValueEnum};
use load::Clients;
use miette::{IntoDiagnostic, Result, miette};
use report::{Report, Row, Run};
use std::process::ExitCode;
use std::time::Duration;

/// Measure throughput and latency under closed-loop load, next to the same service unreplicated
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  althing bench\n  althing bench --clients 1,64,256 --request-bytes 1024\n  \
    althing bench --service kv --durability sync --json > bench.json\n\n\
    Rounds alternate between the unreplicated baseline and the group, since machines drift."
)]
pub(crate) struct Bench {
    /// Numbers of clients, each with one operation outstanding
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_name = "N,N")]
    clients: Vec<usize>,
    /// What is executed
    #[arg(long, value_enum, default_value = "null")]
    service: ServiceKind,
    /// Bytes of a request: the operation of the null service, the value put into the store
    #[arg(long, default_value_t = 0)]
    request_bytes: usize,
    /// Bytes of the null service's reply
    #[arg(long, default_value_t = 0)]
    reply_bytes: usize,
    /// Byzantine faults that the group tolerates: 3f + 1 replicas
    #[arg(long, default_value_t = 1)]
    faults: usize,
    /// Whether votes go to disk before they leave
    #[arg(long, value_parser = super::durability, default_value = "none")]
    durability: Durability,
    /// Clients sign every request, instead of only those that they have to send again
    #[arg(long)]
    signatures: bool,
    /// Measured seconds of a run
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Runs of each, alternating
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServiceKind {
    /// Does nothing
    Null,
    /// The key-value store: each operation puts one key
    Kv,
}

/// A group that runs, with its clients.
struct Contender {
    protocol: &'static str,
    replicas: usize,
    running: Running,
    files: Vec<ClientFile>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.clients.is_empty() || self.clients.contains(&0) || self.rounds == 0 {
            return Err(miette!("--clients and --rounds take numbers from 1"));
        }
        let (warm_up, measured) = (seconds(self.warm_up)?, seconds(self.seconds)?);
        if measured.is_zero() {
            return Err(miette!("--seconds must not be 0"));
        }
        let home = tempfile::tempdir().into_diagnostic()?;
        let report = block_on(async {
            let baseline = self.contender(home.path(), "unreplicated", 0).await?;
            let group = self.contender(home.path(), "pbft", self.faults).await?;
            let rows = self.measure(&[baseline, group], warm_up, measured).await?;
            Ok(self.report(rows))
        })?;
        if self.json {
            output::print_json(&report)?;
        } else {
            report.print();
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn contender(&self, home: &std::path::Path, protocol: &'static str, f: usize) -> Result<Contender> {
        let replicas = 3 * f + 1;
        let group = ServiceGroup {
            name: protocol.to_owned(),
            n: replicas,
            f,
            protocol: if protocol == "pbft" { ProtocolKind::Pbft } else { ProtocolKind::Unreplicated },
            service: match self.service {
                ServiceKind::Null => RawService::Null { reply_bytes: self.reply_bytes },
                ServiceKind::Kv => RawService::Kv,
            },
            clients: self.clients.iter().copied().max().unwrap_or(1),
        };
        // The server that nothing backs has no votes to write.
        let durability = if protocol == "pbft" { self.durability } else { Durability::None };
        let options =
            ProvisionOptions { durability, request_auth: self.request_auth(), ..Default::default() };
        let deployment = provision_service(&home.join(protocol), &group, &options).into_diagnostic()?;
        let files: Vec<_> = deployment
            .clients()
            .iter()
            .map(|client| ClientFile::load(&deployment.client_file(&client.name)).into_diagnostic())
            .collect::<Result<_>>()?;
        Ok(Contender { protocol, replicas, running: Running::start(deployment).await?, files })
    }

    async fn measure(
        &self,
        contenders: &[Contender],
        warm_up: Duration,
        measured: Duration,
    ) -> Result<Vec<Row>> {
        let operation = self.operation();
        let mut rows = Vec::new();
        for count in &self.clients {
            let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
            for round in 1..=self.rounds {
                for (contender, runs) in contenders.iter().zip(&mut runs) {
                    eprintln!("{count} client(s), round {round} of {}: {}", self.rounds, contender.protocol);
                    let clients = Clients::connect(&contender.files[..*count]).await?;
                    let observed = clients.run(&operation, warm_up, measured).await?;
                    runs.push(Run::new(observed, measured));
                }
            }
            let mut measured_rows: Vec<_> = contenders
                .iter()
                .zip(&runs)
                .map(|(contender, runs)| Row::of(contender.protocol, contender.replicas, *count, runs))
                .collect();
            if let Some((baseline, others)) = measured_rows.split_first_mut() {
                others.iter_mut().for_each(|row| row.compare(baseline));
            }
            rows.append(&mut measured_rows);
        }
        for contender in contenders {
            // A replica that left its view under load would have to be seen in the figures.
            for name in contender.running.replicas_of(contender.protocol) {
                let left = contender.running.replica(&name).await?.counters.views_left;
                if left > 0 {
                    eprintln!("note: {name} left {left} view(s) while it was measured");
                }
            }
        }
        Ok(rows)
    }

    fn operation(&self) -> Vec<u8> {
        match self.service {
            ServiceKind::Null => vec![0; self.request_bytes],
            ServiceKind::Kv => {
                KvOperation::Put { key: b"key".to_vec(), value: vec![0; self.request_bytes] }.encode()
            }
        }
    }

    fn request_auth(&self) -> RequestAuthKind {
        if self.signatures { RequestAuthKind::Signatures } else { RequestAuthKind::Macs }
    }

    fn report(&self, rows: Vec<Row>) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            service: format!("{:?}", self.service).to_lowercase(),
            request_bytes: self.request_bytes,
            reply_bytes: self.reply_bytes,
            durability: format!("{:?}", self.durability).to_lowercase(),
            request_auth: format!("{:?}", self.request_auth()).to_lowercase(),
            seconds_per_run: self.seconds,
            rounds: self.rounds,
            rows,
        }
    }
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| miette!("{value} is no number of seconds that one can wait"))
}
