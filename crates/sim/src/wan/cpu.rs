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

/// A processor of a server: it does one thing after the other.
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

/// Has each of so many things done by the processor that is free first, which all of them can do; says when the last is done.
pub(super) fn share<'a>(
    processors: impl IntoIterator<Item = &'a mut Cpu>,
    now: u64,
    (times, each): (u64, u64),
) -> u64 {
    let mut processors: Vec<_> = processors.into_iter().collect();
    let once = |_| {
        let free_first = processors.iter_mut().min_by_key(|cpu| cpu.free_at).expect("there is one");
        free_first.take(now, Work::of(each))
    };
    if each == 0 { now } else { (0..times).map(once).max().unwrap_or(now) }
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

    #[test]
    fn what_all_processors_can_do_the_one_does_that_is_free_first() {
        let mut processors = [Cpu::default(), Cpu::default()];
        processors[0].take(100, Work::of(15));
        assert_eq!(share(&mut processors, 100, (3, 10)), 125);
        assert_eq!(processors.each_ref().map(|cpu| cpu.free_at), [125, 120]);
        assert_eq!(share(&mut processors, 100, (0, 10)), 100);
        assert_eq!(share(&mut processors, 100, (3, 0)), 100);
    }
}
