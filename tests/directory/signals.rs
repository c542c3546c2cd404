//! Pages that cannot be had: an error of the call that wants them, and no signal.

use std::fs;

use super::{alone, in_a_child, names, options};
use indelible::{Error, Log};

/// A file that was cut short stands for a medium that gives a page no more once it was reclaimed. What
/// the call does not bring in itself would end the process.
pub(crate) fn page_that_cannot_be_had_again_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    for index in 0..3_u8 {
        log.append(&[index; 15_000]).unwrap();
    }
    log.close().unwrap();
    let answer = in_a_child(|| {
        let (log, _) = Log::open(place.path(), &options().background(false)).unwrap();
        assert_eq!(log.read(0..3).unwrap().get(2), Some(&[2; 15_000][..]));
        let name = names(place.path(), ".seg").remove(0);
        let file = fs::OpenOptions::new().write(true).open(place.path().join(name)).unwrap();
        file.set_len(8192).unwrap();
        u8::from(!matches!(log.read(0..3), Err(Error::Io { .. })))
    });
    assert_eq!(answer, 0, "it was not refused");
}

#[test]
fn page_that_cannot_be_had_again_ends_no_process() {
    if alone("signals::page_that_cannot_be_had_again_ends_no_process") {
        page_that_cannot_be_had_again_is_an_error();
    }
}
