//! The contents of a disk, and what was written to it in which order.
//!
//! Owns: which writes a power cut leaves. Does not own: how they got here (`recorder`).
//!
//! The model: a write is durable once a flush after it has returned. Of the others each is lost,
//! kept, or torn between two of its 512-byte sectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lossy::dice::Dice;

pub(super) const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// A sparse disk. Cloning shares the bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

impl Image {
    pub(super) fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        for_pages(offset, count, |page, within, range| {
            if let Some(found) = self.pages.get(&page) {
                bytes[range].copy_from_slice(&found[within]);
            }
        });
        bytes
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for_pages(offset, bytes.len(), |page, within, range| {
            let empty = || Arc::new([0; PAGE_BYTES]);
            let target = self.pages.entry(page).or_insert_with(empty);
            Arc::make_mut(target)[within].copy_from_slice(&bytes[range]);
        });
    }
}

/// Hands `act` the number of each page, the part of it, and the part of the bytes.
fn for_pages(
    offset: u64,
    count: usize,
    mut act: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let page_bytes = PAGE_BYTES as u64;
    let mut done = 0;
    while done < count {
        let at = offset + done as u64;
        let within = usize::try_from(at % page_bytes).unwrap();
        let take = (PAGE_BYTES - within).min(count - done);
        act(at / page_bytes, within..within + take, done..done + take);
        done += take;
    }
}

/// Something that happened while the program ran.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Flush,
    /// The program said this line, and goes on only now.
    Said(String),
}

/// How the writes ended that no flush had covered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fates {
    pub(super) lost: u64,
    pub(super) kept: u64,
    pub(super) torn: u64,
}

/// The disk after a power cut before event number `end`. `whole` names places that are written in
/// one piece or not at all.
pub(super) fn after_power_cut(
    base: &Image,
    events: &[Event],
    end: usize,
    whole: &[u64],
    dice: &mut Dice,
    fates: &mut Fates,
) -> Image {
    let flushed =
        events[..end].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
    let mut image = base.clone();
    let odds = [0, 2, 8, 8, 14, 16][usize::try_from(dice.below(6)).unwrap()];
    let torn = dice.below(3) * 3;
    for (at, event) in events[..end].iter().enumerate() {
        let Event::Write { offset, bytes } = event else { continue };
        let range = *offset..*offset + bytes.len() as u64;
        let in_one_piece = whole.iter().any(|place| range.contains(place));
        if at < flushed {
            image.write(*offset, bytes);
        } else if dice.below(16) < torn && !in_one_piece && bytes.len() > SECTOR_BYTES {
            fates.torn += 1;
            for (nth, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if dice.below(2) == 0 {
                    image.write(offset + (nth * SECTOR_BYTES) as u64, sector);
                }
            }
        } else if dice.below(16) < odds {
            fates.kept += 1;
            image.write(*offset, bytes);
        } else {
            fates.lost += 1;
        }
    }
    image
}
