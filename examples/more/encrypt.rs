//! Entries that only their owner can read: a codec that seals what another codec wrote. Keys are yours
//! to keep. `cargo run -p indelible-lab --example encrypt`

use std::io;
use std::sync::OnceLock;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use indelible::codec::{Codec, CodecError, Postcard};
use indelible::typed::{TypedLog, encode_entry};
use indelible::{Log, Options};

static KEY: OnceLock<[u8; 64]> = OnceLock::new();

/// A codec must give the same bytes for the same value, so this seals deterministically (RFC 5297): who
/// sees the disk learns which entries are equal, and how long they are, and nothing else. Each entry
/// states its index, and no two are equal. What is in cells and file names is not sealed.
struct Sealed;

fn cipher() -> Result<Aes256Siv, CodecError> {
    let no_key = || CodecError::library(io::Error::other("no key has been set"));
    Ok(Aes256Siv::new(KEY.get().ok_or_else(no_key)?.into()))
}

fn wrong_key() -> CodecError {
    CodecError::library(io::Error::other("sealed with another key, or not sealed"))
}

impl<T> Codec<T> for Sealed
where
    Postcard: Codec<T>,
{
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut open = Vec::new();
        Postcard::encode(value, &mut open)?;
        let sealed = cipher()?.encrypt([&b"entry"[..]], &open).map_err(|_| wrong_key())?;
        out.extend_from_slice(&sealed);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        let open = cipher()?.decrypt([&b"entry"[..]], bytes).map_err(|_| wrong_key())?;
        Postcard::decode(&open)
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut key = [0; 64];
    getrandom::fill(&mut key).map_err(io::Error::other)?; // in earnest: from where you keep your keys
    KEY.set(key).map_err(|_| "set twice")?;
    let log = Log::in_memory(&Options::new())?;
    let typed: TypedLog<Sealed> = TypedLog::new(log.clone());
    let entry = (0_u64, String::from("the decree of the legislators"));
    log.append(&encode_entry::<Sealed, _>(&entry)?)?;
    println!("on disk: {:02x?}", log.entry(0)?);
    let read: Vec<(u64, String)> = typed.read(.., usize::MAX, |(index, _)| *index)?;
    println!("read: {read:?}");
    assert!(read == [entry] && !log.entry(0)?.windows(6).any(|bytes| bytes == b"decree"));
    Ok(())
}
