//! Signatures of sites that are checked by other processors before they are asked for.
//!
//! To check one takes most of what a site's server does for a message. While its group orders a message the server waits for
//! others anyhow, and votes of several sites come at the same time: so each check that can be foreseen is begun at once, on
//! a thread of its own, and whoever asks waits for what is under way.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use althing_crypto::site::{SitePublic, SiteSignature, SiteStatement, SiteVerifier};
use althing_types::SiteId;
use tokio::runtime::Handle;

/// How many checks wait to be begun at most, and how many results to be asked for.
const MOST_WAITING: usize = 256;

/// The most threads that check.
const MOST_THREADS: usize = 8;

/// Something to be checked.
type Check = (SiteId, SiteStatement, SiteSignature);

/// The keys of all sites, by id, and who checks with them.
#[derive(Debug)]
pub(crate) struct VerifierAhead(Arc<Checks>);

#[derive(Debug)]
struct Checks {
    verifier: Box<dyn SiteVerifier>,
    /// Of which sites it takes long, by id.
    are_threshold: Vec<bool>,
    /// As many as there are processors; none where there is but one.
    most_threads: usize,
    standing: Mutex<Standing>,
    ended: Condvar,
}

/// Where checks stand: each is in one of these, or nowhere.
#[derive(Debug, Default)]
struct Standing {
    waiting: VecDeque<Check>,
    running: BTreeSet<Check>,
    /// With what came of them, the oldest first.
    done: VecDeque<(Check, bool)>,
    threads: usize,
}

impl Standing {
    /// What came of a check, which nobody asks for again.
    fn take_result(&mut self, check: &Check) -> Option<bool> {
        let place = self.done.iter().position(|(done, _)| done == check)?;
        self.done.remove(place).map(|(_, is_good)| is_good)
    }

    fn keep_result(&mut self, check: Check, is_good: bool) {
        if self.done.len() == MOST_WAITING {
            self.done.pop_front();
        }
        self.done.push_back((check, is_good));
    }

    fn knows(&self, check: &Check) -> bool {
        self.waiting.contains(check)
            || self.running.contains(check)
            || self.done.iter().any(|(done, _)| done == check)
    }
}

impl VerifierAhead {
    pub(crate) fn new(sites: Vec<SitePublic>) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        // What takes as long as handing it over is checked when it is asked for.
        let are_threshold: Vec<bool> = sites.iter().map(SitePublic::is_threshold).collect();
        let is_worth_it = processors > 1 && are_threshold.contains(&true);
        let most_threads = if is_worth_it { processors.min(MOST_THREADS) } else { 0 };
        Self::with(Box::new(sites), are_threshold, most_threads)
    }

    fn with(verifier: Box<dyn SiteVerifier>, are_threshold: Vec<bool>, most_threads: usize) -> Self {
        let (standing, ended) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Checks { verifier, are_threshold, most_threads, standing, ended }))
    }
}

impl Checks {
    /// Nobody panics who holds it.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, (site, statement, signature): &Check) -> bool {
        self.verifier.verify(*site, statement, signature)
    }

    /// Checks what waits, until nothing does.
    fn work(&self) {
        let mut standing = self.standing();
        while let Some(check) = standing.waiting.pop_front() {
            standing.running.insert(check);
            drop(standing);
            // What panics here does so again where it is asked for, and stops that; nobody is left waiting.
            let is_good = catch_unwind(AssertUnwindSafe(|| self.check(&check)));
            standing = self.standing();
            standing.running.remove(&check);
            if let Ok(is_good) = is_good {
                standing.keep_result(check, is_good);
            }
            self.ended.notify_all();
        }
        standing.threads -= 1;
    }
}

impl SiteVerifier for VerifierAhead {
    fn verify(&self, site: SiteId, statement: &SiteStatement, signature: &SiteSignature) -> bool {
        let check = (site, *statement, *signature);
        let mut standing = self.0.standing();
        loop {
            if let Some(is_good) = standing.take_result(&check) {
                return is_good;
            }
            if !standing.running.contains(&check) {
                break;
            }
            standing = self.0.ended.wait(standing).unwrap_or_else(PoisonError::into_inner);
        }
        // All threads are busy with others.
        standing.waiting.retain(|waiting| *waiting != check);
        drop(standing);
        self.0.check(&check)
    }

    fn can_foresee(&self) -> bool {
        self.0.most_threads > 0
    }

    /// Without a runtime around it, nothing is done ahead.
    fn foresee(&self, site: SiteId, statement: SiteStatement, signature: SiteSignature) {
        let check = (site, statement, signature);
        let is_threshold = self.0.are_threshold.get(usize::from(site.0)) == Some(&true);
        let Ok(runtime) = Handle::try_current() else { return };
        let mut standing = self.0.standing();
        let has_room = standing.waiting.len() < MOST_WAITING;
        if !is_threshold || !self.can_foresee() || !has_room || standing.knows(&check) {
            return;
        }
        standing.waiting.push_back(check);
        let is_for_another = standing.threads < self.0.most_threads;
        standing.threads += usize::from(is_for_another);
        drop(standing);
        if is_for_another {
            let checks = Arc::clone(&self.0);
            runtime.spawn_blocking(move || checks.work());
        }
    }
}

impl Drop for VerifierAhead {
    /// Nobody asks any more.
    fn drop(&mut self) {
        self.0.standing().waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_crypto::site::{SiteBatch, SiteDeal};
    use althing_crypto::{Domain, KeySeed};
    use althing_types::{GroupId, Quorums, ReplicaId};
    use std::collections::BTreeMap;

    /// Two sites of four, of which any two sign, and what the first one says.
    fn sites_and_checks(said: u8) -> (Vec<SitePublic>, Vec<Check>) {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let deals = [1, 2].map(|seed| SiteDeal::threshold(quorums, &KeySeed::from([seed; 32])));
        let check = |number: u8| {
            let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, &[number][..])]);
            let statement = batch.statement();
            let share = |server: u16| deals[0].secrets[usize::from(server)].share(&statement);
            let shares: BTreeMap<_, _> = (0..2).map(|server| (ReplicaId(server), share(server))).collect();
            let signature = deals[0].shares.combine(&statement, &shares).signature;
            (SiteId(0), statement, signature.expect("two are enough"))
        };
        (deals.iter().map(|deal| *deal.shares.public()).collect(), (0..said).map(check).collect())
    }

    /// As on a machine with so many processors.
    fn verifier(sites: &[SitePublic], most_threads: usize) -> VerifierAhead {
        let are_threshold = sites.iter().map(SitePublic::is_threshold).collect();
        VerifierAhead::with(Box::new(sites.to_vec()), are_threshold, most_threads)
    }

    #[tokio::test]
    async fn what_was_foreseen_is_found_as_it_is_and_by_others() {
        let (sites, checks) = sites_and_checks(12);
        let verifier = verifier(&sites, 2);
        for (site, statement, signature) in &checks {
            verifier.foresee(*site, *statement, *signature);
            verifier.foresee(SiteId(1), *statement, *signature);
        }
        assert!(verifier.0.standing().threads <= 2);
        while verifier.0.standing().done.len() < 2 * checks.len() {
            tokio::task::yield_now().await;
        }
        for (site, statement, signature) in &checks {
            assert!(verifier.verify(*site, statement, signature));
            assert!(!verifier.verify(SiteId(1), statement, signature), "the other one has not said it");
        }
        let standing = verifier.0.standing();
        assert!(standing.done.is_empty() && standing.waiting.is_empty() && standing.running.is_empty());
    }

    #[tokio::test]
    async fn whoever_asks_waits_for_what_is_under_way_and_does_what_is_not() {
        let (sites, checks) = sites_and_checks(40);
        let verifier = verifier(&sites, 1);
        for (site, statement, signature) in &checks {
            verifier.foresee(*site, *statement, *signature);
        }
        assert!(
            checks
                .iter()
                .rev()
                .all(|(site, statement, signature)| { verifier.verify(*site, statement, signature) })
        );
        let standing = verifier.0.standing();
        assert!(standing.waiting.is_empty() && standing.running.is_empty(), "nothing is done twice");
    }

    /// One that panics.
    #[derive(Debug)]
    struct Broken;

    impl SiteVerifier for Broken {
        fn verify(&self, _: SiteId, _: &SiteStatement, _: &SiteSignature) -> bool {
            panic!("planted")
        }
    }

    #[tokio::test]
    async fn nobody_is_left_waiting_for_a_check_that_has_panicked() {
        let (_, checks) = sites_and_checks(2);
        let verifier = VerifierAhead::with(Box::new(Broken), vec![true], 1);
        for (site, statement, signature) in &checks {
            verifier.foresee(*site, *statement, *signature);
        }
        while verifier.0.standing().threads > 0 {
            tokio::task::yield_now().await;
        }
        for (site, statement, signature) in &checks {
            let asked = catch_unwind(AssertUnwindSafe(|| verifier.verify(*site, statement, signature)));
            assert!(asked.is_err(), "whoever asks does it again");
        }
        let standing = verifier.0.standing();
        assert!(standing.running.is_empty() && standing.waiting.is_empty() && standing.done.is_empty());
    }

    #[tokio::test]
    async fn what_waits_and_what_nobody_asks_for_is_bounded() {
        let (sites, checks) = sites_and_checks(1);
        let verifier = verifier(&sites, 1);
        // Nobody works meanwhile.
        verifier.0.standing().threads = 1;
        let (_, statement, signature) = checks[0];
        let plain = SiteDeal::plain(1, &KeySeed::from([3; 32]));
        assert!(!VerifierAhead::new(vec![*plain.shares.public()]).can_foresee());
        for number in 0..=u8::MAX {
            let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, &[number][..])]);
            verifier.foresee(SiteId(0), batch.statement(), signature);
        }
        verifier.foresee(SiteId(1), statement, signature);
        assert_eq!(verifier.0.standing().waiting.len(), MOST_WAITING);
        verifier.0.work();
        verifier.0.standing().threads = 1;
        verifier.foresee(SiteId(1), statement, signature);
        verifier.0.work();
        assert_eq!(verifier.0.standing().done.len(), MOST_WAITING);
    }
}
