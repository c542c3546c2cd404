//! `indelible backup`: a verified copy of a log that nobody has open.

use std::io::Write;
use std::path::PathBuf;

use indelible::{Log, Options};

use crate::Dir;
use crate::text::{count, size};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of the copy; it must not hold a log.
    #[arg(value_name = "DEST")]
    dest: PathBuf,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    // As it is: nothing is prepared, and no thread runs.
    let options = Options::new().background(false).allow_holes(true);
    let (log, _) = Log::open(&args.dir.dir, &options)?;
    let copy = log.backup(&args.dest);
    log.close()?;
    let copy = copy?;
    writeln!(
        out,
        "copied log {}, entries {}..{}, to {}",
        copy.uuid,
        copy.first,
        copy.next,
        args.dest.display(),
    )?;
    writeln!(
        out,
        "{} linked, {} copied ({}); {} read back",
        count(copy.linked, "file", "files"),
        count(copy.copied, "file", "files"),
        size(copy.bytes_copied),
        count(copy.entries_verified, "entry", "entries"),
    )?;
    writeln!(out, "a node started from it has forgotten what it promised since")?;
    Ok(())
}
