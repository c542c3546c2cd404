//! The `serve` subcommand: finds or makes a node's directory, then runs the node.
//!
//! Owns: what a first start, a restart and a join expect of the directory, and the words for a
//! person whose expectation was another. Does not own: the running node (`node`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::args::{ServeChoices, Start};
use crate::failure::{Failure, Outcome, Why};
use crate::members::{Members, Place};
use crate::net;
use crate::node::{Node, NodeChoices};

/// How long a supervised node waits for its port: its former self may still be going away.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn serve(serve: &ServeChoices, say: impl Fn(&str)) -> Outcome<()> {
    if serve.supervised {
        net::end_with_parent();
    }
    let id = serve.id;
    let dir = serve.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join("indelible-kv-cluster").join(format!("node-{id}"))
    });
    let place = place(serve, &dir)?;
    let address = place.members.nodes.get(&id).cloned().or_else(|| serve.listen.clone());
    let address = address.ok_or_else(|| {
        Failure::new(format!("node {id} is not in {}", place.members))
            .hint("say where it listens: --listen HOST:PORT")
    })?;
    let patience = if serve.supervised { PORT_PATIENCE } else { Duration::ZERO };
    let listener = net::listen(&address, patience)?;
    let (events, inbox) = net::events();
    let choices = NodeChoices {
        id,
        dir: dir.clone(),
        address: address.clone(),
        store: serve.durability.store(),
        snapshot_every: serve.snapshot_every,
        supervised: serve.supervised,
        #[cfg(feature = "prometheus")]
        export: crate::export::Export::default(),
    };
    #[cfg(feature = "prometheus")]
    if let Some(address) = &serve.metrics {
        choices.export.serve(id, address)?;
    }
    if serve.start() != Start::Again {
        create(&dir, &place)?;
    }
    let fresh = serve.start() == Start::New;
    let node = Node::start(choices, place.clone(), fresh, events.clone(), inbox)?;
    net::accept(listener, events);
    say(&format!("node {id} listens on {address}, {}, log in {}", place.members, dir.display()));
    node.run()
}

/// Settles what the node knows about its place, according to how it was started.
fn place(serve: &ServeChoices, dir: &Path) -> Outcome<Place> {
    let id = serve.id;
    let known = Place::load(dir)?;
    match (serve.start(), known) {
        (Start::Again, Some(place)) => Ok(place),
        (Start::Again, None) => {
            Err(Failure::new(format!("node {id} has no log in {}", dir.display())).hint(format!(
                "`serve {id} --new` starts a new cluster. If this node was part of one, find its \
                 directory (--dir): a node that forgets what it promised can make the cluster lose \
                 entries"
            )))
        }
        // Without a log nothing has been promised: an attempt that failed may be repeated.
        (Start::New | Start::Join, Some(_)) if dir.join("log").exists() => {
            Err(Failure::new(format!("{} holds the log of a node already", dir.display()))
                .hint(format!("`serve {id}` without --new or --join starts it again")))
        }
        (Start::New, _) if !serve.nodes.members.contains(id) => {
            Err(Failure::new(format!("node {id} is not in {}", serve.nodes.members))
                .hint("list every node with --nodes"))
        }
        (Start::New, _) => Ok(Place { members: serve.nodes.members.clone(), joining: false }),
        (Start::Join, _) => {
            let members = Members { config: 0, nodes: serve.nodes.members.nodes.clone() };
            Ok(Place { members, joining: true })
        }
    }
}

fn create(dir: &Path, place: &Place) -> Outcome<()> {
    fs::create_dir_all(dir)
        .why(|| format!("cannot create the directory {}", dir.display()))
        .map_err(|failure| failure.hint("choose a directory you may write to: --dir"))?;
    place.save(dir)
}
