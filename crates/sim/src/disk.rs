use crate::dice::Dice;
use crate::medium::{DiskFault, Medium};
use althing_replica::storage::{
    BootId, Log, LogWrite, OpenOptions, Opened, SegmentContent, Storage, StorageError, begin_recovery,
    end_recovery, is_recovering, open, open_to_recover, write_segments,
};
use althing_replica::{Durability, KeptState, Startup};
use althing_types::Seq;
use std::collections::VecDeque;

/// A disk as production code has it.
pub(crate) type AnyStorage = Box<dyn Storage<Error = DiskFault>>;

/// How a replica's disk failed it.
pub(crate) type DiskError = StorageError<DiskFault>;

/// The longest record of a simulated replica in bytes.
const MAX_RECORD_BYTES: usize = 1 << 24;

/// More than any disk here holds.
const MOST_BYTES: u64 = 1 << 32;

/// Steps of the disk that are still done at most when a process is killed or the power goes: more than
/// any group takes.
const MOST_BREATH: usize = 12;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is killed; the system lives on, with all that was written.
    Killed,
    /// The power goes.
    PowerCut,
    /// It is told to stop, and so is the system after it.
    Orderly,
}

/// A host's disk, and the production code that writes a replica's records to it: what is handed over
/// together is written together, and takes a while.
pub(crate) struct Disk {
    pub(crate) medium: Medium,
    log: Option<Log<AnyStorage>>,
    durability: Durability,
    /// The system has been started so often.
    boots: u64,
    /// Being written.
    in_flight: Vec<LogWrite<Vec<u8>>>,
    waiting: VecDeque<LogWrite<Vec<u8>>>,
    /// What a state's segments are written with, beside the log; `None` while the replica is down.
    segments: Option<AnyStorage>,
    /// The state that is being written.
    keeping: Option<(Seq, Vec<SegmentContent>)>,
}

impl Disk {
    pub(crate) fn new(medium: Medium, durability: Durability) -> Self {
        Self {
            medium,
            log: None,
            durability,
            boots: 1,
            in_flight: Vec::new(),
            waiting: VecDeque::new(),
            segments: None,
            keeping: None,
        }
    }

    /// Opens it, as the node does. A supervisor always says that the group is new.
    ///
    /// # Errors
    /// When production code refuses what is on it.
    pub(crate) fn open(
        &mut self,
        [storage, segments]: [AnyStorage; 2],
        is_genesis: bool,
    ) -> Result<Startup, DiskError> {
        let Opened { startup, log, .. } = open(storage, &self.options(is_genesis))?;
        (self.log, self.segments) = (Some(log), Some(segments));
        Ok(startup)
    }

    /// Opens it as a replica that recovers does.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn open_to_recover(
        &mut self,
        [storage, segments]: [AnyStorage; 2],
        is_sound: impl FnOnce(&[Vec<u8>], Option<&mut KeptState>) -> bool,
    ) -> Result<Startup, DiskError> {
        let Opened { startup, log, .. } =
            open_to_recover(storage, &self.options(false), MOST_BYTES, is_sound)?;
        (self.log, self.segments) = (Some(log), Some(segments));
        Ok(startup)
    }

    /// Puts down that its replica recovers.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn begin_recovery(&mut self, mut storage: AnyStorage) -> Result<(), DiskError> {
        begin_recovery(&mut storage).map_err(StorageError::Disk)
    }

    /// Whether its replica recovers.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn is_recovering(&mut self, mut storage: AnyStorage) -> Result<bool, DiskError> {
        is_recovering(&mut storage).map_err(StorageError::Disk)
    }

    /// Puts down that its replica has recovered.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn end_recovery(&mut self) -> Result<(), DiskError> {
        end_recovery(&mut self.medium).map_err(StorageError::Disk)
    }

    pub(crate) fn options(&self, is_genesis: bool) -> OpenOptions {
        OpenOptions {
            durability: self.durability,
            is_genesis,
            boot: Some(BootId(format!("boot {}", self.boots))),
            max_record_len: MAX_RECORD_BYTES,
        }
    }

    pub(crate) fn append(&mut self, id: u64, record: Vec<u8>) {
        self.waiting.push_back(LogWrite::Append { id, record });
    }

    pub(crate) fn rewrite(&mut self, records: Vec<Vec<u8>>, dropped: Vec<u64>) {
        self.waiting.push_back(LogWrite::Rewrite { id: 0, records, dropped });
    }

    /// Starts to write a state.
    pub(crate) fn keep(&mut self, seq: Seq, segments: Vec<SegmentContent>) {
        assert!(self.keeping.replace((seq, segments)).is_none(), "one state at a time is written");
    }

    /// The state that was being written is.
    ///
    /// # Errors
    /// When the disk failed. The replica has to stop.
    pub(crate) fn finish_keeping(&mut self) -> Result<Option<Seq>, DiskError> {
        let (Some(storage), Some((seq, segments))) = (&mut self.segments, self.keeping.take()) else {
            return Ok(None);
        };
        write_segments(storage, &segments).map_err(StorageError::Disk)?;
        Ok(Some(seq))
    }

    /// The process ends while it writes a state.
    fn end_keeping(&mut self, dice: &mut Dice) {
        if let (Some(mut storage), Some((_, segments))) = (self.segments.take(), self.keeping.take()) {
            self.medium.set_breath(Some(dice.index(MOST_BREATH)));
            let _ = write_segments(&mut storage, &segments);
            self.medium.set_breath(None);
        }
    }

    /// Starts to write all that waits, if nothing is being written; says whether it did.
    pub(crate) fn start(&mut self) -> bool {
        if self.waiting.is_empty() || !self.in_flight.is_empty() {
            return false;
        }
        self.in_flight = self.waiting.drain(..).collect();
        true
    }

    /// What was being written is; gives back how many writes that were, and the last id among the
    /// appends.
    ///
    /// # Errors
    /// When the disk failed. The replica has to stop.
    pub(crate) fn finish(&mut self, dice: &mut Dice) -> Result<(usize, Option<u64>), DiskError> {
        let Some(log) = &mut self.log else { return Ok((0, None)) };
        let group = std::mem::take(&mut self.in_flight);
        log.commit(&group)?;
        if self.durability == Durability::Async {
            self.medium.write_back();
            if dice.chance(100) {
                log.sync()?;
            }
        }
        let appends = group.iter().filter(|write| matches!(write, LogWrite::Append { .. }));
        Ok((group.len(), appends.map(LogWrite::id).next_back()))
    }

    /// The system can't write back what it has of the log, and the process hears of it.
    pub(crate) fn fail_in_background(&mut self) {
        let Some(log) = &mut self.log else { return };
        self.medium.fail_sync();
        if log.sync().is_err() {
            // What can't be written down either is found out when the power is back.
            let _ = log.disown();
        }
    }

    /// The process ends, in the middle of what it was doing.
    pub(crate) fn end(&mut self, end: End, dice: &mut Dice) {
        self.end_keeping(dice);
        let log = self.log.take();
        let group: Vec<_> = self.in_flight.drain(..).chain(self.waiting.drain(..)).collect();
        if end == End::Orderly {
            if let Some(mut log) = log
                && log.commit(&group).is_ok()
            {
                // If it fails, the log is what it was before.
                let _ = log.close();
            }
        } else if let Some(mut log) = log {
            self.medium.set_breath(Some(dice.index(MOST_BREATH)));
            // Nobody hears of it any more.
            let _ = log.commit(&group);
            self.medium.set_breath(None);
        }
        match end {
            End::Killed => {}
            End::PowerCut | End::Orderly => {
                self.medium.cut_power();
                self.boots += 1;
            }
        }
    }

    /// The process stopped, because the disk failed it.
    pub(crate) fn give_up(&mut self, dice: &mut Dice) {
        self.log = None;
        self.end_keeping(dice);
        self.in_flight.clear();
        self.waiting.clear();
        if dice.chance(500) {
            self.medium.evict();
        }
    }
}
