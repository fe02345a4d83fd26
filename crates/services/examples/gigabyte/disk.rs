//! Real files for one replica, written by production code.

use althing_replica::storage::{
    BootId, File, Log, LogWrite, OpenOptions, Opened, SegmentContent, Storage, open, write_segments,
};
use althing_replica::{Durability, Startup};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Files in a directory.
pub(crate) struct Files(PathBuf);

/// A replica's disk. Its records are handed to the system and not synced, and what it is told to keep is.
pub(crate) struct Disk {
    files: Files,
    log: Log<Files>,
}

impl Disk {
    /// Opens what is in `directory`.
    pub(crate) fn open(directory: &Path) -> (Self, Startup) {
        let boot = Some(BootId("this one".to_owned()));
        let options =
            OpenOptions { durability: Durability::Async, is_genesis: true, boot, max_record_len: 1 << 26 };
        let files = || Files(directory.to_owned());
        let Opened { startup, log, .. } = open(files(), &options).expect("the disk is well");
        (Self { files: files(), log }, startup)
    }

    pub(crate) fn commit(&mut self, group: &[LogWrite<Vec<u8>>]) {
        self.log.commit(group).expect("the disk is well");
    }

    pub(crate) fn keep(&mut self, segments: &[SegmentContent]) {
        write_segments(&mut self.files, segments).expect("the disk is well");
    }

    /// Bytes of all segments.
    pub(crate) fn segment_bytes(&mut self) -> u64 {
        let numbers = self.files.segments().expect("the disk is well");
        let len = |number| fs::metadata(self.files.path(File::Segment(number))).map_or(0, |data| data.len());
        numbers.into_iter().map(len).sum()
    }
}

impl Files {
    fn path(&self, file: File) -> PathBuf {
        self.0.join(match file {
            File::Log => "votes.log".to_owned(),
            File::Life => "life".to_owned(),
            File::Cached => "cached".to_owned(),
            File::Begun => "begun".to_owned(),
            File::Recovering => "recovering".to_owned(),
            File::Segment(number) => format!("pages-{number}"),
        })
    }

    fn draft(&self, file: File) -> PathBuf {
        self.path(file).with_extension("new")
    }

    fn growing(&self, file: File) -> io::Result<fs::File> {
        fs::OpenOptions::new().append(true).open(self.path(file))
    }
}

impl Storage for Files {
    type Error = io::Error;

    fn read(&mut self, file: File) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn read_at(&mut self, file: File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(self.path(file))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(len);
        file.take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn segments(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("pages-"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    fn create(&mut self, file: File) -> io::Result<()> {
        fs::File::create(self.path(file)).map(drop)
    }

    fn append(&mut self, file: File, bytes: &[u8]) -> io::Result<()> {
        self.growing(file)?.write_all(bytes)
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        self.growing(file)?.sync_data()
    }

    fn draft(&mut self, file: File, content: &[u8]) -> io::Result<()> {
        fs::write(Self::draft(self, file), content)
    }

    fn sync_draft(&mut self, file: File) -> io::Result<()> {
        fs::File::open(Self::draft(self, file))?.sync_all()
    }

    fn publish(&mut self, file: File) -> io::Result<()> {
        fs::rename(Self::draft(self, file), self.path(file))
    }

    fn remove(&mut self, file: File) -> io::Result<()> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_directory(&mut self, _: File) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }

    fn random(&mut self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
