//! Events out: values to MessagePack, structs as maps, numbers above 64 bits as decimal text.

use crate::arena;
use crate::column::float_bits;
use crate::types::{Address, Bytes, Bytes32, Json, Timestamp, Uuid};
use crate::u256::U256;

/// A value that can stand in an event.
pub trait Pack {
    /// Append it.
    fn pack(&self, packed: &mut Packed);
}

/// Appends at the top of the arena, so nothing else may allocate while it writes.
pub struct Packed {
    start: usize,
}

impl Packed {
    /// A map of `count` fields.
    pub fn map(count: usize) -> Packed {
        let mut packed = Packed { start: arena::mark() };
        packed.head(0x80, 15, 0xde, count);
        packed
    }

    /// One field of the map.
    pub fn field(&mut self, name: &str, value: &dyn Pack) {
        self.text(name);
        value.pack(self);
    }

    /// What was written.
    pub fn bytes(&self) -> &'static [u8] {
        arena::since(self.start)
    }

    fn head(&mut self, short: u8, short_max: usize, long: u8, count: usize) {
        if count <= short_max {
            arena::push(&[short | count as u8]);
        } else if count <= 0xffff {
            arena::push(&[long]);
            arena::push(&(count as u16).to_be_bytes());
        } else {
            arena::push(&[long + 1]);
            arena::push(&(count as u32).to_be_bytes());
        }
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        if text.len() > 31 && text.len() <= 0xff {
            arena::push(&[0xd9, text.len() as u8]);
        } else {
            self.head(0xa0, 31, 0xda, text.len());
        }
        arena::push(text.as_bytes());
    }

    fn binary(&mut self, bytes: &[u8]) {
        if bytes.len() <= 0xff {
            arena::push(&[0xc4, bytes.len() as u8]);
        } else {
            self.head(0, 0, 0xc5, bytes.len());
        }
        arena::push(bytes);
    }

    fn unsigned(&mut self, number: u64) {
        let bytes = number.to_be_bytes();
        match number {
            0..=0x7f => arena::push(&bytes[7..]),
            0x80..=0xff => arena::push(&[0xcc, bytes[7]]),
            0x100..=0xffff => arena::push(&[0xcd, bytes[6], bytes[7]]),
            0x1_0000..=0xffff_ffff => {
                arena::push(&[0xce]);
                arena::push(&bytes[4..]);
            }
            _ => {
                arena::push(&[0xcf]);
                arena::push(&bytes);
            }
        }
    }

    fn signed(&mut self, number: i64) {
        if number >= 0 {
            self.unsigned(number as u64);
        } else if number >= -32 {
            arena::push(&[number as u8]);
        } else {
            arena::push(&[0xd3]);
            arena::push(&number.to_be_bytes());
        }
    }
}

macro_rules! pack {
    ($($type:ty, |$value:ident, $packed:ident| $write:expr;)*) => {
        $( impl Pack for $type {
            fn pack(&self, $packed: &mut Packed) {
                let $value = self;
                $write
            }
        } )*
    };
}

pack! {
    bool, |value, _packed| arena::push(&[0xc2 | *value as u8]);
    i16, |value, packed| packed.signed(*value as i64);
    i32, |value, packed| packed.signed(*value as i64);
    i64, |value, packed| packed.signed(*value);
    u8, |value, packed| packed.unsigned(*value as u64);
    u16, |value, packed| packed.unsigned(*value as u64);
    u32, |value, packed| packed.unsigned(*value as u64);
    u64, |value, packed| packed.unsigned(*value);
    f64, |value, _packed| { arena::push(&[0xcb]); arena::push(&float_bits(*value).to_be_bytes()) };
    &str, |value, packed| packed.text(value);
    Json, |value, packed| packed.text(value.0);
    Bytes, |value, packed| packed.binary(value.0);
    Address, |value, packed| packed.binary(&value.0);
    Bytes32, |value, packed| packed.binary(&value.0);
    Uuid, |value, packed| packed.binary(&value.0);
    Timestamp, |value, packed| packed.unsigned(value.ms());
}

impl Pack for U256 {
    fn pack(&self, packed: &mut Packed) {
        if let Some(small) = self.to_u64() {
            return packed.unsigned(small);
        }
        let mark = arena::mark();
        let mut digits = [0u8; 78];
        let text = crate::text!("{}", self);
        let length = text.len();
        digits[..length].copy_from_slice(text.as_bytes());
        arena::release(mark);
        packed.text(core::str::from_utf8(&digits[..length]).unwrap_or(""));
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, packed: &mut Packed) {
        match self {
            Some(value) => value.pack(packed),
            None => arena::push(&[0xc0]),
        }
    }
}

/// An array; `&[&a as &dyn Pack, &b]` mixes types.
impl<T: Pack> Pack for &[T] {
    fn pack(&self, packed: &mut Packed) {
        packed.head(0x90, 15, 0xdc, self.len());
        for item in self.iter() {
            item.pack(packed);
        }
    }
}

impl Pack for &dyn Pack {
    fn pack(&self, packed: &mut Packed) {
        (**self).pack(packed);
    }
}
