//! An attacker is a process of its own: what it costs is metered apart.

use super::frames::Frames;
use super::{Attack, Beside, handshakes};
use crate::running::block_on;
use althing_node::channel::{ChannelReader, ChannelWriter, Local, PublicKey, Role, SecretKey, initiate};
use althing_node::config::ClientFile;
use althing_node::die_with_parent;
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// Attack a group until killed: what `bench --attack` starts
#[derive(Debug, Args)]
pub(crate) struct RunAttack {
    /// How
    #[arg(value_enum)]
    attack: Attack,
    /// The client to be
    client_file: PathBuf,
    /// Attack nobody, and keep this share of a core busy
    #[arg(long, value_name = "SHARE")]
    busy: Option<f64>,
    /// End when the process that started this one, with this id, ends
    #[arg(long, value_name = "PID")]
    die_with_parent: u32,
}

/// How often the one that attacks nobody rests.
const CYCLE: Duration = Duration::from_millis(5);

/// Bytes that are gathered before they are sent.
const GATHERED: usize = 32 << 10;

/// The pause before calling a replica again that has hung up.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 16 << 20;

impl RunAttack {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        die_with_parent(self.die_with_parent).into_diagnostic()?;
        if let Some(share) = self.busy {
            be_busy(share);
        }
        let file = ClientFile::load(&self.client_file).into_diagnostic()?;
        block_on(async {
            if self.attack == Attack::Handshakes {
                return handshakes::flood(file.group()).await;
            }
            let mut floods = JoinSet::new();
            for replica in 0..file.group().replicas().len() {
                floods.spawn(flood(self.attack, file.clone(), replica));
            }
            // None of them ends but by failing.
            floods.join_next().await.map_or(Ok(()), |ended| ended.into_diagnostic()?)
        })?;
        Ok(ExitCode::FAILURE)
    }
}

/// Keeps this share of a core busy, for good.
fn be_busy(share: f64) -> ! {
    let share = share.clamp(0.0, 1.0);
    loop {
        let begun = Instant::now();
        while begun.elapsed() < CYCLE.mul_f64(share) {
            std::hint::spin_loop();
        }
        std::thread::sleep(CYCLE.saturating_sub(begun.elapsed()));
    }
}

/// Sends one replica all that it takes.
async fn flood(attack: Attack, file: ClientFile, replica: usize) -> Result<()> {
    let mut frames = Frames::new(attack, &file)?;
    loop {
        if let Ok((reader, writer)) = connect(&file, replica).await {
            // Whatever is answered is read: who doesn't would be sent nothing any more.
            tokio::select! {
                () = listen(reader) => {}
                () = pour(writer, &mut frames) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type Halves = (ChannelReader<OwnedReadHalf>, ChannelWriter<OwnedWriteHalf>);

async fn connect(file: &ClientFile, replica: usize) -> Result<Halves> {
    let group = file.group();
    let replica = group.replicas().get(replica).ok_or_else(|| miette!("there is no such replica"))?;
    let local = Local { secret: SecretKey::from(*file.identity().exchange_secret()), group: group.id() };
    let stream = TcpStream::connect(replica.address).await.into_diagnostic()?;
    let remote = PublicKey(replica.key.exchange_bytes());
    let channel = initiate(stream, &local, Role::Client, remote).await.into_diagnostic()?;
    Ok(channel.into_split(LONGEST_ANSWER))
}

async fn listen(mut reader: ChannelReader<OwnedReadHalf>) {
    let mut frames = Vec::new();
    while reader.read(&mut frames).await.is_ok() {
        frames.clear();
    }
}

async fn pour(mut writer: ChannelWriter<OwnedWriteHalf>, frames: &mut Frames) {
    // The client's first session.
    let session = 0_u16.to_le_bytes();
    loop {
        let mut gathered = 0;
        while gathered < GATHERED {
            let frame = frames.next();
            gathered += frame.len();
            writer.push(&[&session, &frame]);
        }
        if writer.flush().await.is_err() {
            return;
        }
        // Where a replica takes all at once, others are to have their turn.
        tokio::task::yield_now().await;
    }
}

/// An attacker that runs. It ends when this is dropped.
pub(in super::super) struct Attacker {
    child: Child,
}

impl Attacker {
    /// Starts what runs beside the load, as this client; one that attacks nobody keeps so many cores busy.
    pub(in super::super) fn start(beside: Beside, client_file: &Path, cores: f64) -> Result<Self> {
        let (Beside::Attacker(attack) | Beside::Busy(attack)) = beside;
        let mut command = Command::new(std::env::current_exe().into_diagnostic()?);
        command.args(["attack", &attack.name()]).arg(client_file);
        command.args(["--die-with-parent", &std::process::id().to_string()]);
        if let Beside::Busy(_) = beside {
            command.args(["--busy", &cores.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        Ok(Self { child: child.into_diagnostic().wrap_err("an attacker can't be started")? })
    }

    /// Its process id, while it runs.
    pub(in super::super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it had ended by itself: what was measured was measured without it.
    pub(in super::super) async fn end(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().into_diagnostic()? {
            return Err(miette!("the attacker ended before it was told to: {status}"));
        }
        self.child.kill().await.into_diagnostic()
    }
}
