//! A service's pages as the engine knows them: only what the service saves again is seen.

use althing_replica::{Page, Pages, Service};

/// A service, and its pages as it has saved them.
pub struct Shadowed<S> {
    /// The service.
    pub service: S,
    pages: Pages,
}

impl<S: Service> Shadowed<S> {
    /// A service in its initial state.
    pub fn new(mut service: S) -> Self {
        let mut pages = Pages::default();
        service.save(&mut pages);
        Self { service, pages }
    }

    /// The service's pages, as of now.
    pub fn pages(&mut self) -> &mut Pages {
        self.service.save(&mut self.pages);
        &mut self.pages
    }

    /// Takes over the state that `pages` show, and says whether it is one.
    ///
    /// # Panics
    /// When refused pages left a trace, or the service shows others than it took.
    pub fn install(&mut self, mut pages: Pages) -> bool {
        let before = self.pages().clone();
        let changed = self.pages.differing(&mut pages);
        let is_taken = self.service.install(&pages, &changed).is_ok();
        let expected = if is_taken { pages } else { before };
        self.pages = expected.clone();
        assert!(*self.pages() == expected, "an installation left other pages than it should");
        is_taken
    }
}

/// Installs pages that may come from anybody in `one`: refused without a trace, or a state like any
/// other, that `fresh` takes, too.
///
/// # Panics
/// When that does not hold.
pub fn install_hostile<S: Service>(one: &mut Shadowed<S>, fresh: S, hostile: Vec<(u32, Vec<u8>)>) {
    let hostile = hostile
        .into_iter()
        .filter(|(index, page)| {
            *index < althing_replica::MAX_PAGES && page.len() <= althing_replica::MAX_PAGE_BYTES
        })
        .map(|(index, page)| (index, Page::from(page)));
    if one.install(hostile.collect()) {
        let pages = one.pages().clone();
        assert!(Shadowed::new(fresh).install(pages), "a state that was taken can't be passed on");
    }
}
