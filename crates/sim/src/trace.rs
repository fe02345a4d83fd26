use althing_crypto::Hasher;
use althing_types::Digest;
use std::collections::VecDeque;

/// A record of what happened: a digest of all of it, and the last lines in words.
pub(crate) struct Trace<L> {
    hasher: Hasher,
    lines: VecDeque<(u64, L)>,
    most: usize,
    events: u64,
}

impl<L> Trace<L> {
    pub(crate) fn new(most: usize) -> Self {
        Self { hasher: Hasher::new("althing simulation trace"), lines: VecDeque::new(), most, events: 0 }
    }

    /// Adds an event to the digest.
    pub(crate) fn digest(&mut self, now: u64, kind: u8, place: usize, bytes: &[u8]) {
        let mut head = [0; 17];
        head[..8].copy_from_slice(&now.to_le_bytes());
        head[8] = kind;
        head[9..].copy_from_slice(&(place as u64).to_le_bytes());
        self.hasher.bytes(&head);
        self.hasher.bytes(bytes);
        self.events += 1;
    }

    /// Keeps a line, to be put into words if something fails.
    pub(crate) fn line(&mut self, now: u64, line: L) {
        if self.lines.len() >= self.most {
            self.lines.pop_front();
        }
        if self.most > 0 {
            self.lines.push_back((now, line));
        }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &(u64, L)> {
        self.lines.iter()
    }

    pub(crate) fn hash(&self) -> Digest {
        self.hasher.finish()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}
