//! A service's pages as the engine knows them: only those reported dirty are read again.

use althing_replica::Service;

/// The pages of a service, kept up to date by what it reports dirty.
#[derive(Default)]
pub struct Shadow(Vec<Vec<u8>>);

/// All pages that a service has now.
pub fn pages(service: &impl Service) -> Vec<Vec<u8>> {
    (0..service.page_count()).map(|index| service.page(index)).collect()
}

impl Shadow {
    /// Takes what changed since the last time, and holds it against all that there is.
    ///
    /// # Panics
    /// When a page changed that was not reported dirty, or is too long.
    pub fn follow(&mut self, service: &mut impl Service) {
        self.0.resize(usize::try_from(service.page_count()).expect("few pages"), Vec::new());
        for index in service.take_dirty() {
            self.0[usize::try_from(index).expect("few pages")] = service.page(index);
        }
        assert!(self.0 == pages(service), "a page changed and was not dirty");
        assert!(
            self.0.iter().all(|page| page.len() <= althing_replica::MAX_PAGE_BYTES),
            "a page is too long"
        );
    }

    /// Brings `fresh` to the state that these pages are.
    ///
    /// # Panics
    /// When it does not take them, or has other pages then.
    pub fn install_into(&self, fresh: &mut impl Service) {
        let given: Vec<&[u8]> = self.0.iter().map(Vec::as_slice).collect();
        fresh.install(&given).expect("pages of a correct replica form a state");
        assert!(self.0 == pages(fresh), "an installed state has other pages");
    }

    /// Whether `service` has exactly these pages.
    pub fn is_of(&self, service: &impl Service) -> bool {
        self.0 == pages(service)
    }
}

/// Installs pages that may come from anybody: refused without a trace, or a state like any other.
///
/// # Panics
/// When refused pages left a trace, or taken ones can't be passed on.
pub fn install_hostile(service: &mut impl Service, hostile: &[Vec<u8>]) {
    let before = pages(service);
    let given: Vec<&[u8]> = hostile.iter().map(Vec::as_slice).collect();
    match service.install(&given) {
        Ok(()) => {
            let mut shadow = Shadow::default();
            drop(service.take_dirty());
            shadow.0 = pages(service);
            shadow.install_into(service);
        }
        Err(_) => assert!(before == pages(service), "a refused state left a trace"),
    }
}
