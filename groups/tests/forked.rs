//! A process forks while a thread of it writes: the child is refused, and waits for no lock.

#![expect(unsafe_code, reason = "a fork is unsafe to call; nothing else here is")]

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indelible::io::sim::{Op, SimDisk};
use indelible::testing::tap::Tap;
use indelible::{Batch, Error, Log, Options, WriteMode};
use indelible_groups::{Group, GroupFileWriter, Groups, GroupsOptions};

/// What a forked child may ask, in turn; `Ok` if each was refused as it should be.
fn refused(groups: &Groups, group: &Group, unfinished: GroupFileWriter) -> Result<(), u8> {
    let check = |number: u8, result: indelible::Result<()>| match result {
        Err(Error::Forked) => Ok(()),
        _ => Err(number),
    };
    check(1, group.append(b"child").map(drop))?;
    check(2, group.commit(Batch::new().set("promise", b"child")).map(drop))?;
    check(3, group.set_lazily("promise", b"child"))?;
    check(4, group.sync())?;
    check(5, groups.sync())?;
    check(6, groups.maintain())?;
    check(7, group.side_file_writer().map(drop))?;
    check(8, groups.close())?;
    check(9, groups.remove_group(1))?;
    let _looked = groups.stats();
    drop(unfinished);
    Ok(())
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
fn forked_child_is_refused_though_a_thread_held_every_lock() {
    let disk = SimDisk::new(1);
    let (inside, is_inside) = channel();
    let (go, may_go) = channel::<()>();
    let meeting = Mutex::new(Some((inside, may_go)));
    let armed = Arc::new(Mutex::new(false));
    let is_armed = Arc::clone(&armed);
    let look = move |_: &SimDisk, op: Op| {
        if op == Op::Write
            && *is_armed.lock().unwrap()
            && let Some((inside, may_go)) = meeting.lock().unwrap().take()
        {
            inside.send(()).unwrap();
            may_go.recv().unwrap();
        }
    };
    let options =
        Options::new().background(false).tiny_segments(32 * 1024).write_mode(WriteMode::Pwrite);
    let log = Log::create_in(Arc::new(Tap::new(&disk, Arc::new(look))), &options).unwrap();
    let groups = Groups::from_log(log, &GroupsOptions::new()).unwrap();
    let group = groups.create_group(1).unwrap();
    let mut unfinished = group.side_file_writer().unwrap();
    unfinished.write_all(b"part").unwrap();
    *armed.lock().unwrap() = true;
    let other = group.clone();
    let writer = thread::spawn(move || other.append(b"parent").map(drop));
    is_inside.recv_timeout(Duration::from_secs(20)).unwrap();
    let code = in_a_child(|| refused(&groups, &group, unfinished).err().unwrap_or(0));
    go.send(()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(code, 0, "what the child was to be refused");
    assert_eq!(group.entry(0).unwrap(), b"parent");
    groups.close().unwrap();
}
