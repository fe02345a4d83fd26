use std::{io, thread};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{error::LogError, file::Log};

/// How many queued commands one round takes up, so that a completion is never far behind.
const GROUP_LEN: usize = 1024;

/// How many bytes of records one sync covers at most (one record more, to be exact).
const GROUP_BYTES: usize = 8 << 20;

/// What a [`LogThread`] reports.
#[derive(Debug)]
pub enum LogEvent {
    /// These commands are durable, in the order they were given.
    Durable(Vec<u64>),
    /// The storage failed, and the thread has ended; commands not reported durable may be lost.
    /// The replica must stop.
    Failed(LogError),
}

/// The log thread has ended, after a failure that its [`LogEvent::Failed`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log thread has ended")]
pub struct LogClosed;

/// A [`Log`] on a thread of its own, which makes everything queued durable with one sync.
///
/// Dropping it lets the thread finish what is queued and end; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct LogThread {
    commands: mpsc::Sender<Command>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug)]
enum Command {
    Append { id: u64, record: Bytes },
    Rewrite { id: u64, records: Vec<Bytes> },
}

impl LogThread {
    /// Starts the thread, with a queue of at most `queue_len` commands.
    ///
    /// The receiver gets one [`LogEvent::Durable`] a round, and `None` after the thread has ended.
    /// It holds no more ids than were given and not yet received back.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn spawn(log: Log, queue_len: usize) -> io::Result<(Self, mpsc::UnboundedReceiver<LogEvent>)> {
        let (commands, received) = mpsc::channel(queue_len);
        let (events, reported) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            run(log, received, &events);
            drop(events);
            // Nobody may be waiting for the end.
            let _ = ending.send(());
        })?;
        Ok((Self { commands, ended }, reported))
    }

    /// Queues a record to append, waiting while the queue is full.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn append(&self, id: u64, record: Bytes) -> Result<(), LogClosed> {
        self.send(Command::Append { id, record }).await
    }

    /// Queues the replacement of the whole log by these records, in order with the appends.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn rewrite(&self, id: u64, records: Vec<Bytes>) -> Result<(), LogClosed> {
        self.send(Command::Rewrite { id, records }).await
    }

    /// Waits until everything queued is durable (or has failed) and the thread has ended.
    pub async fn close(self) {
        drop(self.commands);
        // An error means that the thread panicked and thus has ended too.
        let _ = self.ended.await;
    }

    async fn send(&self, command: Command) -> Result<(), LogClosed> {
        self.commands.send(command).await.map_err(|_| LogClosed)
    }
}

fn run(mut log: Log, mut commands: mpsc::Receiver<Command>, events: &mpsc::UnboundedSender<LogEvent>) {
    let mut group = Vec::new();
    loop {
        group.clear();
        if commands.blocking_recv_many(&mut group, GROUP_LEN) == 0 {
            return;
        }
        let event = match commit(&mut log, &group) {
            Ok(()) => LogEvent::Durable(group.iter().map(Command::id).collect()),
            Err(error) => LogEvent::Failed(error),
        };
        let failed = matches!(event, LogEvent::Failed(_));
        // Whoever dropped the receiver does not care for completions, but still for durability.
        let _ = events.send(event);
        if failed {
            return;
        }
    }
}

/// Makes a group durable: one sync for a run of appends, one replacement for a rewrite.
fn commit(log: &mut Log, group: &[Command]) -> Result<(), LogError> {
    let mut records: Vec<&Bytes> = Vec::with_capacity(group.len());
    let mut bytes = 0;
    for command in group {
        match command {
            Command::Append { record, .. } => {
                bytes += record.len();
                records.push(record);
            }
            Command::Rewrite { records: all, .. } => {
                // What was queued before is replaced, and need not be written at all.
                (bytes, records) = (0, Vec::new());
                log.rewrite(all)?;
            }
        }
        if bytes > GROUP_BYTES {
            log.append(&records)?;
            (bytes, records) = (0, Vec::new());
        }
    }
    log.append(&records)
}

impl Command {
    fn id(&self) -> u64 {
        match self {
            Self::Append { id, .. } | Self::Rewrite { id, .. } => *id,
        }
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
