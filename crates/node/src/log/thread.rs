use std::{io, thread};

use althing_replica::storage::{File, Log, LogWrite, SegmentContent, write_segments};
use althing_types::Seq;
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
    /// The state at this checkpoint does.
    Kept(Seq),
    /// The storage failed; what was not reported durable may be lost, and with durability `async`
    /// what was, too. The replica must stop.
    Failed(LogError),
}

/// The log thread has ended, after a failure that its [`LogEvent::Failed`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log thread has ended")]
pub struct LogClosed;

/// A state to be written.
type Keep = (Seq, Vec<SegmentContent>);

/// A [`Log`] on a thread of its own, which makes everything queued durable with one sync, or has a
/// second thread do that in the background. Another one writes states, so that no record waits for that.
///
/// Dropping it lets the thread finish what is queued and end; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct LogThread {
    writes: mpsc::Sender<LogWrite<Bytes>>,
    keeps: mpsc::UnboundedSender<Keep>,
    ended: oneshot::Receiver<()>,
}

impl LogThread {
    /// Starts the thread, with a queue of at most `queue_len` writes.
    ///
    /// The receiver gets one [`LogEvent::Durable`] a round, and `None` after the thread has ended.
    /// It holds no more ids than were given and not yet received back.
    ///
    /// # Errors
    /// When the system refuses another thread, or another handle of the files.
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
        let files = log.storage().shared().map_err(io::Error::other)?;
        // The engine asks for one at a time.
        let (keeps, kept) = mpsc::unbounded_channel();
        // Whoever waits for the end of the log does not wait for this thread.
        let of_states = events.downgrade();
        let states =
            thread::Builder::new().name("state".to_owned()).spawn(move || keep(files, kept, &of_states))?;
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            run(log, background, received, &events);
            drop(events);
            // It ends when its sender is dropped, as this one did. It has told why, if it failed.
            let _ = states.join();
            // Nobody may be waiting for the end.
            let _ = ending.send(());
        })?;
        Ok((Self { writes, keeps, ended }, reported))
    }

    /// Queues a record to append, waiting while the queue is full.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn append(&self, id: u64, record: Bytes) -> Result<(), LogClosed> {
        self.send(LogWrite::Append { id, record }).await
    }

    /// Queues the replacement of the whole log by these records, in order with the appends. The segments
    /// that they name no more are removed after that.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn rewrite(&self, id: u64, records: Vec<Bytes>, dropped: Vec<u64>) -> Result<(), LogClosed> {
        self.send(LogWrite::Rewrite { id, records, dropped }).await
    }

    /// Has a state written while everything else goes on. [`LogEvent::Kept`] tells when it is durable.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn keep(&self, seq: Seq, segments: Vec<SegmentContent>) -> Result<(), LogClosed> {
        self.keeps.send((seq, segments)).map_err(|_| LogClosed)
    }

    /// Waits until everything queued is durable (or has failed) and the thread has ended. The log then
    /// outlives the system, whatever its durability.
    pub async fn close(self) {
        drop((self.writes, self.keeps));
        // An error means that the thread panicked and thus has ended too.
        let _ = self.ended.await;
    }

    async fn send(&self, write: LogWrite<Bytes>) -> Result<(), LogClosed> {
        self.writes.send(write).await.map_err(|_| LogClosed)
    }
}

/// Writes states, until there are no more to come or the disk fails.
fn keep(
    mut files: Files,
    mut keeps: mpsc::UnboundedReceiver<Keep>,
    events: &mpsc::WeakUnboundedSender<LogEvent>,
) {
    while let Some((seq, segments)) = keeps.blocking_recv() {
        let written = write_segments(&mut files, &segments);
        let has_failed = written.is_err();
        let event = written.map_or_else(LogEvent::Failed, |()| LogEvent::Kept(seq));
        // Whoever does not hear of it starts again from the state before.
        let is_heard = events.upgrade().is_some_and(|events| events.send(event).is_ok());
        if has_failed || !is_heard {
            return;
        }
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
