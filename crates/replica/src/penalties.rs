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
    /// Whether nothing that comes in this client's session is looked at now.
    pub(crate) fn ignores(&self, now: Instant, (session, owner): (ClientId, ClientId)) -> bool {
        let ignores =
            |who| self.standings.get(&who).is_some_and(|standing: &Standing| now < standing.ignored_until);
        ignores(session) || ignores(owner)
    }

    /// A client of the directory has sent a frame in this session of its, good or bad. Bad ones count for
    /// the client, or it could send as many in each session; but not where it is only a key that it does
    /// not know, in all sessions at once: then they count for the session.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        (session, owner): (ClientId, ClientId),
        is_good: bool,
        is_about_keys: bool,
    ) {
        if is_good {
            self.make_up(session);
            if owner != session {
                self.make_up(owner);
            }
            return;
        }
        let standing = self.standings.entry(if is_about_keys { session } else { owner }).or_default();
        standing.bad += 1;
        if standing.bad >= MOST_BAD {
            *standing = Standing { bad: MOST_BAD / 2, ignored_until: now + PENALTY };
        }
    }

    fn make_up(&mut self, who: ClientId) {
        if let Some(standing) = self.standings.get_mut(&who) {
            standing.bad -= 1;
            if standing.bad == 0 {
                self.standings.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of a client, and the client.
    const MALLORY: (ClientId, ClientId) = (ClientId(6), ClientId(6));

    /// How many of a thousand frames, one each millisecond, are looked at.
    fn looked_at(is_good: impl Fn(u64) -> bool) -> usize {
        let mut penalties = Penalties::default();
        let look = |ms: u64| {
            let now = Instant(ms * 1_000_000);
            let is_ignored = penalties.ignores(now, MALLORY);
            if !is_ignored {
                penalties.note(now, MALLORY, is_good(ms), false);
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
        penalties.note(Instant(0), MALLORY, false, false);
        penalties.note(Instant(0), MALLORY, true, false);
        penalties.note(Instant(0), MALLORY, true, false);
        assert!(penalties.standings.is_empty(), "nothing is kept of a client that does as it should");
    }

    /// How many of ten bad frames in each of twenty sessions of a client are looked at.
    fn looked_at_in_sessions(are_about_keys: bool) -> usize {
        let mut penalties = Penalties::default();
        let sessions = (0..200).map(|frame| (ClientId(6 + frame % 20), ClientId(6)));
        let look = |session| {
            let is_ignored = penalties.ignores(Instant(0), session);
            if !is_ignored {
                penalties.note(Instant(0), session, false, are_about_keys);
            }
            !is_ignored
        };
        sessions.map(look).filter(|is_looked_at| *is_looked_at).count()
    }

    #[test]
    fn sessions_share_a_bound_on_garbage_but_none_on_not_knowing_a_key() {
        assert_eq!(looked_at_in_sessions(false), 32);
        assert_eq!(looked_at_in_sessions(true), 200);
        let mut penalties = Penalties::default();
        let session = (ClientId(7), ClientId(6));
        for is_about_keys in [true, false] {
            penalties.note(Instant(0), session, false, is_about_keys);
        }
        penalties.note(Instant(0), session, true, false);
        assert!(penalties.standings.is_empty(), "a good one makes up for both");
    }
}
