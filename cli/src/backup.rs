//! `indelible backup`: a verified copy of a log that nobody has open.

use std::io::Write;
use std::path::PathBuf;

use indelible::{Backup, Error};

use crate::exit::Exit;
use crate::json::{Body, Made, print};
use crate::progress::{Meter, Unit};
use crate::text::{count, holds_log, size};
use crate::{Dir, Failure, How};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of the copy; it must not hold a log.
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Copies every file. By default sealed segments are hard links where the file system allows,
    /// which protects against a mistake, not against the disk.
    #[arg(long)]
    copy: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let left = format!("{} holds part of a copy: remove it", args.dest.display());
    let mut meter = Meter::new("backup", Unit::Bytes, how, &left);
    let copy = Backup::of_stopped(&args.dir.dir, &args.dest, !args.copy, &mut |it| meter.at(it));
    drop(meter);
    let copy = copy.map_err(|error| match error {
        Error::Locked { .. } => {
            let advice = "stop that process first, or call `Log::backup` in it: that copies a log \
                          while it is used";
            Failure::Refused(error.to_string(), Some(advice), Exit::Unreadable)
        }
        Error::InvalidArgument { .. } => {
            let advice = "choose a directory outside it; nothing was written";
            Failure::Refused(error.to_string(), Some(advice), Exit::Usage)
        }
        // The files of a copy have their names before the one that says what they are.
        Error::AlreadyExists { .. } if !holds_log(&args.dest) => {
            let advice = "it lacks the file `metadata`, as a backup that was cut short leaves it: if it is \
                          one, remove it";
            Failure::Refused(error.to_string(), Some(advice), Exit::Unreadable)
        }
        error => error.into(),
    })?;
    if how.json {
        return print(out, Body::Backup(Made::new(&copy, args.dest.display().to_string())));
    }
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
    Ok(Exit::Sound)
}
