//! The command line.
//!
//! Owns: which words are understood and what is said about those that are not. Does not own: what
//! they make the program do.

use std::path::PathBuf;
use std::time::Duration;

use omnipaxos::util::NodeId;

use crate::failure::{Failure, Outcome};
use crate::members::Members;
use crate::replica::StoreChoices;

pub(crate) const USAGE: &str = "\
Three OmniPaxos nodes on `indelible` logs, as three processes, killed while they write.

  kv_cluster [run] [OPTIONS]      starts a cluster, writes, kills, restarts, checks
      --entries N      entries to write                        (default 20000)
      --kills N        processes to kill with SIGKILL          (default 5)
      --input FILE     one entry a line, cycled                (default: a text that comes along)
      --dir DIR        where the logs go, and stay             (default: a temporary directory)
      --seed N         of the choice of victims and moments    (default 1)
      --durability D   barrier: one sync per loop turn; always: one per write (default barrier)
      --window N       entries in flight                       (default 256)
      --reconfigure    replace a dead node by a new one half way
      --timeout S      give up after this many seconds         (default: from the above)
      --quiet          only the summary

  kv_cluster serve ID [--new | --join] [--nodes LIST] [--dir DIR] [--durability D] [--listen ADDR]
      runs one node: --new the first time, --join to enter an existing cluster after `replace`
  kv_cluster put KEY VALUE [--nodes LIST]
  kv_cluster get KEY [--nodes LIST]
  kv_cluster status [--nodes LIST]
  kv_cluster replace OLD_ID NEW_ID ADDRESS [--nodes LIST]

  LIST is ID=HOST:PORT,ID=HOST:PORT,... by default
  1=127.0.0.1:7461,2=127.0.0.1:7462,3=127.0.0.1:7463";

const NODES_DEFAULT: &str = "1=127.0.0.1:7461,2=127.0.0.1:7462,3=127.0.0.1:7463";

#[derive(Debug)]
pub(crate) enum Job {
    Run(RunChoices),
    Serve(ServeChoices),
    Put { key: String, value: String, nodes: Members },
    Get { key: String, nodes: Members },
    Status { nodes: Members },
    Replace { old: NodeId, new: NodeId, address: String, nodes: Members },
    Help,
}

#[derive(Debug, Clone)]
pub(crate) struct RunChoices {
    pub(crate) entries: u64,
    pub(crate) kills: u64,
    pub(crate) input: Option<PathBuf>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) store: StoreChoices,
    pub(crate) window: usize,
    pub(crate) reconfigure: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ServeChoices {
    pub(crate) id: NodeId,
    pub(crate) start: Start,
    pub(crate) nodes: Members,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) store: StoreChoices,
    pub(crate) snapshot_every: usize,
    /// Ends when standard input does: for nodes that a runner started.
    pub(crate) supervised: bool,
}

/// How a node comes to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It has one.
    Again,
    /// It creates one: the cluster is new.
    New,
    /// It is given the entries by the others.
    Join,
}

/// The words of a command line: positional ones, options with values, flags.
struct Words {
    rest: std::vec::IntoIter<String>,
}

impl Words {
    fn next(&mut self, what: &str) -> Outcome<String> {
        self.rest
            .next()
            .ok_or_else(|| Failure::new(format!("{what} is missing")).hint("try --help"))
    }

    fn number<N: std::str::FromStr>(&mut self, what: &str) -> Outcome<N> {
        let word = self.next(what)?;
        word.parse()
            .map_err(|_| Failure::new(format!("{what}: `{word}` is not a number it can be")))
    }
}

pub(crate) fn parse(args: Vec<String>) -> Outcome<Job> {
    let mut words = Words { rest: args.into_iter() };
    let first = words.rest.as_slice().first().cloned().unwrap_or_default();
    if matches!(first.as_str(), "" | "run") || first.starts_with("--") {
        if first == "run" {
            words.rest.next();
        }
        return parse_run(words);
    }
    words.rest.next();
    match first.as_str() {
        "serve" => parse_serve(words),
        "put" => {
            let (key, value) = (words.next("KEY")?, words.next("VALUE")?);
            Ok(Job::Put { key, value, nodes: only_nodes(words)? })
        }
        "get" => Ok(Job::Get { key: words.next("KEY")?, nodes: only_nodes(words)? }),
        "status" => Ok(Job::Status { nodes: only_nodes(words)? }),
        "replace" => Ok(Job::Replace {
            old: words.number("OLD_ID")?,
            new: words.number("NEW_ID")?,
            address: words.next("ADDRESS")?,
            nodes: only_nodes(words)?,
        }),
        "help" | "-h" => Ok(Job::Help),
        other => Err(unknown(other)),
    }
}

fn unknown(word: &str) -> Failure {
    Failure::new(format!("`{word}` is not understood")).hint("try --help")
}

fn durability(words: &mut Words) -> Outcome<StoreChoices> {
    match words.next("--durability")?.as_str() {
        "barrier" => Ok(StoreChoices { always: false }),
        "always" => Ok(StoreChoices { always: true }),
        other => {
            Err(Failure::new(format!("--durability: `{other}` is neither barrier nor always")))
        }
    }
}

fn parse_run(mut words: Words) -> Outcome<Job> {
    let mut run = RunChoices {
        entries: 20_000,
        kills: 5,
        input: None,
        dir: None,
        seed: 1,
        store: StoreChoices::default(),
        window: 256,
        reconfigure: false,
        timeout: None,
        quiet: false,
    };
    while let Some(word) = words.rest.next() {
        match word.as_str() {
            "--entries" => run.entries = words.number("--entries")?,
            "--kills" => run.kills = words.number("--kills")?,
            "--input" => run.input = Some(words.next("--input")?.into()),
            "--dir" => run.dir = Some(words.next("--dir")?.into()),
            "--seed" => run.seed = words.number("--seed")?,
            "--durability" => run.store = durability(&mut words)?,
            "--window" => run.window = words.number::<usize>("--window")?.clamp(1, 16_384),
            "--reconfigure" => run.reconfigure = true,
            "--timeout" => {
                run.timeout = Some(Duration::from_secs(words.number("--timeout")?));
            }
            "--quiet" => run.quiet = true,
            "--help" | "-h" => return Ok(Job::Help),
            other => return Err(unknown(other)),
        }
    }
    Ok(Job::Run(run))
}

fn parse_serve(mut words: Words) -> Outcome<Job> {
    let id = words.number("ID")?;
    let mut serve = ServeChoices {
        id,
        start: Start::Again,
        nodes: Members::parse(NODES_DEFAULT)?,
        dir: None,
        listen: None,
        store: StoreChoices::default(),
        snapshot_every: 2_000,
        supervised: false,
    };
    while let Some(word) = words.rest.next() {
        match word.as_str() {
            "--new" => serve.start = Start::New,
            "--join" => serve.start = Start::Join,
            "--nodes" => serve.nodes = Members::parse(&words.next("--nodes")?)?,
            "--dir" => serve.dir = Some(words.next("--dir")?.into()),
            "--listen" => serve.listen = Some(words.next("--listen")?),
            "--durability" => serve.store = durability(&mut words)?,
            "--snapshot-every" => serve.snapshot_every = words.number("--snapshot-every")?,
            "--supervised" => serve.supervised = true,
            other => return Err(unknown(other)),
        }
    }
    if id == 0 {
        return Err(Failure::new("node numbers start at 1"));
    }
    Ok(Job::Serve(serve))
}

fn only_nodes(mut words: Words) -> Outcome<Members> {
    match words.rest.next().as_deref() {
        None => Members::parse(NODES_DEFAULT),
        Some("--nodes") => Members::parse(&words.next("--nodes")?),
        Some(other) => Err(unknown(other)),
    }
}
