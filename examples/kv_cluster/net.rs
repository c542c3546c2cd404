//! Connections of a node: one to every peer for what it sends, one listener for what it receives.
//!
//! Owns: sockets, their threads, the order of what comes out of them. Does not own: what frames
//! mean.
//!
//! Each connection carries frames one way between nodes, so there are two between any two nodes.
//! What is in flight when a connection breaks is lost, and nothing is kept for a peer that cannot
//! be reached; whenever either connection is made anew, both sides hear of it (`Up` at the one that
//! connected, `Hello` at the other) and tell OmniPaxos to synchronize again. Frames of an older
//! connection that are still on their way through this process carry an older epoch and are thrown
//! away.

use std::io::{self, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;

use crate::failure::{Failure, Outcome};
use crate::protocol::{
    CLIENT_GREETING, PeerFrame, Reply, Request, push_frame, read_frame, write_frame,
};

/// Events that may wait for the node before readers wait for it.
const EVENTS_MAX: usize = 4096;
/// Bytes that may wait for a peer before the connection is given up.
const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Replies that may wait for a client before the connection is given up.
const REPLIES_MAX: usize = 64 * 1024;
/// Bytes put into one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Pause before a peer that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(25);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens on the connections of a node.
#[derive(Debug)]
pub(crate) enum Event {
    /// The connection to this peer has been made.
    Up(NodeId),
    /// A peer has connected.
    Hello {
        from: NodeId,
        epoch: u64,
        config: u32,
        address: String,
    },
    Frame {
        from: NodeId,
        epoch: u64,
        frame: Box<PeerFrame>,
    },
    Client {
        client: u64,
        replies: Replies,
    },
    Request {
        client: u64,
        request: Request,
    },
    Gone {
        client: u64,
    },
}

/// The way back to a client.
pub(crate) type Replies = SyncSender<Reply>;

pub(crate) type Events = SyncSender<Event>;

pub(crate) fn events() -> (Events, Receiver<Event>) {
    mpsc::sync_channel(EVENTS_MAX)
}

/// The outgoing connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    frames: Sender<Vec<u8>>,
    shared: Arc<LinkState>,
    pub(crate) address: String,
}

#[derive(Debug, Default)]
struct LinkState {
    connected: AtomicBool,
    queued: AtomicUsize,
    stopped: AtomicBool,
}

impl Link {
    /// Connects, and connects again whenever the connection breaks, until dropped.
    pub(crate) fn start(
        peer: NodeId,
        address: String,
        hello: impl Fn() -> Vec<u8> + Send + 'static,
        events: Events,
    ) -> Self {
        let (frames, queue) = mpsc::channel();
        let shared = Arc::new(LinkState::default());
        let state = Arc::clone(&shared);
        let to = address.clone();
        thread::spawn(move || {
            while !state.stopped.load(Ordering::Relaxed) {
                if let Ok(stream) = connect(&to) {
                    let _ended = carry(stream, peer, &hello(), &queue, &state, &events);
                    state.connected.store(false, Ordering::Release);
                }
                thread::sleep(RETRY);
            }
        });
        Self { frames, shared, address }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire)
    }

    /// Sends a frame if the peer is connected; otherwise it is lost, as on any network.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        if self.is_up() {
            self.shared.queued.fetch_add(frame.len(), Ordering::Relaxed);
            let _lost_if_stopped = self.frames.send(frame);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = dial(address, Duration::from_millis(500))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Connects to an address given as text.
pub(crate) fn dial(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let resolved: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let first = resolved.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect_timeout(first, timeout)?;
    // A connection to a free local port can, by chance, be a connection to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn carry(
    mut stream: TcpStream,
    peer: NodeId,
    hello: &[u8],
    queue: &Receiver<Vec<u8>>,
    state: &LinkState,
    events: &Events,
) -> io::Result<()> {
    while queue.try_recv().is_ok() {}
    state.queued.store(0, Ordering::Relaxed);
    write_frame(&mut stream, hello)?;
    state.connected.store(true, Ordering::Release);
    events.send(Event::Up(peer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
    let mut buffer = Vec::new();
    loop {
        match queue.recv_timeout(Duration::from_millis(200)) {
            Ok(frame) => push_frame(&mut buffer, &frame),
            Err(RecvTimeoutError::Timeout) if state.stopped.load(Ordering::Relaxed) => {
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while buffer.len() < WRITE_BYTES {
            let Ok(frame) = queue.try_recv() else { break };
            push_frame(&mut buffer, &frame);
        }
        if state.queued.load(Ordering::Relaxed) > QUEUED_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state
            .queued
            .fetch_sub(buffer.len().min(state.queued.load(Ordering::Relaxed)), Ordering::Relaxed);
        stream.write_all(&buffer)?;
        buffer.clear();
    }
}

/// Binds an address, trying again for a while where another process may be on its way out.
pub(crate) fn listen(address: &str, patience: Duration) -> Outcome<TcpListener> {
    let give_up = Instant::now() + patience;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if Instant::now() >= give_up {
                    return Err(Failure::new(format!("{address} is in use by another process"))
                        .hint(
                            "is this node running already? a new cluster may use other ports: --nodes",
                        ));
                }
                thread::sleep(RETRY);
            }
            Err(error) => {
                return Err(Failure::new(format!("cannot listen on {address}: {error}")));
            }
        }
    }
}

/// Takes connections from peers and clients for as long as the process lives.
pub(crate) fn accept(listener: TcpListener, events: Events) {
    let counter = Arc::new(AtomicU64::new(1));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, perhaps; others will close theirs.
                thread::sleep(RETRY);
                continue;
            };
            let (events, counter) = (events.clone(), Arc::clone(&counter));
            thread::spawn(move || {
                let _ended = serve(&stream, &events, &counter);
            });
        }
    });
}

fn serve(stream: &TcpStream, events: &Events, counter: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(WRITE_BYTES, stream.try_clone()?);
    let greeting = read_frame(&mut reader)?;
    let number = counter.fetch_add(1, Ordering::Relaxed);
    if greeting == CLIENT_GREETING {
        return serve_client(stream, &mut reader, number, events);
    }
    let Ok(PeerFrame::Hello { from, config, address }) = PeerFrame::from_bytes(&greeting) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    events.send(Event::Hello { from, epoch: number, config, address }).map_err(ended)?;
    loop {
        let bytes = read_frame(&mut reader)?;
        let frame = PeerFrame::from_bytes(&bytes)
            .map(Box::new)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        events.send(Event::Frame { from, epoch: number, frame }).map_err(ended)?;
    }
}

fn serve_client(
    stream: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    client: u64,
    events: &Events,
) -> io::Result<()> {
    let (replies, outbox) = mpsc::sync_channel::<Reply>(REPLIES_MAX);
    let mut writer = stream.try_clone()?;
    writer.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    events.send(Event::Client { client, replies }).map_err(ended)?;
    thread::spawn(move || {
        while let Ok(reply) = outbox.recv() {
            let mut buffer = Vec::new();
            push_frame(&mut buffer, &reply.to_bytes());
            while buffer.len() < WRITE_BYTES {
                let Ok(reply) = outbox.try_recv() else { break };
                push_frame(&mut buffer, &reply.to_bytes());
            }
            if writer.write_all(&buffer).is_err() {
                break;
            }
        }
        let _closed = writer.shutdown(std::net::Shutdown::Both);
    });
    let outcome = (|| loop {
        let bytes = read_frame(reader)?;
        let request = Request::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        events.send(Event::Request { client, request }).map_err(ended)?;
    })();
    let _node_may_have_ended = events.send(Event::Gone { client });
    outcome
}

/// Ends this process when whoever started it goes away: the runner holds the other end of standard
/// input.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        let mut sink = [0; 64];
        while let Ok(1..) = io::stdin().read(&mut sink) {}
        std::process::exit(0);
    });
}
