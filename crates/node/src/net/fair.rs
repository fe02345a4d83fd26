use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Who waits for a turn at a server whose turns take as long as they take: start-time fair queueing (Goyal,
/// Vin and Cheng, SIGCOMM'96).
///
/// Each has used so much of the server's time, and whoever has used least comes next. Who did not wait has
/// saved nothing up: it counts as having used as much as whoever was served last. So nobody who waits is
/// behind another who waits by more than one turn of each, and who is alone waits for nobody.
pub(super) struct Turns<T> {
    /// By what they have used, and then by how long they have waited.
    waiting: BinaryHeap<Reverse<(u64, u64, T)>>,
    arrivals: u64,
    /// What whoever had the last turn had used when it began.
    now_ns: u64,
}

impl<T: Ord> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: BinaryHeap::new(), arrivals: 0, now_ns: 0 }
    }
}

impl<T: Ord> Turns<T> {
    /// Has `who` wait for its turn, which has used so much. Returns what counts as that from now on.
    pub(super) fn wait(&mut self, who: T, used_ns: u64) -> u64 {
        let used_ns = used_ns.max(self.now_ns);
        self.arrivals += 1;
        self.waiting.push(Reverse((used_ns, self.arrivals, who)));
        used_ns
    }

    /// Whoever has the next turn. It waits no longer.
    pub(super) fn next(&mut self) -> Option<T> {
        let Reverse((used_ns, _, who)) = self.waiting.pop()?;
        self.now_ns = used_ns;
        Some(who)
    }

    /// Has `who` wait no longer.
    pub(super) fn remove(&mut self, who: &T) {
        self.waiting.retain(|Reverse((.., other))| other != who);
    }

    /// Has nobody wait any longer.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of those who always wait has a turn in so much time, where a turn of each takes as long
    /// as given.
    fn turns_of(costs: &[u64], time_ns: u64) -> Vec<u64> {
        let mut turns = Turns::default();
        let (mut used, mut had) = (vec![0; costs.len()], vec![0; costs.len()]);
        (0..costs.len()).for_each(|who| used[who] = turns.wait(who, 0));
        let mut spent = 0;
        while spent < time_ns {
            let who = turns.next().expect("all wait");
            (spent, had[who]) = (spent + costs[who], had[who] + 1);
            used[who] = turns.wait(who, used[who] + costs[who]);
        }
        had
    }

    #[test]
    fn all_get_as_much_time_however_long_their_turns_are() {
        assert_eq!(turns_of(&[1, 10, 100], 30_000), [10_000, 1000, 100]);
        assert_eq!(turns_of(&[7, 7, 7, 7], 2800), [100; 4]);
    }

    #[test]
    fn who_did_not_wait_has_saved_nothing_up() {
        let mut turns = Turns::default();
        let mut used = turns.wait('a', 0);
        for _ in 0..1000 {
            assert_eq!(turns.next(), Some('a'), "nobody else waits");
            used = turns.wait('a', used + 10);
        }
        let mut other = turns.wait('b', 0);
        let mut order = String::new();
        for _ in 0..6 {
            let who = turns.next().expect("both wait");
            order.push(who);
            let used = if who == 'a' { &mut used } else { &mut other };
            *used = turns.wait(who, *used + 10);
        }
        assert_eq!(order, "babab".to_owned() + "a");
    }

    #[test]
    fn who_waits_no_longer_has_no_turn() {
        let mut turns = Turns::default();
        turns.wait(1, 0);
        turns.wait(2, 0);
        turns.remove(&1);
        assert_eq!((turns.next(), turns.next()), (Some(2), None));
    }
}
