use super::server::Server;
use crate::dice::Dice;
use crate::disk::{AnyStorage, Disk, DiskError, End};
use crate::fault::Injections;
use crate::medium::Medium;
use althing_replica::{Durability, Startup};

/// A machine that runs one server of a site: its disk, and the server while it is up.
pub(super) struct Host {
    /// `None` while the machine is down.
    pub(super) server: Option<Box<dyn Server>>,
    pub(super) disk: Disk,
    /// How often it has gone down.
    pub(super) incarnation: u32,
    dice: Dice,
}

impl Host {
    pub(super) fn new(durability: Durability, dice: &mut Dice) -> Self {
        let medium = Medium::new(dice.fork(), Injections::default());
        Self { server: None, disk: Disk::new(medium, durability), incarnation: 0, dice: dice.fork() }
    }

    /// Starts a server on it; gives what that has to be started with.
    ///
    /// # Errors
    /// When production code refuses what is on the disk.
    pub(super) fn boot(&mut self, server: Box<dyn Server>) -> Result<Startup, DiskError> {
        let storage = || -> AnyStorage { Box::new(self.disk.medium.clone()) };
        let storages = [storage(), storage()];
        let startup = self.disk.open(storages, true)?;
        self.server = Some(server);
        Ok(startup)
    }

    /// The server goes down, alone or with the machine.
    pub(super) fn crash(&mut self, how: End) {
        if self.server.take().is_some() {
            self.incarnation += 1;
            self.disk.end(how, &mut self.dice);
        }
    }

    /// What was being written is; gives back the last record among it.
    ///
    /// # Errors
    /// When the disk failed.
    pub(super) fn written(&mut self) -> Result<Option<u64>, DiskError> {
        self.disk.finish(&mut self.dice).map(|(_, last)| last)
    }
}
