//! Directories as real logs leave them, and what their entries were: the ground that
//! `open_directory` edits.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, LazyLock};

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Batch, Durability, Log, Options};

/// One directory.
#[derive(Debug)]
pub struct Image {
    /// What it shows.
    pub name: &'static str,
    /// Its files by name and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Every value that an entry ever had.
    pub history: BTreeMap<u64, Vec<Vec<u8>>>,
    /// The last bounds; exact only where the log was closed.
    pub bounds: (u64, u64),
    /// Whether the log was closed.
    pub closed: bool,
}

/// Every directory.
pub static IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| {
    vec![
        image("fresh", false, |_| {}),
        image("few", false, |it| {
            it.append(3, 40);
            it.batch(|batch| {
                batch.set("promise", vec![1; 20]).set("decided", vec![2; 8]);
            });
        }),
        image("closed", true, |it| it.append(5, 60)),
        image("rolled", false, |it| (0..4).for_each(|_| it.append(3, 1000))),
        image("busy", true, |it| {
            (0..4).for_each(|_| it.append(3, 900));
            it.trim(5);
            it.truncate(9);
            it.append(2, 700);
            it.log.maintain().unwrap();
            it.append(6, 900);
        }),
        image("snapshot", false, |it| {
            it.append(4, 100);
            let mut file = it.log.side_file_writer().unwrap();
            file.write_all(&[9; 700]).unwrap();
            let file = file.finish().unwrap();
            it.batch(|batch| {
                batch.attach("snapshot", file).trim(3);
            });
        }),
        image("torn", false, |it| {
            it.append(2, 60);
            let mut batch = Batch::new();
            for index in 2..8 {
                let entry = vec![7; 700];
                it.history.entry(index).or_default().push(entry.clone());
                batch.append(entry);
            }
            it.log.submit(&batch).unwrap();
        }),
        image("reset", false, |it| {
            it.append(4, 200);
            it.batch(|batch| {
                batch.reset(100);
            });
            it.next = 100;
            it.append(3, 50);
        }),
    ]
});

/// The options of every image.
pub fn options() -> Options {
    Options::new().background(false).tiny_segments(8192).durability(Durability::Always)
}

struct Author {
    log: Log,
    history: BTreeMap<u64, Vec<Vec<u8>>>,
    next: u64,
    count: u8,
}

impl Author {
    fn batch(&mut self, fill: impl FnOnce(&mut Batch<'_>)) {
        let mut batch = Batch::new();
        fill(&mut batch);
        self.log.commit(&batch).unwrap();
    }

    fn append(&mut self, count: u64, bytes: usize) {
        for _ in 0..count {
            self.count += 1;
            let entry = vec![self.count; bytes];
            self.history.entry(self.next).or_default().push(entry.clone());
            self.next += 1;
            self.log.append(&entry).unwrap();
        }
    }

    fn trim(&mut self, to: u64) {
        self.batch(|batch| {
            batch.trim(to);
        });
    }

    fn truncate(&mut self, to: u64) {
        self.batch(|batch| {
            batch.truncate(to);
        });
        self.next = to;
    }
}

fn image(name: &'static str, closed: bool, write: impl FnOnce(&mut Author)) -> Image {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    let mut author = Author { log, history: BTreeMap::new(), next: 0, count: 0 };
    write(&mut author);
    let bounds = (author.log.first(), author.log.next());
    if closed {
        author.log.close().unwrap();
    }
    let files = disk.crash_with(Persistence::Random(3)).image();
    Image { name, files, history: author.history, bounds, closed }
}
