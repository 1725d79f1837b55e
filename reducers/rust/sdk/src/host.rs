//! Everything a message can do besides tables: reject, emit, log, pay, hash; and who said what when.

use crate::arena;
use crate::raw;
use crate::types::{Address, Bytes32};
use crate::u256::U256;

/// The message was refused; only [`crate::reject!`] makes one.
#[derive(Debug)]
pub struct Rejected(());

/// What handlers return; `?` passes a rejection on.
pub type Result<T = ()> = core::result::Result<T, Rejected>;

/// Record the reason; what `reject!` expands to.
pub fn rejected<T>(reason: &str) -> Result<T> {
    unsafe { raw::reject(reason.as_ptr(), reason.len() as u32) }
    Err(Rejected(()))
}

/// Of a log line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something is odd.
    Warning = 1,
    /// Good to know.
    Info = 2,
    /// For development.
    Debug = 3,
}

/// A line of diagnostics; what `log!` expands to.
pub fn log_line(level: Level, line: &str) {
    unsafe { raw::log(level as u32, line.as_ptr(), line.len() as u32) }
}

/// An app event with bytes of your own format.
pub fn emit_raw(topic: &str, data: &[u8]) {
    unsafe { raw::emit(topic.as_ptr(), topic.len() as u32, data.as_ptr(), data.len() as u32) }
}

/// What each outcome slot gets from now on; traps unless there is one amount per slot and each asset's sum stays.
pub fn set_outcome(amounts: &[U256]) {
    let start = arena::mark();
    for amount in amounts {
        arena::push(&amount.to_be_bytes());
    }
    let bytes = arena::since(start);
    unsafe { raw::set_outcome(bytes.as_ptr(), bytes.len() as u32) }
    arena::release(start);
}

/// Digest of any bytes.
pub fn keccak256(data: &[u8]) -> Bytes32 {
    let mut digest = Bytes32::ZERO;
    unsafe { raw::keccak256(data.as_ptr(), data.len() as u32, digest.0.as_mut_ptr()) }
    digest
}

/// Digest of any bytes.
pub fn sha256(data: &[u8]) -> Bytes32 {
    let mut digest = Bytes32::ZERO;
    unsafe { raw::sha256(data.as_ptr(), data.len() as u32, digest.0.as_mut_ptr()) }
    digest
}

/// Of a log entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Entry 0.
    Open,
    /// An app message.
    Message,
    /// Time passes.
    Tick,
    /// Anything else; the number.
    Other(u8),
}

/// Who sent the entry, where and when.
pub struct Context {
    /// What the entry is.
    pub kind: Kind,
    /// Index among the channel's participants.
    pub author: u8,
    /// Of the author.
    pub address: Address,
    /// The channel.
    pub channel_id: Bytes32,
    /// Position in the channel's log; the opening is 0.
    pub sequence: u64,
    /// Milliseconds since 1970 UTC; never decreases along the log.
    pub time_ms: u64,
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | *byte as u64)
}

impl Context {
    /// From the header of a message buffer.
    pub(crate) fn of(buffer: &[u8]) -> Context {
        let kind = match buffer[0] {
            0 => Kind::Open,
            1 => Kind::Message,
            2 => Kind::Tick,
            other => Kind::Other(other),
        };
        Context {
            kind,
            author: buffer[1],
            address: Address::of(&buffer[24..44]),
            channel_id: Bytes32::of(&buffer[44..76]),
            sequence: little(&buffer[8..16]),
            time_ms: little(&buffer[16..24]),
        }
    }
}

/// What hides `value` until its author reveals value and salt: keccak256(salt || channel id || author address ||
/// round u64 big-endian || value). Channel, author and round are inside, so nobody can repeat another's commitment.
pub fn commitment(ctx: &Context, salt: &Bytes32, round: u64, value: &[u8]) -> Bytes32 {
    let start = arena::mark();
    arena::push(&salt.0);
    arena::push(&ctx.channel_id.0);
    arena::push(&ctx.address.0);
    arena::push(&round.to_be_bytes());
    arena::push(value);
    let digest = keccak256(arena::since(start));
    arena::release(start);
    digest
}
