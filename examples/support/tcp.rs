//! Messages of `OmniPaxos` between processes, over TCP.
//!
//! A connection carries messages one way and in order, each as its length (four bytes) and its bytes.
//! What cannot be sent is lost. Of every new connection both ends hear (`Event::Session`) and tell
//! `OmniPaxos` (`reconnected`), which makes up for what was lost.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use indelible::codec::{Codec, Postcard};
use omnipaxos::util::NodeId;

use crate::Line;

pub(crate) type Failed = Box<dyn std::error::Error>;
type Message = omnipaxos::messages::Message<Line>;

/// What a node has to do.
pub(crate) enum Event {
    /// A connection with this node is new.
    Session(NodeId),
    Message(Message),
    Proposal(Line),
}

/// Where a node listens: here, all are on one machine.
fn address(pid: NodeId) -> io::Result<SocketAddr> {
    let port = u16::try_from(7100 + pid).map_err(io::Error::other)?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// Proposes what is typed.
pub(crate) fn propose_lines(events: Sender<Event>) {
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if events.send(Event::Proposal(Line(line))).is_err() {
                break;
            }
        }
    });
}

/// The ways to the peers of a node, each with a thread, so that none holds up the node.
pub(crate) struct Links(BTreeMap<NodeId, Sender<Message>>);

impl Links {
    /// Listens, and connects to every peer as soon as there is something to send.
    pub(crate) fn new(own: NodeId, nodes: &[NodeId], events: &Sender<Event>) -> io::Result<Self> {
        let listener = TcpListener::bind(address(own)?)?;
        let inbox = events.clone();
        thread::spawn(move || {
            for link in listener.incoming() {
                let inbox = inbox.clone();
                match link {
                    Ok(link) => drop(thread::spawn(move || receive(link, &inbox).is_ok())),
                    // Too many files are open, perhaps; that may pass.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        let link = |peer: &NodeId| {
            let (peer, (outbox, messages), events) = (*peer, channel(), events.clone());
            thread::spawn(move || send(peer, &messages, &events).is_ok());
            (peer, outbox)
        };
        Ok(Self(nodes.iter().filter(|peer| **peer != own).map(link).collect()))
    }

    pub(crate) fn send(&self, message: Message) {
        if let Some(link) = self.0.get(&message.get_receiver()) {
            link.send(message).ok();
        }
    }
}

/// Sends one message after the other for as long as the node lives.
fn send(peer: NodeId, outbox: &Receiver<Message>, events: &Sender<Event>) -> Result<(), Failed> {
    let (peer_address, wait) = (address(peer)?, Duration::from_secs(1));
    let mut link: Option<TcpStream> = None;
    for message in outbox {
        if link.is_none()
            && let Ok(new) = TcpStream::connect_timeout(&peer_address, wait)
            && new.set_write_timeout(Some(wait)).is_ok()
        {
            link = Some(new);
            events.send(Event::Session(peer))?;
        }
        let mut bytes = Vec::new();
        Postcard::encode(&message, &mut bytes)?;
        let length = u32::try_from(bytes.len())?.to_le_bytes();
        let bytes = [&length, bytes.as_slice()].concat();
        link = link.filter(|mut link| link.write_all(&bytes).is_ok());
    }
    Ok(())
}

/// Receives messages until the connection breaks.
fn receive(link: TcpStream, events: &Sender<Event>) -> Result<(), Failed> {
    let (mut link, mut is_new) = (BufReader::new(link), true);
    loop {
        let (mut length, mut bytes) = ([0; 4], Vec::new());
        link.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length).into();
        if link.by_ref().take(length).read_to_end(&mut bytes)? < usize::try_from(length)? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let message: Message = Postcard::decode(&bytes)?;
        if std::mem::take(&mut is_new) {
            events.send(Event::Session(message.get_sender()))?;
        }
        events.send(Event::Message(message))?;
    }
}
