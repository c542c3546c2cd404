//! Writes the seeds of `codec_d_engine` to seeds/codec_d_engine.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/codec_d_engine");
    fs::create_dir_all(&directory)?;
    let seeds = indelible_d_engine_fuzz::seeds();
    for (name, bytes) in &seeds {
        fs::write(directory.join(name), bytes)?;
    }
    println!("codec_d_engine: {} seeds", seeds.len());
    Ok(())
}
