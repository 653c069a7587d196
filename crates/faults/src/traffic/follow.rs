//! What changes on the host while packets are lost: its devices, and its own addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::layout::{attach, chains, detach, spare};
use super::{PRIORITY, devices};
use crate::sys::devices::addresses;
use crate::sys::nft::{Change, Hook, Nft, Table};

/// Priorities, from ours on, that chains which are made anew take in turn.
const TURN: i32 = 50;

/// The devices whose egress hooks call a table's rules.
#[derive(Debug)]
pub(super) struct Devices {
    /// By index. One that goes and comes again has another, under whatever name.
    covered: BTreeMap<u32, String>,
    /// Chains at their hooks.
    chains: usize,
    /// How often those were made anew.
    changes: i32,
}

impl Devices {
    /// Those of a table that was just made.
    pub(super) fn new(covered: BTreeMap<u32, String>) -> Devices {
        Devices { chains: chains(covered.len()), covered, changes: 0 }
    }

    /// Covers the devices that there are now, each once.
    ///
    /// From Linux 6.16 on a chain keeps to the names of its devices, before that to the devices. Chains
    /// that are all made anew are right on both. One batch puts them in the old ones' place, and a little
    /// behind it: a packet that passes an old one already without its rules meets a new one with them.
    pub(super) fn follow(&mut self, nft: &mut Nft, table: &Table) -> io::Result<()> {
        let now = devices()?;
        if now == self.covered {
            return Ok(());
        }
        let changed = self.changes.wrapping_add(1);
        let priority = PRIORITY + changed.rem_euclid(TURN);
        let mut changes: Vec<Change> = (0..self.chains).flat_map(|n| detach(table, n)).collect();
        let names: Vec<String> = now.values().cloned().collect();
        changes.extend(attach(table, &Hook::Egress(names), priority));
        nft.commit(changes)?;
        self.chains = chains(now.len());
        (self.covered, self.changes) = (now, changed);
        Ok(())
    }
}

/// This host's own addresses, as its tables spare them.
#[derive(Debug)]
pub(super) struct Own(BTreeSet<IpAddr>);

impl Own {
    /// Those that there are now.
    pub(super) fn find() -> io::Result<Own> {
        Ok(Own(addresses()?))
    }

    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.0
    }

    /// Spares the addresses that there are now. One that was lost may be another host's by now.
    pub(super) fn follow<'a>(
        &mut self,
        nft: &mut Nft,
        tables: impl Iterator<Item = &'a Table>,
    ) -> io::Result<()> {
        let now = addresses()?;
        let (got, lost) = (&now - &self.0, &self.0 - &now);
        if got.is_empty() && lost.is_empty() {
            return Ok(());
        }
        // A batch a table, as at a renewal. Each may be sent again.
        for table in tables {
            nft.commit(spare(table, &got, &lost))?;
        }
        self.0 = now;
        Ok(())
    }
}
