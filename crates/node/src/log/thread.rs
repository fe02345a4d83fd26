use std::{io, thread};

use althing_replica::storage::{File, Log, LogWrite};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::background::BackgroundSync;
use super::error::LogError;
use super::files::Files;

/// How many queued writes one round takes up, so that a completion is never far behind.
const GROUP_LEN: usize = 1024;

/// What a [`LogThread`] reports.
#[derive(Debug)]
pub enum LogEvent {
    /// These writes survive what the log's durability promises, in the order they were given.
    Durable(Vec<u64>),
    /// The storage failed; what was not reported durable may be lost, and with durability `async`
    /// what was, too. The replica must stop.
    Failed(LogError),
}

/// The log thread has ended, after a failure that its [`LogEvent::Failed`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log thread has ended")]
pub struct LogClosed;

/// A [`Log`] on a thread of its own, which makes everything queued durable with one sync, or has a
/// second thread do that in the background.
///
/// Dropping it lets the thread finish what is queued and end; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct LogThread {
    writes: mpsc::Sender<LogWrite<Bytes>>,
    ended: oneshot::Receiver<()>,
}

impl LogThread {
    /// Starts the thread, with a queue of at most `queue_len` writes.
    ///
    /// The receiver gets one [`LogEvent::Durable`] a round, and `None` after the thread has ended.
    /// It holds no more ids than were given and not yet received back.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn spawn(
        mut log: Log<Files>,
        queue_len: usize,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<LogEvent>)> {
        let (writes, received) = mpsc::channel(queue_len);
        let (events, reported) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel();
        let background = match log.is_synced() {
            true => None,
            false => Some(BackgroundSync::spawn(log.storage().path(File::Log), events.clone())?),
        };
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            run(log, background, received, &events);
            drop(events);
            // Nobody may be waiting for the end.
            let _ = ending.send(());
        })?;
        Ok((Self { writes, ended }, reported))
    }

    /// Queues a record to append, waiting while the queue is full.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn append(&self, id: u64, record: Bytes) -> Result<(), LogClosed> {
        self.send(LogWrite::Append { id, record }).await
    }

    /// Queues the replacement of the whole log by these records, in order with the appends.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn rewrite(&self, id: u64, records: Vec<Bytes>) -> Result<(), LogClosed> {
        self.send(LogWrite::Rewrite { id, records }).await
    }

    /// Waits until everything queued is durable (or has failed) and the thread has ended. The log then
    /// outlives the system, whatever its durability.
    pub async fn close(self) {
        drop(self.writes);
        // An error means that the thread panicked and thus has ended too.
        let _ = self.ended.await;
    }

    async fn send(&self, write: LogWrite<Bytes>) -> Result<(), LogClosed> {
        self.writes.send(write).await.map_err(|_| LogClosed)
    }
}

fn run(
    mut log: Log<Files>,
    mut background: Option<BackgroundSync>,
    mut writes: mpsc::Receiver<LogWrite<Bytes>>,
    events: &mpsc::UnboundedSender<LogEvent>,
) {
    let mut group = Vec::new();
    while writes.blocking_recv_many(&mut group, GROUP_LEN) > 0 {
        if background.as_ref().is_some_and(BackgroundSync::has_failed) {
            break;
        }
        let event = match commit(&mut log, background.as_mut(), &group) {
            Ok(()) => LogEvent::Durable(group.iter().map(LogWrite::id).collect()),
            Err(error) => LogEvent::Failed(error),
        };
        group.clear();
        let failed = matches!(event, LogEvent::Failed(_));
        // Whoever dropped the receiver does not care for completions, but still for durability.
        let _ = events.send(event);
        if failed {
            // The background may have failed as well, and that has to be put down.
            break;
        }
    }
    end(log, background);
}

fn commit(
    log: &mut Log<Files>,
    background: Option<&mut BackgroundSync>,
    group: &[LogWrite<Bytes>],
) -> Result<(), LogError> {
    let directory = log.storage().directory().to_owned();
    log.commit(group).map_err(|error| LogError::of(&directory, error))?;
    match background {
        Some(background) => background.note(|| log.storage().handles()),
        None => Ok(()),
    }
}

/// The end in order, or the end of a log that could not be written in the background.
fn end(mut log: Log<Files>, background: Option<BackgroundSync>) {
    let directory = log.storage().directory().to_owned();
    let has_failed = background.is_some_and(|background| !background.finish());
    let ended = if has_failed { log.disown() } else { log.close() };
    if let Err(error) = ended.map_err(|error| LogError::of(&directory, error)) {
        tracing::error!(%error, "the log could not be closed in order");
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
