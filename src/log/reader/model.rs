//! Borrowed reads against trim under loom: every order in which readers can take a segment out of
//! the view, hold it, and let it go, while a trim takes it away and recycles its file.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib --target-dir target/loom model`
//!
//! A copy of the steps of `Shared::find`, `Entries` and `Shared::reclaim`, on loom's locks and
//! counted references. Checked: the bytes of a segment are never written while somebody reads them,
//! and what was read came before whatever is written later, with no help from any other lock.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, RwLock};
use loom::thread;

/// A segment's file: the number of its use. Relaxed on purpose: what a reader may rely on has to
/// come through the lock and the count.
struct Segment(AtomicU64);

/// As `View`: the one segment of the log, until it is trimmed.
type View = RwLock<Option<Arc<Segment>>>;

/// As a read that is borrowed: what it says stays so for as long as it is held.
fn read(view: &View) -> bool {
    let piece = view.read().unwrap().clone();
    let Some(segment) = piece else { return false };
    for _ in 0..2 {
        assert_eq!(segment.0.load(Ordering::Relaxed), 1, "the file is in use again");
    }
    true
}

/// As a trim and the checkpoint after it: whether the file is used again.
fn trim(view: &View) -> bool {
    let dead = view.write().unwrap().take();
    let unused = dead.and_then(|segment| Arc::try_unwrap(segment).ok());
    let Some(segment) = unused else { return false };
    segment.0.store(2, Ordering::Relaxed);
    true
}

#[test]
fn segments_are_recycled_when_nobody_reads_them_any_more() {
    loom::model(|| {
        let view: Arc<View> = Arc::new(RwLock::new(Some(Arc::new(Segment(AtomicU64::new(1))))));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let view = Arc::clone(&view);
                thread::spawn(move || read(&view))
            })
            .collect();
        let recycled = trim(&view);
        let held = readers.into_iter().any(|reader| reader.join().unwrap());
        assert!(recycled || held, "a segment that nobody held was not recycled");
        assert!(!read(&view));
    });
}
