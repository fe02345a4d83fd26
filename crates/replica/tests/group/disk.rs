//! A disk in memory on which everything is durable at once, and the production code that writes to it.

use althing_replica::storage::{
    BootId, File, Log, LogWrite, OpenOptions, Opened, Storage, open, write_segments,
};
use althing_replica::{Durability, Output, Startup};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

/// A file, or its draft.
type Files = BTreeMap<(File, bool), Vec<u8>>;

/// Clones are the same disk.
#[derive(Clone, Default)]
struct Medium(Rc<RefCell<Files>>);

/// What a replica writes to.
pub(crate) struct Disk {
    medium: Medium,
    log: Log<Medium>,
}

impl Disk {
    /// An empty one, of a replica of a new group.
    pub(crate) fn new(durability: Durability) -> Self {
        Self::open(Medium::default(), durability, true).0
    }

    /// An empty one, of a replica whose own is lost.
    pub(crate) fn lost(durability: Durability) -> Self {
        Self::open(Medium::default(), durability, false).0
    }

    /// The same, as the next start of the replica finds it.
    pub(crate) fn reopen(&self, durability: Durability) -> (Self, Startup) {
        Self::open(self.medium.clone(), durability, true)
    }

    fn open(medium: Medium, durability: Durability, is_genesis: bool) -> (Self, Startup) {
        let boot = Some(BootId("boot".to_owned()));
        let options = OpenOptions { durability, is_genesis, boot, max_record_len: 1 << 24 };
        let Opened { startup, log, .. } = open(medium.clone(), &options).expect("the disk is well");
        (Self { medium, log }, startup)
    }

    /// Segments on it.
    pub(crate) fn segments(&self) -> usize {
        self.medium.clone().segments().expect("it is well").len()
    }

    /// Does what an output asks for, if it is for the disk.
    pub(crate) fn write(&mut self, output: &Output) {
        let write = match output {
            Output::Append { id, record } => LogWrite::Append { id: *id, record },
            Output::Rewrite { records, dropped } => {
                LogWrite::Rewrite { id: 0, records: records.iter().collect(), dropped: dropped.clone() }
            }
            Output::Keep { segments, .. } => {
                write_segments(&mut self.medium, segments).expect("it is well");
                return;
            }
            _ => return,
        };
        self.log.commit(&[write]).expect("it is well");
    }
}

impl Storage for Medium {
    type Error = Infallible;

    fn read(&mut self, file: File) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.borrow().get(&(file, false)).cloned())
    }

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> Result<Vec<u8>, Infallible> {
        let bytes = self.read(file)?.unwrap_or_default();
        Ok(bytes.into_iter().skip(offset as usize).take(len).collect())
    }

    fn segments(&mut self) -> Result<Vec<u64>, Infallible> {
        let number = |(file, _): &(File, bool)| match file {
            File::Segment(number) => Some(*number),
            _ => None,
        };
        Ok(self.0.borrow().keys().filter_map(number).collect())
    }

    fn create(&mut self, file: File) -> Result<(), Infallible> {
        self.0.borrow_mut().insert((file, false), Vec::new());
        Ok(())
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().get_mut(&(file, false)).expect("there is a file").extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _: File) -> Result<(), Infallible> {
        Ok(())
    }

    fn draft(&mut self, file: File, content: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().insert((file, true), content.to_vec());
        Ok(())
    }

    fn sync_draft(&mut self, _: File) -> Result<(), Infallible> {
        Ok(())
    }

    fn publish(&mut self, file: File) -> Result<(), Infallible> {
        let files = &mut *self.0.borrow_mut();
        let draft = files.remove(&(file, true)).expect("there is a draft");
        files.insert((file, false), draft);
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), Infallible> {
        self.0.borrow_mut().remove(&(file, false));
        Ok(())
    }

    fn sync_directory(&mut self, _: File) -> Result<(), Infallible> {
        Ok(())
    }

    fn random(&mut self) -> Result<[u8; 16], Infallible> {
        Ok([5; 16])
    }
}
