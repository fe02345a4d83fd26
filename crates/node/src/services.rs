use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use althing_replica::Service;

type Make = Arc<dyn Fn() -> Box<dyn Service + Send> + Send + Sync>;

/// The services that a program brings along, by the names under which replica files ask for them.
#[derive(Clone, Default)]
pub struct Services(BTreeMap<String, Make>);

impl Services {
    /// Adds a service: `make` gives a new one in its initial state.
    #[must_use]
    pub fn with<S: Service + Send + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name.to_owned(), Arc::new(move || Box::new(make())));
        self
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn make(&self, name: &str) -> Option<Box<dyn Service + Send>> {
        self.0.get(name).map(|make| make())
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
