//! Reading frames again at places that are known.
//!
//! Owns: that each is checked as it is read, so that no bytes are taken for a frame because others
//! were one before. Does not own: the places (`survey`), nor what stands at them (`format::kind`).
//!
//! Memory: one window, or one frame if that is longer.

use std::path::PathBuf;
use std::sync::Arc;

use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::FrameHeader;
use crate::format::frame::{FRAME_HEADER_BYTES, Salt, decode_frame, peek_header};
use crate::format::kind::Span;
use crate::format::number::to_usize;
use crate::io::{Access, File};

/// Bytes read at a time; a longer frame is read whole.
const WINDOW_BYTES: usize = 256 * 1024;

/// A segment file whose frames are read by their places; cheapest in ascending order.
#[derive(Debug)]
pub(crate) struct Placed {
    path: PathBuf,
    file: Arc<dyn File>,
    salt: Salt,
    window: Vec<u8>,
    /// Offset in the file of the window.
    start: u64,
    /// Where frames end at the latest.
    end: u64,
}

impl Placed {
    /// Opens a file whose frames have this salt and end at `end`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened.
    pub(crate) fn open(dir: &Dir, name: &str, salt: Salt, end: u64) -> Result<Self> {
        let file = dir.open(name, Access::Read)?;
        let (path, window) = (dir.join(name), Vec::new());
        Ok(Self { path, file, salt, window, start: 0, end })
    }

    /// The frame at an offset: its header and its payload.
    ///
    /// # Errors
    /// [`Error::Io`] if the device does not give it; [`Error::Damaged`] if it is no sound frame.
    pub(crate) fn frame(&mut self, offset: u64) -> Result<(FrameHeader, &[u8])> {
        let room = to_usize(self.end.saturating_sub(offset));
        let mut needed = FRAME_HEADER_BYTES.min(room);
        loop {
            if self.at(offset).len() < needed {
                self.fill(offset, needed, room)?;
            }
            match peek_header(self.at(offset), &self.salt, offset) {
                Ok(header) if needed < header.frame_bytes().min(room) => {
                    needed = header.frame_bytes().min(room);
                }
                _ => break,
            }
        }
        match decode_frame(self.at(offset), &self.salt, offset) {
            Ok((header, payload, _)) => Ok((header, payload)),
            Err(error) => {
                let (path, reason) = (self.path.clone(), error.damage());
                Err(Error::Damaged { path, offset, indexes: None, reason })
            }
        }
    }

    /// The frame of an entry that was found here before.
    ///
    /// # Errors
    /// As [`Self::frame`]; [`Damage::Unsteady`] if it is not here any more.
    pub(crate) fn entry(&mut self, offset: u64, index: u64) -> Result<(FrameHeader, &[u8])> {
        let path = self.path.clone();
        let changed = || {
            let (indexes, reason) = (Some(index..index.saturating_add(1)), Damage::Unsteady);
            Error::Damaged { path, offset, indexes, reason }
        };
        match self.frame(offset) {
            Ok((header, payload))
                if Span::of(&header, payload).is_some_and(|span| span.is_entry(index)) =>
            {
                Ok((header, payload))
            }
            Ok(_) | Err(Error::Damaged { .. }) => Err(changed()),
            Err(error) => Err(error),
        }
    }

    fn at(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).map(to_usize);
        at.and_then(|at| self.window.get(at..)).unwrap_or(&[])
    }

    /// Moves the window: to as much as is cheap, or, where the device does not give that, to what is
    /// needed.
    fn fill(&mut self, offset: u64, needed: usize, room: usize) -> Result<()> {
        self.start = offset;
        for length in [needed.max(WINDOW_BYTES).min(room), needed] {
            self.window.resize(length, 0);
            match self.file.read_at(offset, &mut self.window) {
                Ok(()) => return Ok(()),
                Err(source) if length == needed => {
                    self.window = Vec::new();
                    return Err(Error::io("read", &*self.path, source));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}
