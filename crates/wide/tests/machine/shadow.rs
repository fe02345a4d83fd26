//! A logical machine, and others that are brought to its state as its site's servers are.

use crate::register::Register;
use althing_protocol::Replicable;
use althing_replica::{Context, Outcome, Pages, Service};
use althing_wide::LogicalMachine;

/// How many operations the one that falls behind misses, of how many.
const MISSED: (u64, u64) = (3, 16);

pub(crate) type Machine<W> = LogicalMachine<W, Register>;

/// A machine, and its pages as a server knows them: only what it saves again is seen.
struct Server<W: Replicable> {
    machine: Machine<W>,
    pages: Pages,
}

impl<W: Replicable> Server<W> {
    fn new(mut machine: Machine<W>) -> Self {
        let mut pages = Pages::default();
        machine.save(&mut pages);
        Self { machine, pages }
    }

    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        let outcome = self.machine.execute(operation, context);
        self.machine.save(&mut self.pages);
        outcome
    }

    fn install(&mut self, pages: &Pages) {
        let mut pages = pages.clone();
        let changed = self.pages.differing(&mut pages);
        self.machine.install(&pages, &changed).expect("the state of a correct server is taken");
        self.pages = pages.clone();
        self.machine.save(&mut self.pages);
        assert!(self.pages == pages, "who was brought to a state shows that state");
    }
}

/// A machine that is watched by two others. One is new for each operation, and gets the state before it; the
/// other misses some now and then, and is brought up from where it stands.
pub(crate) struct Watched<W: Replicable> {
    original: Server<W>,
    new: Server<W>,
    behind: Server<W>,
    executed: u64,
}

impl<W: Replicable> Watched<W> {
    pub(crate) fn new(make: impl Fn() -> Machine<W>) -> Self {
        let [original, new, behind] = [(); 3].map(|()| Server::new(make()));
        Self { original, new, behind, executed: 0 }
    }

    pub(crate) fn machine(&self) -> &Machine<W> {
        &self.original.machine
    }

    /// Executes an operation at all three, each of which has to do the same.
    pub(crate) fn execute(
        &mut self,
        make: impl Fn() -> Machine<W>,
        operation: &[u8],
        context: &Context,
    ) -> Outcome {
        let is_missed = self.executed % MISSED.1 < MISSED.0;
        let before = self.original.pages.clone();
        if !is_missed && (self.executed + MISSED.1 - 1) % MISSED.1 < MISSED.0 {
            self.behind.install(&before);
        }
        self.new = Server::new(make());
        self.new.install(&before);
        self.executed += 1;
        let outcome = self.original.execute(operation, context);
        let others = [Some(&mut self.new), (!is_missed).then_some(&mut self.behind)];
        for other in others.into_iter().flatten() {
            assert_eq!(other.execute(operation, context), outcome, "another outcome in {}", context.seq);
            assert!(other.pages == self.original.pages, "other pages after {}", context.seq);
        }
        outcome
    }
}
