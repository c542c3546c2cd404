//! How many syncs a decided entry costs on each storage.
//!
//! Not timed: RocksDB counts only when it is asked to, and counting costs it time. The numbers bound
//! what the other tables can show. A storage whose every call is durable on return syncs once a call,
//! so where OmniPaxos hands entries over one by one, the leader pays as many syncs as there are
//! entries, whoever wrote the storage.

use super::{Command, SHAPES, Setting, Store, column};
use crate::grid::{Grid, Table};
use crate::peer::Outcome;
use crate::work::Plan;

/// Entries that are decided in each shape, at least.
const ENTRIES: usize = 1024;
const TURNS_MIN: usize = 4;

/// The tables of the leader's syncs and of those of all three nodes.
pub fn run(plan: &Plan, stores: &[Store], commands: &[Command]) -> Outcome<[Table; 2]> {
    let mut leader = Grid::new("OmniPaxos, syncs of the leader", "syncs/entry", false, super::BASE);
    let mut all = Grid::new("OmniPaxos, syncs of all nodes", "syncs/entry", false, super::BASE);
    for (burst, batch_size, _) in SHAPES.into_iter().filter(|(.., read)| !read) {
        let column = column(burst, batch_size, false);
        for store in stores {
            let dir = plan.fresh("omnipaxos-syncs", &store.name.replace([' ', ','], "-"))?;
            let mut cluster = (store.cluster)(&dir, Setting { batch_size, counted: true })?;
            let (before, decided) = (cluster.syncs(), cluster.decided());
            for _ in 0..(ENTRIES / burst).max(TURNS_MIN) {
                cluster.turn(&commands[..burst])?;
            }
            let (after, decided) = (cluster.syncs(), cluster.decided() - decided);
            leader.record(store.name, &column, vec![(after.0 - before.0) as f64 / decided as f64]);
            all.record(store.name, &column, vec![(after.1 - before.1) as f64 / decided as f64]);
            drop(cluster);
            crate::work::remove(&dir)?;
        }
    }
    let names: Vec<&str> = stores.iter().map(|store| store.name).collect();
    Ok([leader.table(&names), all.table(&names)])
}
