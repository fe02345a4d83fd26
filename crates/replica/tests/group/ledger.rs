//! A service to test the engine with: numbered cells, each a page of its own.

use althing_replica::{Context, Emission, InstallError, Outcome, Service};
use althing_types::{ClientId, Instant, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeSet;

#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(crate) enum Operation {
    /// Sets a cell; the result is what it held before.
    Write(u32, Vec<u8>),
    Read(u32),
    /// Emits bytes on a channel.
    Emit(u32, Vec<u8>),
    /// The result has so many bytes.
    Long(u32),
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
            Ok(Operation::Emit(channel, payload)) => {
                Outcome { result: Vec::new(), emissions: vec![Emission { channel, payload }] }
            }
            Ok(Operation::Long(bytes)) => vec![7; bytes as usize].into(),
            Err(_) => b"malformed".to_vec().into(),
        }
    }

    fn query(&self, operation: &[u8], _: ClientId) -> Option<Vec<u8>> {
        match decode(operation, 1 << 22) {
            Ok(Operation::Read(cell)) => Some(self.cells[cell as usize].clone()),
            _ => None,
        }
    }

    fn page_count(&self) -> u32 {
        600
    }

    fn page(&self, index: u32) -> Vec<u8> {
        encode(&self.cells[index as usize])
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    fn install(&mut self, pages: &[&[u8]]) -> Result<(), InstallError> {
        let broken = |page| InstallError { page, reason: "it is no cell" };
        self.cells = (0..)
            .zip(pages)
            .map(|(page, bytes)| decode(bytes, 1 << 17).map_err(|_| broken(page)))
            .collect::<Result<_, _>>()?;
        self.dirty = (0..600).collect();
        Ok(())
    }
}
