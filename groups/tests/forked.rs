//! A process forks while a thread of it writes, or changes the state of a group: the child is refused,
//! and waits for no lock.

#![expect(unsafe_code, reason = "a fork is unsafe to call; nothing else here is")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::{self, Write as _};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indelible::io::sim::{Op, SimDisk};
use indelible::store::Store;
use indelible::testing::tap::{Look, Tap};
use indelible::{Batch, Error, Log, Options, SideFile, WriteMode};
use indelible_groups::{
    Group, GroupFileReader, GroupFileWriter, GroupStats, Groups, GroupsOptions, copy,
};

/// What a forked child has of the groups of its parent.
struct Inherited {
    groups: Groups,
    group: Group,
    finished: SideFile,
    /// Side files without a byte in their buffer, and with some.
    empty: [GroupFileWriter; 2],
    begun: [GroupFileWriter; 2],
    reader: GroupFileReader,
    /// The same with a part in its buffer.
    read: GroupFileReader,
}

impl Inherited {
    /// From a group that has an entry and, in the cell `file`, a side file.
    fn new(groups: &Groups, group: &Group) -> Self {
        let writer = || group.side_file_writer().unwrap();
        let begun = || {
            let mut begun = writer();
            begun.write_all(b"part").unwrap();
            begun
        };
        let reader = || group.side_file("file").unwrap().unwrap();
        let mut read = reader();
        read.read_exact(&mut [0; 3]).unwrap();
        Self {
            groups: groups.clone(),
            group: group.clone(),
            finished: begun().finish().unwrap(),
            empty: [writer(), writer()],
            begun: [begun(), begun()],
            reader: reader(),
            read,
        }
    }
}

/// `Ok` if a forked child is refused each call as it should be.
fn refused(inherited: Inherited) -> Result<(), u8> {
    let Inherited { groups, group, finished, empty, begun, reader, mut read } = inherited;
    refused_changes(&groups, &group)?;
    refused_looks(&groups, &group)?;
    let [unfinished_empty, empty] = empty;
    let [unfinished, mut begun] = begun;
    check(30, &empty.finish())?;
    begun.flush().map_or(Ok(()), |()| Err(31))?;
    check(32, &begun.finish())?;
    check(33, &reader.read_all())?;
    read.read(&mut [0; 3]).map_or(Ok(()), |_| Err(34))?;
    drop((unfinished_empty, unfinished, finished, group, groups));
    Ok(())
}

fn check<T>(number: u8, result: &indelible::Result<T>) -> Result<(), u8> {
    match result {
        Err(Error::Forked) => Ok(()),
        _ => Err(number),
    }
}

fn refused_changes(groups: &Groups, group: &Group) -> Result<(), u8> {
    check(1, &group.append(b"child"))?;
    check(2, &group.commit(Batch::new().set("promise", b"child")))?;
    check(3, &group.set_lazily("promise", b"child"))?;
    check(4, &group.sync())?;
    check(5, &groups.sync())?;
    check(6, &groups.maintain())?;
    check(7, &group.side_file_writer())?;
    check(8, &groups.close())?;
    check(9, &groups.remove_group(1))?;
    check(10, &groups.open_or_create_group(2))?;
    check(11, &group.refill(0, &[b"child"]))
}

fn refused_looks(groups: &Groups, group: &Group) -> Result<(), u8> {
    check(12, &groups.group(1))?;
    check(13, &group.read(0..1))?;
    check(14, &group.entry(0))?;
    check(15, &group.iter(0).next().unwrap_or(Ok((0, Vec::new()))))?;
    check(16, &group.side_file("file"))?;
    check(17, &Store::check_state(group))?;
    check(18, &group.verify())?;
    check(19, &groups.verify())?;
    // A child may have a log of its own, and must not take the group for an empty one.
    let own = Log::in_memory(&Options::new().background(false)).map_err(|_| 20)?;
    check(21, &copy(group, &own))?;
    let stats = groups.stats();
    let nothing = [
        group.cell("promise").is_none(),
        group.cells().is_empty(),
        (group.first(), group.next(), group.durable()) == (0, 0, 0),
        group.stats() == GroupStats::default(),
        groups.ids().is_empty(),
        (stats.groups, stats.index_bytes, stats.bytes, stats.live_bytes) == (0, 0, 0, 0),
    ];
    match (22..).zip(nothing).find(|(_, is_nothing)| !is_nothing) {
        None => Ok(()),
        Some((number, _)) => Err(number),
    }
}

/// A group with an entry, a cell and a side file.
fn group_of_something(look: Look) -> (Groups, Group) {
    let options =
        Options::new().background(false).segment_bytes(1024 * 1024).write_mode(WriteMode::Pwrite);
    let log = Log::create_in(Arc::new(Tap::new(&SimDisk::new(1), look)), &options).unwrap();
    let groups = Groups::from_log(log, &GroupsOptions::new()).unwrap();
    let group = groups.create_group(1).unwrap();
    let mut file = group.side_file_writer().unwrap();
    file.write_all(b"snapshot").unwrap();
    let file = file.finish().unwrap();
    group.append(b"entry").unwrap();
    group.commit(Batch::new().set("promise", b"parent").attach("file", file)).unwrap();
    (groups, group)
}

/// Runs `child` in a forked child. Returns what it returned.
fn in_a_child(child: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child only calls the groups, which must take care of themselves, and `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(u8::MAX);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code.into()) }
    }
    let mut status = 0;
    for millisecond in 0.. {
        // SAFETY: waits for the child just made; the status is a number of ours.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } != 0 {
            break;
        }
        if millisecond == 20_000 {
            // SAFETY: ends the child just made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(libc::WIFEXITED(status), "the child hung, or was ended by a signal: {status}");
    libc::WEXITSTATUS(status)
}

#[test]
fn forked_child_is_refused_though_a_thread_was_writing() {
    let (inside, is_inside) = channel();
    let (go, may_go) = channel::<()>();
    let meeting = Mutex::new(Some((inside, may_go)));
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    let look = move |_: &SimDisk, op: Op| {
        if op == Op::Write
            && is_armed.load(Ordering::Acquire)
            && let Some((inside, may_go)) = meeting.lock().unwrap().take()
        {
            inside.send(()).unwrap();
            may_go.recv().unwrap();
        }
    };
    let (groups, group) = group_of_something(Arc::new(look));
    let inherited = Inherited::new(&groups, &group);
    armed.store(true, Ordering::Release);
    let other = group.clone();
    let writer = thread::spawn(move || other.append(b"parent").map(drop));
    is_inside.recv_timeout(Duration::from_secs(20)).unwrap();
    let code = in_a_child(|| refused(inherited).err().unwrap_or(0));
    go.send(()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(code, 0, "what the child was to be refused");
    assert_eq!(group.entry(1).unwrap(), b"parent");
    groups.close().unwrap();
}

/// A child that was refused everything, and that has a copy of its group's lock which was held.
const HELD: u8 = 100;

/// Whether the lock of a group is held, by how the group is shown: its state comes before all else that
/// may be locked, and of that nothing is looked at.
fn is_held(group: &Group) -> bool {
    struct Shown(String);
    impl fmt::Write for Shown {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0.push_str(part);
            if self.0.contains("inner: ") { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut shown = Shown(String::new());
    let stopped = write!(shown, "{group:?}");
    assert!(stopped.is_err() && shown.0.contains("state: "), "{}", shown.0);
    shown.0.contains("<locked>")
}

/// Nobody can be stopped under this lock, so a thread takes it again and again, until a child finds that
/// it was held.
#[test]
fn forked_child_is_refused_though_a_thread_was_changing_its_group() {
    let (groups, group) = group_of_something(Arc::new(|_, _| ()));
    let mut inherited = Some(Inherited::new(&groups, &group));
    let (other, ends) = (group.clone(), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&ends);
    let writer = thread::spawn(move || {
        let mut batch = Batch::new();
        for _ in 0..500 {
            batch.append(&b"gone"[..]);
        }
        batch.truncate(1);
        while !is_over.load(Ordering::Acquire) {
            other.submit(&batch).unwrap();
        }
    });
    let held = (0..1000).any(|_| {
        let code = in_a_child(|| {
            let held = is_held(&group);
            // The parent's own stays what it was.
            let inherited = inherited.take().unwrap();
            refused(inherited).err().unwrap_or(if held { HELD } else { 0 })
        });
        assert!([0, HELD.into()].contains(&code), "what the child was to be refused: {code}");
        code == HELD.into()
    });
    ends.store(true, Ordering::Release);
    writer.join().unwrap();
    assert!(held, "no child was born while the lock was held");
    assert_eq!(group.entry(0).unwrap(), b"entry");
    groups.close().unwrap();
}
