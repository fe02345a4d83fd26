/// Something that a server does together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// How long it has a processor busy, in nanoseconds.
    pub(super) busy: u64,
    /// How long it takes, with the others' part in it.
    pub(super) takes: u64,
}

impl Work {
    /// What a server does alone.
    pub(super) fn of(busy: u64) -> Self {
        Self { busy, takes: busy }
    }
}

/// The processor of the server that has most to do in a site: it does one thing after the other.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    pub(super) free_at: u64,
    /// How long it was busy.
    pub(super) busy: u64,
}

impl Cpu {
    /// Does something as soon as it is free; says when that is done.
    pub(super) fn take(&mut self, now: u64, work: Work) -> u64 {
        let start = now.max(self.free_at);
        self.free_at = start + work.busy;
        self.busy += work.busy;
        start + work.takes.max(work.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_done_after_the_other_while_others_do_their_part() {
        let mut cpu = Cpu::default();
        assert_eq!(cpu.take(100, Work { busy: 10, takes: 30 }), 130);
        assert_eq!(cpu.take(105, Work::of(5)), 115, "the first one waits for others meanwhile");
        assert_eq!((cpu.free_at, cpu.busy), (115, 15));
    }
}
