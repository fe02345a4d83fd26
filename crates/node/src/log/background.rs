//! Writing a log to disk while nobody waits for it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::mpsc;

use super::error::{LogError, Operation};
use super::files::io_error;
use super::thread::LogEvent;

/// A log that is written to gets to disk so often, or as often as the disk manages.
const PERIOD: Duration = Duration::from_millis(200);

/// A thread that syncs the log of another. Its first failure is its last deed: the replica is told to
/// stop, since the system may have dropped what it could not write.
pub(super) struct BackgroundSync {
    jobs: SyncSender<[File; 2]>,
    thread: thread::JoinHandle<()>,
    has_failed: Arc<AtomicBool>,
    last: Instant,
}

impl BackgroundSync {
    pub(super) fn spawn(path: PathBuf, events: mpsc::UnboundedSender<LogEvent>) -> io::Result<Self> {
        let (jobs, received) = sync_channel::<[File; 2]>(1);
        let has_failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&has_failed);
        let thread = thread::Builder::new().name("log sync".to_owned()).spawn(move || {
            while let Ok([log, directory]) = received.recv() {
                let synced = log.sync_data().and_then(|()| directory.sync_all());
                if let Err(error) = synced.map_err(io_error(&path, Operation::Sync)) {
                    flag.store(true, Ordering::SeqCst);
                    // Whoever dropped the receiver has stopped already.
                    let _ = events.send(LogEvent::Failed(error));
                    return;
                }
            }
        })?;
        Ok(Self { jobs, thread, has_failed, last: Instant::now() })
    }

    /// Something was written; `handles` gives the files to sync, if it is time for that.
    pub(super) fn note(
        &mut self,
        handles: impl FnOnce() -> Result<[File; 2], LogError>,
    ) -> Result<(), LogError> {
        if self.last.elapsed() >= PERIOD {
            // Still busy with earlier ones, it will be handed the log again soon.
            let _ = self.jobs.try_send(handles()?);
            self.last = Instant::now();
        }
        Ok(())
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// Waits for what is under way, and says whether all went well.
    pub(super) fn finish(self) -> bool {
        drop(self.jobs);
        self.thread.join().is_ok() && !self.has_failed.load(Ordering::SeqCst)
    }
}
