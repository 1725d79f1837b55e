//! scapp: write reducers in Rust, without `std` and without dependencies. A reducer is one file that declares tables
//! ([`table!`]), messages ([`messages!`]) and ends with [`app!`]; `scapp build` compiles it. Reference:
//! docs/reference/sdks.md; the calls underneath: docs/reference/abi.md. Builds with Rust 1.63 and later.
//!
//! Everything borrowed for `'static` lives until the message ends: an arena is emptied before the next one.
#![no_std]

mod arena;
mod column;
mod entry;
mod host;
mod manifest;
mod msgpack;
mod pack;
pub mod raw;
mod table;
mod types;
mod u256;
mod value;

pub use column::{Column, Ordered};
pub use host::{commitment, emit_raw, keccak256, log_line, set_outcome, sha256, Context, Kind, Level, Rejected, Result};
pub use manifest::{AppInfo, FieldInfo, IndexInfo, MessageInfo, TableInfo, ViewInfo};
pub use pack::{Pack, Packed};
pub use table::{Bound, Listed, Rows, Scan, Table};
pub use types::{Address, Bytes, Bytes32, Json, Text, Timestamp, Uuid};
pub use u256::U256;
pub use value::{NoParams, Opening, Slot, Value};

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod internal {
    pub use crate::arena::{alloc, format, reset};
    pub use crate::column::{Reader, Writer};
    pub use crate::entry::{panicked, reduce, Handlers};
    pub use crate::host::rejected;
    pub use crate::manifest::document;
    pub use crate::msgpack::Decoder;
    pub use crate::table::{delete, get, put};
    pub use crate::value::{field, unknown_message, Names, Path};
}

/// Text until the message ends, cut at 4096 bytes: `text!("{} of {}", a, b)`.
#[macro_export]
macro_rules! text {
    ($($arguments:tt)*) => { $crate::internal::format(core::format_args!($($arguments)*)) };
}

/// Refuse the message with a reason for its author: `return reject!("balance is {}", balance);`
#[macro_export]
macro_rules! reject {
    ($($arguments:tt)*) => { $crate::internal::rejected($crate::text!($($arguments)*)) };
}

/// A line of diagnostics, never part of state: `log!(Level::Info, "now {}", x)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($arguments:tt)*) => { $crate::log_line($level, $crate::text!($($arguments)*)) };
}

/// An app event, a MessagePack map: `emit!("transfer", { sender: a, amount: b })`.
#[macro_export]
macro_rules! emit {
    ($topic:expr, { $($name:ident : $value:expr),* $(,)? }) => {{
        let mut packed = $crate::Packed::map([$(core::stringify!($name)),*].len());
        $( packed.field(core::stringify!($name), &$value); )*
        $crate::emit_raw($topic, packed.bytes());
    }};
}
