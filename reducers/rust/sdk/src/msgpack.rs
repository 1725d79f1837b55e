//! MessagePack: a reader for untrusted bytes that rejects with a reason. `value.rs` gives the values their types.

use crate::arena;
use crate::host::Result;
use crate::reject;
use crate::u256::U256;
use crate::value::Path;

/// What a value is, with its own bytes or its number of items.
#[derive(Clone, Copy)]
pub enum Item {
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'static [u8]),
    Bin(&'static [u8]),
    Array(u32),
    Map(u32),
    Ext,
}

impl Item {
    pub fn describe(&self) -> &'static str {
        match self {
            Item::Nil => "nil",
            Item::Bool(_) => "a boolean",
            Item::Int(_) => "a whole number",
            Item::Float(_) => "a fraction",
            Item::Str(_) => "text",
            Item::Bin(_) => "bytes",
            Item::Array(_) => "an array",
            Item::Map(_) => "a map",
            Item::Ext => "an extension",
        }
    }
}

/// Text that is shown in a reason, whatever its bytes are.
pub fn shown(bytes: &'static [u8]) -> &'static str {
    unsafe { core::str::from_utf8_unchecked(bytes) }
}

/// Over one payload, which lives until the message ends.
pub struct Decoder {
    pub data: &'static [u8],
    pub at: usize,
}

impl Decoder {
    fn bytes_of(&mut self, count: u64) -> Option<&'static [u8]> {
        if count > (self.data.len() - self.at) as u64 {
            return None;
        }
        let data: &'static [u8] = self.data;
        let taken = &data[self.at..self.at + count as usize];
        self.at += count as usize;
        Some(taken)
    }

    fn number(&mut self, size: u64) -> Option<u64> {
        Some(self.bytes_of(size)?.iter().fold(0, |number, byte| number << 8 | *byte as u64))
    }

    fn sized(&mut self, size: u64, extra: u64) -> Option<&'static [u8]> {
        let count = self.number(size)?;
        self.bytes_of(count + extra)
    }

    fn signed(&mut self, size: u64) -> Option<Item> {
        let unused = 64 - 8 * size as u32;
        Some(Item::Int(((self.number(size)? << unused) as i64 >> unused) as i128))
    }

    fn read(&mut self) -> Option<Item> {
        let head = self.bytes_of(1)?[0];
        Some(match head {
            0x00..=0x7f => Item::Int(head as i128),
            0x80..=0x8f => Item::Map(head as u32 & 15),
            0x90..=0x9f => Item::Array(head as u32 & 15),
            0xa0..=0xbf => Item::Str(self.bytes_of(head as u64 & 31)?),
            0xc0 => Item::Nil,
            0xc1 => return None,
            0xc2 | 0xc3 => Item::Bool(head == 0xc3),
            0xc4..=0xc6 => Item::Bin(self.sized(1 << (head - 0xc4), 0)?),
            0xc7..=0xc9 => {
                self.sized(1 << (head - 0xc7), 1)?;
                Item::Ext
            }
            0xca => Item::Float(f32::from_bits(self.number(4)? as u32) as f64),
            0xcb => Item::Float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => Item::Int(self.number(1 << (head - 0xcc))? as i128),
            0xd0..=0xd3 => self.signed(1 << (head - 0xd0))?,
            0xd4..=0xd8 => {
                self.bytes_of((1 << (head - 0xd4)) + 1)?;
                Item::Ext
            }
            0xd9..=0xdb => Item::Str(self.sized(1 << (head - 0xd9), 0)?),
            0xdc | 0xdd => Item::Array(self.number(2 << (head - 0xdc))? as u32),
            0xde | 0xdf => Item::Map(self.number(2 << (head - 0xde))? as u32),
            0xe0..=0xff => Item::Int(head as i8 as i128),
        })
    }

    /// The next value's head; the items of an array or map follow it.
    pub fn next(&mut self) -> Result<Item> {
        match self.read() {
            Some(item) => Ok(item),
            None => reject!("payload is not valid MessagePack (at byte {} of {})", self.at, self.data.len()),
        }
    }

    /// True, and past it, when the next value is nil.
    pub fn skip_nil(&mut self) -> bool {
        let nil = self.at < self.data.len() && self.data[self.at] == 0xc0;
        self.at += nil as usize;
        nil
    }

    /// Rejects bytes that are left over.
    pub fn ended(&self) -> Result {
        if self.at != self.data.len() {
            return reject!("{} bytes after the payload's value", self.data.len() - self.at);
        }
        Ok(())
    }

    pub fn wrong<T>(&self, path: &Path, wanted: &str, item: Item) -> Result<T> {
        reject!("{} must be {}, not {}", path, wanted, item.describe())
    }

    /// UTF-8 text.
    pub fn text(&mut self, path: &Path) -> Result<&'static str> {
        match self.next()? {
            Item::Str(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => Ok(text),
                Err(_) => reject!("{} is not valid UTF-8", path),
            },
            item => self.wrong(path, "text", item),
        }
    }

    /// Bytes, also from 0x text; `size` 0 takes any number.
    pub fn bytes(&mut self, path: &Path, size: usize) -> Result<&'static [u8]> {
        let bytes = match self.next()? {
            Item::Bin(bytes) => bytes,
            Item::Str(digits) => match from_hex(digits) {
                Some(bytes) => bytes,
                None => return reject!("{} is text, but not 0x and pairs of hexadecimal digits", path),
            },
            item => return self.wrong(path, "bytes or 0x text", item),
        };
        if size != 0 && bytes.len() != size {
            return reject!("{} has {} bytes, {} are needed", path, bytes.len(), size);
        }
        Ok(bytes)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, path: &Path, least: i128, most: i128) -> Result<i128> {
        match self.next()? {
            Item::Int(number) if number >= least && number <= most => Ok(number),
            Item::Int(_) => reject!("{} is out of range: {} to {}", path, least, most),
            item => self.wrong(path, "a whole number", item),
        }
    }

    /// A whole number, decimal text or big-endian bytes.
    pub fn wide(&mut self, path: &Path) -> Result<U256> {
        match self.next()? {
            Item::Int(number) if number >= 0 => Ok(U256::from(number as u64)),
            Item::Str(digits) => match U256::parse(shown(digits)) {
                Some(number) => Ok(number),
                None => reject!("{} is not a whole number from 0 to 2^256-1: '{}'", path, shown(digits)),
            },
            Item::Bin(bytes) if bytes.len() <= 32 => Ok(U256::from_be_bytes(bytes)),
            Item::Int(_) | Item::Bin(_) => reject!("{} is out of range: 0 to 2^256-1", path),
            item => self.wrong(path, "a whole number", item),
        }
    }

    /// Any number.
    pub fn float(&mut self, path: &Path) -> Result<f64> {
        match self.next()? {
            Item::Float(number) => Ok(number),
            Item::Int(number) => Ok(number as f64),
            item => self.wrong(path, "a number", item),
        }
    }
}

fn from_hex(digits: &[u8]) -> Option<&'static [u8]> {
    if digits.len() % 2 != 0 || !digits.starts_with(b"0x") {
        return None;
    }
    let out = arena::alloc(digits.len() / 2 - 1);
    for (byte, pair) in out.iter_mut().zip(digits[2..].chunks(2)) {
        *byte = ((pair[0] as char).to_digit(16)? << 4 | (pair[1] as char).to_digit(16)?) as u8;
    }
    Some(out)
}
