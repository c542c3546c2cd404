//! Writes the seeds of both targets to adapters/d-engine/fuzz/seeds.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, _, seeds) in indelible_d_engine_fuzz::TARGETS {
        let directory = root.join(target);
        fs::create_dir_all(&directory)?;
        let seeds = seeds();
        for (name, bytes) in &seeds {
            fs::write(directory.join(name), bytes)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
