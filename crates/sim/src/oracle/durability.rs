use super::{Verdict, Violation};
use althing_replica::{Remains, Startup};
use std::collections::VecDeque;

/// Something that a replica handed to its disk.
#[derive(Debug, Clone)]
enum Write {
    Append(Vec<u8>),
    Rewrite(Vec<Vec<u8>>),
}

/// What one replica's disk has to hold: all that it was told is there, after that any part of the rest
/// from its beginning on, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    records: Vec<Vec<u8>>,
    /// Handed over, and not yet reported to be there.
    pending: VecDeque<Write>,
    has_started: bool,
    /// The disk was taken away, or what was promised may be lost: the replica has to know that it
    /// knows nothing, unless none of it is gone.
    may_forget: bool,
    /// The replica knew nothing when it started last.
    is_blank: bool,
}

impl Promised {
    pub(crate) fn append(&mut self, record: Vec<u8>) {
        self.pending.push_back(Write::Append(record));
    }

    pub(crate) fn rewrite(&mut self, records: Vec<Vec<u8>>) {
        self.pending.push_back(Write::Rewrite(records));
    }

    /// The first `writes` of those that are under way were reported to be there.
    pub(crate) fn kept(&mut self, writes: usize) {
        for write in self.pending.drain(..writes) {
            apply(&mut self.records, write);
        }
    }

    /// What was promised may be gone, as the fault model allows.
    pub(crate) fn may_forget(&mut self) {
        self.may_forget = true;
    }

    /// Whether all that was handed over is there.
    pub(crate) fn is_kept(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many records there should be.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.pending.len()
    }

    /// A replica starts with this.
    ///
    /// # Errors
    /// When it lacks something that was promised, or has something that it never wrote.
    pub(crate) fn started(&mut self, host: usize, startup: &Startup) -> Verdict {
        let violation = |message| Err(Violation::new("durability", format!("host {host} {message}")));
        match startup {
            Startup::Genesis if self.has_started => {
                return violation("starts as a new one for a second time");
            }
            Startup::Amnesia | Startup::Recovering(Remains { records: None, .. })
                if self.has_started && !self.may_forget && !self.knows_nothing() =>
            {
                return violation("has forgotten what its disk still has to hold");
            }
            Startup::Recovered { records, .. } if records.is_empty() && self.knows_nothing() => {
                return violation("takes it that it never said anything, and has lost what it said");
            }
            Startup::Genesis | Startup::Amnesia | Startup::Recovering(Remains { records: None, .. }) => {
                self.records.clear();
            }
            Startup::Recovered { records, .. }
            | Startup::Recovering(Remains { records: Some(records), .. }) => {
                let mut state = std::mem::take(&mut self.records);
                while state != *records {
                    let Some(write) = self.pending.pop_front() else {
                        let (actual, expected) = (records.len(), state.len());
                        return violation(&format!(
                            "starts from {actual} records that are not what it wrote, which were {expected}"
                        ));
                    };
                    apply(&mut state, write);
                }
                self.records = state;
            }
        }
        self.begin(startup);
        Ok(())
    }

    /// A replica starts with this from a disk that somebody else had: only what it says from now on counts.
    pub(crate) fn adopted(&mut self, startup: &Startup) {
        self.records = match startup {
            Startup::Recovered { records, .. }
            | Startup::Recovering(Remains { records: Some(records), .. }) => records.clone(),
            _ => Vec::new(),
        };
        self.begin(startup);
    }

    fn begin(&mut self, startup: &Startup) {
        let is_lost =
            matches!(startup, Startup::Amnesia | Startup::Recovering(Remains { records: None, .. }));
        self.is_blank = is_lost || self.knows_nothing();
        (self.has_started, self.may_forget) = (true, false);
        self.pending.clear();
    }

    /// Whether it has lost what it said, and has not put down anything since.
    fn knows_nothing(&self) -> bool {
        self.is_blank && self.records.is_empty()
    }

    /// A replica does not start, because it can't rely on what it finds.
    ///
    /// # Errors
    /// When nothing has happened to the disk that would make it so.
    pub(crate) fn refused(&self, host: usize, error: &str) -> Verdict {
        if self.may_forget {
            return Ok(());
        }
        let message = format!("host {host} refuses a disk that nothing has happened to: {error}");
        Err(Violation::new("durability", message))
    }
}

fn apply(records: &mut Vec<Vec<u8>>, write: Write) {
    match write {
        Write::Append(record) => records.push(record),
        Write::Rewrite(all) => *records = all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovered(records: &[u8]) -> Startup {
        let records = records.iter().map(|record| vec![*record]).collect();
        Startup::Recovered { records, kept: None }
    }

    /// One and two are there, three and a rewrite to nine are under way.
    fn promised() -> Promised {
        let mut promised = Promised::default();
        promised.started(0, &Startup::Genesis).unwrap();
        [1, 2, 3].into_iter().for_each(|record| promised.append(vec![record]));
        promised.rewrite(vec![vec![9]]);
        promised.kept(2);
        promised
    }

    #[test]
    fn what_was_promised_is_there_and_what_was_not_may_be() {
        for records in [&[1, 2][..], &[1, 2, 3], &[9]] {
            let mut promised = promised();
            promised.started(0, &recovered(records)).unwrap();
            assert_eq!(promised.len(), records.len());
            promised.started(0, &recovered(records)).unwrap();
        }
        for records in [&[][..], &[1], &[2, 1], &[1, 2, 4], &[1, 2, 3, 9], &[3]] {
            assert!(promised().started(0, &recovered(records)).is_err(), "{records:?}");
        }
    }

    #[test]
    fn only_who_lost_its_disk_forgets_or_refuses() {
        assert!(promised().started(0, &Startup::Genesis).is_err());
        assert!(promised().started(0, &Startup::Amnesia).is_err());
        assert!(promised().refused(0, "damaged").is_err());
        let mut lost = promised();
        lost.may_forget();
        lost.refused(0, "damaged").unwrap();
        lost.started(0, &Startup::Amnesia).unwrap();
        lost.started(0, &Startup::Amnesia).unwrap();
        assert!(lost.started(0, &recovered(&[])).is_err(), "it has not remembered since");
        lost.append(vec![7]);
        lost.kept(1);
        assert!(lost.started(0, &Startup::Amnesia).is_err(), "what it said since is there");
    }
}
