use alloc::collections::BTreeMap;
use althing_types::{ClientId, Instant};
use core::time::Duration;

/// Clients whose frames are not looked at for a while, because too many of the last ones were bad.
///
/// To find out that a signature is bad takes as long as to check a good one, and more than all else that a
/// replica does with a request. A correct client sends nothing bad, but what it sends may arrive damaged: so
/// good frames make up for bad ones.
#[derive(Debug, Default)]
pub(crate) struct Penalties {
    standings: BTreeMap<ClientId, Standing>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// Bad frames less good ones.
    bad: u32,
    ignored_until: Instant,
}

/// So many bad frames more than good ones are looked at.
const MOST_BAD: u32 = 32;

/// How long a client is ignored then. Afterwards it may send half as many.
const PENALTY: Duration = Duration::from_secs(1);

impl Penalties {
    /// Whether nothing that comes from this client is looked at now.
    pub(crate) fn ignores(&self, now: Instant, client: ClientId) -> bool {
        self.standings.get(&client).is_some_and(|standing| now < standing.ignored_until)
    }

    /// A client of the directory has sent a frame, good or bad.
    pub(crate) fn note(&mut self, now: Instant, client: ClientId, is_good: bool) {
        if is_good {
            if let Some(standing) = self.standings.get_mut(&client) {
                standing.bad -= 1;
                if standing.bad == 0 {
                    self.standings.remove(&client);
                }
            }
            return;
        }
        let standing = self.standings.entry(client).or_default();
        standing.bad += 1;
        if standing.bad >= MOST_BAD {
            *standing = Standing { bad: MOST_BAD / 2, ignored_until: now + PENALTY };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALLORY: ClientId = ClientId(6);

    /// How many of a thousand frames, one each millisecond, are looked at.
    fn looked_at(is_good: impl Fn(u64) -> bool) -> usize {
        let mut penalties = Penalties::default();
        let look = |ms: u64| {
            let now = Instant(ms * 1_000_000);
            let is_ignored = penalties.ignores(now, MALLORY);
            if !is_ignored {
                penalties.note(now, MALLORY, is_good(ms));
            }
            !is_ignored
        };
        (0..5_000).map(look).filter(|is_looked_at| *is_looked_at).count()
    }

    #[test]
    fn who_sends_only_garbage_is_hardly_looked_at() {
        assert_eq!(looked_at(|_| false), 32 + 4 * 16);
        assert_eq!(looked_at(|ms| ms % 3 == 0), 285, "one in three good");
    }

    #[test]
    fn damaged_frames_do_not_count_against_a_client_that_sends_good_ones() {
        assert_eq!(looked_at(|ms| ms % 10 > 3), 5_000);
        let mut penalties = Penalties::default();
        penalties.note(Instant(0), MALLORY, false);
        penalties.note(Instant(0), MALLORY, true);
        penalties.note(Instant(0), MALLORY, true);
        assert!(penalties.standings.is_empty(), "nothing is kept of a client that does as it should");
    }
}
