//! A service to test the engine with: numbered cells, each a page of its own.

use althing_replica::{Context, Emission, InstallError, LateResult, Outcome, Pages, Service};
use althing_types::{ClientId, Instant, RequestNumber, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeSet;

#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) enum Operation {
    /// Sets a cell; the result is what it held before.
    Write(u32, Vec<u8>),
    Read(u32),
    /// Has a cell saved as it is.
    Touch(u32),
    /// Emits bytes on a channel.
    Emit(u32, Vec<u8>),
    /// The result has so many bytes.
    Long(u32),
    /// The result comes later.
    Defer,
    /// Gives the result of the operation of that number of that client, which was deferred.
    Settle(ClientId, RequestNumber, Vec<u8>),
}

pub(crate) struct Ledger {
    cells: Vec<Vec<u8>>,
    dirty: BTreeSet<u32>,
    /// What each execution was told, in order; not part of the state.
    pub(crate) contexts: Vec<(Instant, [u8; 32])>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { cells: vec![Vec::new(); 600], dirty: (0..600).collect(), contexts: Vec::new() }
    }

    pub(crate) fn cells(&self) -> &[Vec<u8>] {
        &self.cells
    }
}

impl Service for Ledger {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        self.contexts.push((context.time, context.seed));
        match decode(operation, 1 << 22) {
            Ok(Operation::Write(cell, bytes)) => {
                self.dirty.insert(cell);
                std::mem::replace(&mut self.cells[cell as usize], bytes).into()
            }
            Ok(Operation::Read(cell)) => self.cells[cell as usize].clone().into(),
            Ok(Operation::Touch(cell)) => {
                self.dirty.insert(cell);
                Vec::new().into()
            }
            Ok(Operation::Emit(channel, payload)) => {
                Outcome { emissions: vec![Emission { channel, payload }], ..Outcome::default() }
            }
            Ok(Operation::Long(bytes)) => vec![7; bytes as usize].into(),
            Ok(Operation::Defer) => Outcome::deferred(),
            Ok(Operation::Settle(client, number, result)) => {
                Outcome { late: vec![LateResult { client, number, result }], ..Outcome::default() }
            }
            Err(_) => b"malformed".to_vec().into(),
        }
    }

    fn query(&self, operation: &[u8], _: ClientId) -> Option<Vec<u8>> {
        match decode(operation, 1 << 22) {
            Ok(Operation::Read(cell)) => Some(self.cells[cell as usize].clone()),
            _ => None,
        }
    }

    fn save(&mut self, pages: &mut Pages) {
        for index in std::mem::take(&mut self.dirty) {
            pages.set(index, encode(&self.cells[index as usize]));
        }
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        let broken = |page| InstallError { page, reason: "it is no cell" };
        let mut cells = self.cells.clone();
        for index in changed {
            let cell = cells.get_mut(*index as usize).ok_or(broken(*index))?;
            *cell = match pages.page(*index) {
                Some(bytes) => decode(bytes, 1 << 17).map_err(|_| broken(*index))?,
                None => Vec::new(),
            };
        }
        self.cells = cells;
        Ok(())
    }
}
