//! A forked child opens a log of its own, and gets no further with what its parent had begun.

use std::io::Read;
use std::ops::ControlFlow;

use indelible::{Batch, Error, Log, Verdict};

use super::{alone, end, ended, fork, in_a_child, options, side_file};

fn is_forked(error: &std::io::Error) -> bool {
    let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(ours, Some(Error::Forked))
}

#[test]
fn child_opens_a_log_of_its_own() {
    if alone("forked::child_opens_a_log_of_its_own") {
        let place = tempfile::tempdir().unwrap();
        let log = Log::create(place.path().join("parent"), &options()).unwrap();
        let own = place.path().join("child");
        let code = in_a_child(|| {
            let child = Log::create(&own, &options()).unwrap();
            child.append(b"mine").unwrap();
            // Its grandchild is one as well, for both logs.
            let grandchild = in_a_child(|| {
                let mine = matches!(child.append(b"no"), Err(Error::Forked));
                let parents = matches!(log.append(b"no"), Err(Error::Forked));
                u8::from(!mine || !parents)
            });
            child.close().unwrap();
            grandchild + u8::from(!matches!(log.append(b"no"), Err(Error::Forked)))
        });
        assert_eq!(code, 0);
        let (child, report) = Log::open(&own, &options()).unwrap();
        assert_eq!((child.entry(0).unwrap(), report.verdict), (b"mine".to_vec(), Verdict::Clean));
        assert_eq!(log.append(b"first").unwrap().next(), 1);
    }
}

#[test]
fn child_forked_while_the_log_is_read_reads_no_further() {
    if !alone("forked::child_forked_while_the_log_is_read_reads_no_further") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    let file = side_file(&log);
    log.commit(Batch::new().attach("snapshot", file)).unwrap();
    for index in 0..10_u8 {
        log.append(&[index; 20_000]).unwrap();
    }
    let mut walk = log.iter(0);
    assert_eq!(walk.next().unwrap().unwrap().0, 0);
    let open = || log.side_file("snapshot").unwrap().unwrap();
    let (mut begun, mut whole) = (open(), Some(open()));
    begun.read_exact(&mut [0; 3]).unwrap();
    let code = in_a_child(|| {
        let refused = [
            matches!(walk.next(), Some(Err(Error::Forked))),
            walk.next().is_none(),
            begun.read(&mut [0; 3]).is_err_and(|error| is_forked(&error)),
            matches!(whole.take().unwrap().read_all(), Err(Error::Forked)),
        ];
        refused.iter().position(|refused| !refused).map_or(0, |at| u8::try_from(at + 1).unwrap())
    });
    assert_eq!(code, 0);
    assert_eq!(walk.count(), 9);
    assert_eq!(whole.unwrap().read_all().unwrap(), b"snapshot");
}

#[test]
fn child_forked_within_a_scrub_scrubs_no_further() {
    if !alone("forked::child_forked_within_a_scrub_scrubs_no_further") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path(), &options()).unwrap();
    for index in 0..10_u8 {
        log.append(&[index; 20_000]).unwrap();
    }
    for in_child in [ControlFlow::Continue(()), ControlFlow::Break(())] {
        let mut child = None;
        let scrubbed = log.scrub(None, &mut |_| match *child.get_or_insert_with(fork) {
            0 => in_child,
            _ => ControlFlow::Continue(()),
        });
        // The child comes here as well.
        let child = child.unwrap();
        if child == 0 {
            end(u8::from(!matches!(scrubbed, Err(Error::Forked))));
        }
        assert_eq!(ended(child), 0, "{in_child:?}");
        assert!(scrubbed.unwrap().findings.is_empty());
    }
}
