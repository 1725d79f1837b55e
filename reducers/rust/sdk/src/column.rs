//! Rows and keys as PostgreSQL COPY BINARY tuples: `u16 count`, then per column `i32 length` and big-endian bytes.
//! The byte forms of the types are in docs/reference/abi.md.

use crate::arena;
use crate::types::{Address, Bytes, Bytes32, Json, Timestamp, Uuid};
use crate::u256::U256;

/// A type that can be a column: bool, i16, i32, i64, u64, U256, f64, Text, Bytes, Json, Address, Bytes32, Uuid,
/// Timestamp, enums made by [`crate::names!`], and Option of each.
pub trait Column: Sized {
    /// PostgreSQL column type.
    const COLUMN: &'static str;
    /// True for Option.
    const NULLABLE: bool = false;
    /// Append length and bytes.
    fn write(&self, writer: &mut Writer);
    /// From a value's bytes; None stands for NULL. The host checked them when they were put.
    fn read(bytes: Option<&'static [u8]>) -> Self;
}

/// A column that may stand in a key or an index: every type but f64 and Json.
pub trait Ordered: Column {}

/// Appends a tuple at the top of the arena, so nothing else may allocate while it writes.
pub struct Writer {
    start: usize,
}

impl Writer {
    /// A tuple of `count` columns.
    pub fn tuple(count: usize) -> Writer {
        let writer = Writer { start: arena::mark() };
        arena::push(&(count as u16).to_be_bytes());
        writer
    }

    /// One column's bytes.
    pub fn field(&mut self, bytes: &[u8]) {
        arena::push(&(bytes.len() as i32).to_be_bytes());
        arena::push(bytes);
    }

    /// NULL.
    pub fn null(&mut self) {
        arena::push(&(-1i32).to_be_bytes());
    }

    /// `numeric_send` form: base-10,000 digits, no zero digit at either end.
    pub fn numeric(&mut self, number: U256) {
        let (mut digits, mut count, mut rest) = ([0u16; 20], 0, number);
        while !rest.is_zero() {
            digits[count] = rest.divide_small(10_000) as u16;
            count += 1;
        }
        let low = digits[..count].iter().take_while(|digit| **digit == 0).count();
        arena::push(&(8 + 2 * (count - low) as i32).to_be_bytes());
        arena::push(&((count - low) as u16).to_be_bytes());
        arena::push(&(count.saturating_sub(1) as i16).to_be_bytes());
        arena::push(&[0; 4]);
        for digit in digits[low..count].iter().rev() {
            arena::push(&digit.to_be_bytes());
        }
    }

    /// What was written.
    pub fn bytes(&self) -> &'static [u8] {
        arena::since(self.start)
    }
}

/// Reads a tuple's columns in order.
pub struct Reader {
    data: &'static [u8],
    at: usize,
}

impl Reader {
    /// Over a whole row.
    pub fn of(row: &'static [u8]) -> Reader {
        Reader { data: row, at: 2 }
    }

    /// The next column.
    pub fn column<T: Column>(&mut self) -> T {
        let length = i32::from_be_bytes(array(&self.data[self.at..self.at + 4]));
        self.at += 4;
        if length < 0 {
            return T::read(None);
        }
        let bytes = &self.data[self.at..self.at + length as usize];
        self.at += length as usize;
        T::read(Some(bytes))
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// The bytes of a column that cannot be NULL.
pub fn present(bytes: Option<&'static [u8]>) -> &'static [u8] {
    bytes.expect("a NULL in a column that has none")
}

fn read_numeric(bytes: &[u8]) -> U256 {
    let word = |at: usize| u16::from_be_bytes(array(&bytes[at..at + 2]));
    let (count, weight) = (word(0) as usize, word(2) as usize);
    let mut number = U256::ZERO;
    for index in 0..if count == 0 { 0 } else { weight + 1 } {
        number.multiply_add(10_000, if index < count { word(8 + 2 * index) as u32 } else { 0 });
    }
    number
}

macro_rules! column {
    ($type:ty, $column:literal, |$value:ident, $writer:ident| $write:expr, |$bytes:ident| $read:expr) => {
        impl Column for $type {
            const COLUMN: &'static str = $column;
            fn write(&self, $writer: &mut Writer) {
                let $value = self;
                $write
            }
            fn read(bytes: Option<&'static [u8]>) -> Self {
                let $bytes = present(bytes);
                $read
            }
        }
    };
}

column!(bool, "bool", |value, writer| writer.field(&[*value as u8]), |bytes| bytes[0] != 0);
column!(i16, "int2", |value, writer| writer.field(&value.to_be_bytes()), |bytes| i16::from_be_bytes(array(bytes)));
column!(i32, "int4", |value, writer| writer.field(&value.to_be_bytes()), |bytes| i32::from_be_bytes(array(bytes)));
column!(i64, "int8", |value, writer| writer.field(&value.to_be_bytes()), |bytes| i64::from_be_bytes(array(bytes)));
column!(u64, "numeric", |value, writer| writer.numeric(U256::from(*value)), |bytes| read_numeric(bytes)
    .to_u64()
    .expect("a numeric above 2^64-1 in a column of u64"));
column!(U256, "numeric", |value, writer| writer.numeric(*value), |bytes| read_numeric(bytes));
column!(f64, "float8", |value, writer| writer.field(&float_bits(*value).to_be_bytes()), |bytes| f64::from_bits(
    u64::from_be_bytes(array(bytes))
));
column!(&'static str, "text", |value, writer| writer.field(value.as_bytes()), |bytes| unsafe {
    core::str::from_utf8_unchecked(bytes)
});
column!(Bytes, "bytea", |value, writer| writer.field(value.0), |bytes| Bytes(bytes));
column!(Json, "json", |value, writer| writer.field(value.0.as_bytes()), |bytes| Json(unsafe {
    core::str::from_utf8_unchecked(bytes)
}));
column!(Address, "address", |value, writer| writer.field(&value.0), |bytes| Address::of(bytes));
column!(Bytes32, "bytes32", |value, writer| writer.field(&value.0), |bytes| Bytes32::of(bytes));
column!(Uuid, "uuid", |value, writer| writer.field(&value.0), |bytes| Uuid::of(bytes));
column!(Timestamp, "timestamptz", |value, writer| writer.field(&value.micros.to_be_bytes()), |bytes| Timestamp {
    micros: i64::from_be_bytes(array(bytes))
});

/// A float's bits with NaN in its one allowed form.
pub fn float_bits(number: f64) -> u64 {
    if number.is_nan() { 0x7ff8_0000_0000_0000 } else { number.to_bits() }
}

impl<T: Column> Column for Option<T> {
    const COLUMN: &'static str = T::COLUMN;
    const NULLABLE: bool = true;
    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.null(),
        }
    }
    fn read(bytes: Option<&'static [u8]>) -> Self {
        bytes.map(|bytes| T::read(Some(bytes)))
    }
}

macro_rules! ordered { ($($type:ty),*) => { $( impl Ordered for $type {} )* } }
ordered!(bool, i16, i32, i64, u64, U256, &'static str, Bytes, Address, Bytes32, Uuid, Timestamp);
impl<T: Ordered> Ordered for Option<T> {}

/// An enum of names, in tables and messages its name: `names! { enum Colour { Red = "red", Green = "green" } }`.
#[macro_export]
macro_rules! names {
    ($(#[$about:meta])* $vis:vis enum $name:ident { $($case:ident = $text:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($case),+ }

        impl $name {
            /// In messages and rows.
            $vis fn name(self) -> &'static str {
                match self { $( $name::$case => $text ),+ }
            }
            fn named(text: &str) -> Option<$name> {
                match text { $( $text => Some($name::$case), )+ _ => None }
            }
        }
        impl $crate::Column for $name {
            const COLUMN: &'static str = "text";
            fn write(&self, writer: &mut $crate::internal::Writer) {
                writer.field(self.name().as_bytes());
            }
            fn read(bytes: Option<&'static [u8]>) -> Self {
                $name::named(<&'static str as $crate::Column>::read(bytes)).expect("a row holds a name that its enum lacks")
            }
        }
        impl $crate::Ordered for $name {}
        impl $crate::Value for $name {
            const FIELD: &'static str = "text";
            fn take(decoder: &mut $crate::internal::Decoder, path: &$crate::internal::Path) -> $crate::Result<Self> {
                let text = decoder.text(path)?;
                match $name::named(text) {
                    Some(value) => Ok(value),
                    None => $crate::reject!("{} is '{}': allowed are {}", path, text, $crate::internal::Names(&[$($text),+])),
                }
            }
        }
        impl $crate::Pack for $name {
            fn pack(&self, packed: &mut $crate::Packed) {
                packed.text(self.name());
            }
        }
    };
}
