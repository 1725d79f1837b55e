//! Typed tables: `table!` declares one, `app!` numbers them, and these functions carry rows to and from the host.

use core::marker::PhantomData;

use crate::arena;
use crate::column::{Ordered, Writer};
use crate::manifest::TableInfo;
use crate::raw;

const ROW_GUESS: usize = 512;
const BACKWARDS: u32 = 1;
const HI_INCLUSIVE: u32 = 2;

/// A row type made by [`table!`].
pub trait Table: Sized {
    /// Name, columns, key and indexes.
    const INFO: TableInfo;
    /// The key columns, as a tuple.
    type Key;
    /// All columns as a tuple of bytes.
    fn encode(&self) -> &'static [u8];
    /// From a row of the host's.
    fn decode(row: &'static [u8]) -> Self;
}

/// A table that `app!` lists; one that is missing there cannot be read or written, which the compiler says.
pub trait Listed: Table {
    /// Position among the tables.
    const NUMBER: u32;
    /// Number of its first index.
    const FIRST_INDEX: u32;
}

/// Values for the leading columns of a key or index whose columns are `Columns`.
pub trait Bound<Columns> {
    /// As a tuple of bytes.
    fn encode(&self) -> &'static [u8];
}

impl<Columns> Bound<Columns> for () {
    fn encode(&self) -> &'static [u8] {
        Writer::tuple(0).bytes()
    }
}

macro_rules! bounds {
    // (columns given) then (further columns of the key)
    (($($given:ident)+) ($($further:ident)*)) => {
        #[allow(non_snake_case)]
        impl<$($given: Ordered,)+ $($further: Ordered,)*> Bound<($($given,)+ $($further,)*)> for ($($given,)+) {
            fn encode(&self) -> &'static [u8] {
                let ($($given,)+) = self;
                let mut writer = Writer::tuple([$(core::stringify!($given)),+].len());
                $( $given.write(&mut writer); )+
                writer.bytes()
            }
        }
    };
}
macro_rules! all_bounds {
    ($($given:ident)+; ) => { bounds!(($($given)+) ()); };
    ($($given:ident)+; $next:ident $($further:ident)*) => {
        bounds!(($($given)+) ());
        all_bounds!(@more ($($given)+) () $next $($further)*);
        all_bounds!($($given)+ $next; $($further)*);
    };
    (@more ($($given:ident)+) ($($taken:ident)*)) => {};
    (@more ($($given:ident)+) ($($taken:ident)*) $next:ident $($further:ident)*) => {
        bounds!(($($given)+) ($($taken)* $next));
        all_bounds!(@more ($($given)+) ($($taken)* $next) $($further)*);
    };
}
// A key or index of up to eight columns; the ABI allows 16.
all_bounds!(A; B C D E F G H);

/// The row with this key.
pub fn get<T: Listed>(key: &'static [u8]) -> Option<T> {
    fetch(|out, capacity| unsafe { raw::get(T::NUMBER, key.as_ptr(), key.len() as u32, out, capacity) })
}

/// Insert, or replace the row with the same key; true when it replaced.
pub fn put<T: Listed>(row: &T) -> bool {
    let position = arena::mark();
    let bytes = row.encode();
    let replaced = unsafe { raw::put(T::NUMBER, bytes.as_ptr(), bytes.len() as u32) } != 0;
    arena::release(position);
    replaced
}

/// True when there was such a row.
pub fn delete<T: Listed>(key: &'static [u8]) -> bool {
    unsafe { raw::delete(T::NUMBER, key.as_ptr(), key.len() as u32) != 0 }
}

/// Read a row into arena memory, twice when the first buffer proves too small.
fn fetch<T: Table>(read: impl Fn(*mut u8, u32) -> i32) -> Option<T> {
    let mut buffer = arena::take(ROW_GUESS, 1);
    let mut length = read(buffer, ROW_GUESS as u32);
    if length > ROW_GUESS as i32 {
        buffer = arena::take(length as usize, 1);
        length = read(buffer, length as u32);
    }
    if length < 0 {
        return None;
    }
    Some(T::decode(unsafe { core::slice::from_raw_parts(buffer, length as usize) }))
}

/// Which rows, in which order; iterate over it or take `first`.
pub struct Scan<T, Columns> {
    number: u32,
    from: &'static [u8],
    to: &'static [u8],
    flags: u32,
    of: PhantomData<(T, Columns)>,
}

impl<T: Listed, Columns> Scan<T, Columns> {
    /// All rows of a table or index.
    pub fn over(number: u32) -> Self {
        Scan { number, from: &[], to: &[], flags: 0, of: PhantomData }
    }

    /// Only rows whose leading columns equal these.
    pub fn prefix(mut self, bound: impl Bound<Columns>) -> Self {
        self.from = bound.encode();
        self.to = self.from;
        self.flags |= HI_INCLUSIVE;
        self
    }

    /// From here on, inclusive.
    pub fn from(mut self, bound: impl Bound<Columns>) -> Self {
        self.from = bound.encode();
        self
    }

    /// Up to here, exclusive.
    pub fn to(mut self, bound: impl Bound<Columns>) -> Self {
        self.to = bound.encode();
        self
    }

    /// Up to and including here.
    pub fn to_inclusive(mut self, bound: impl Bound<Columns>) -> Self {
        self.flags |= HI_INCLUSIVE;
        self.to(bound)
    }

    /// Last row first.
    pub fn backwards(mut self) -> Self {
        self.flags |= BACKWARDS;
        self
    }

    /// The first row. Keeps one of the message's 16 cursors when there is one.
    pub fn first(self) -> Option<T> {
        self.into_iter().next()
    }
}

impl<T: Listed, Columns> IntoIterator for Scan<T, Columns> {
    type Item = T;
    type IntoIter = Rows<T>;
    fn into_iter(self) -> Rows<T> {
        let (lo, hi) = (self.from, self.to);
        let cursor = unsafe {
            raw::scan(self.number, lo.as_ptr(), lo.len() as u32, hi.as_ptr(), hi.len() as u32, self.flags)
        };
        Rows { cursor, ended: false, of: PhantomData }
    }
}

/// An open scan. One that is left early keeps one of the message's 16 cursors.
pub struct Rows<T> {
    cursor: u32,
    ended: bool,
    of: PhantomData<T>,
}

impl<T: Table> Iterator for Rows<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        if self.ended {
            return None;
        }
        let found = fetch(|out, capacity| unsafe { raw::next(self.cursor, out, capacity) });
        self.ended = found.is_none();
        found
    }
}

/// Declare a table: its row type, the leading columns that form the key, and its indexes.
///
/// ```text
/// table! {
///     struct Transfer = "transfer" {
///         key { sequence: i64 }
///         sender: Option<Address>,
///         amount: U256,
///     }
///     index TransferBySender = "transfer_by_sender" { sender: Option<Address>, sequence: i64 }
///     unique index TransferByAmount = "transfer_by_amount" { amount: U256 }
/// }
/// ```
/// gives `Transfer::get(sequence)`, `row.put()`, `Transfer::delete(sequence)`, `Transfer::scan()` and
/// `TransferBySender::scan()`; a scan takes `.prefix((a,))`, `.from((a,))`, `.to((b,))`, `.backwards()`.
/// `struct Transfer = "transfer" history {` keeps every version of the rows in the database.
#[macro_export]
macro_rules! table {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident = $table:literal $($history:ident)? {
            key { $($key:ident : $key_type:ty),+ $(,)? }
            $($column:ident : $type:ty),* $(,)?
        }
        $($indexes:tt)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        $vis struct $name { $($vis $key: $key_type,)+ $($vis $column: $type,)* }

        const _: () = {
            $( assert!(!<$key_type as $crate::Column>::NULLABLE, core::concat!("key column ", core::stringify!($key), " cannot be an Option")); )+
        };

        impl $crate::Table for $name {
            const INFO: $crate::TableInfo = $crate::TableInfo {
                name: $table,
                columns: &[
                    $( $crate::FieldInfo { name: core::stringify!($key), of: <$key_type as $crate::Column>::COLUMN, nullable: false }, )+
                    $( $crate::FieldInfo { name: core::stringify!($column), of: <$type as $crate::Column>::COLUMN, nullable: <$type as $crate::Column>::NULLABLE }, )*
                ],
                key: [$(core::stringify!($key)),+].len(),
                indexes: $crate::__index_infos!([] $($indexes)*),
                history: $crate::__history!($($history)?),
            };
            type Key = ($($key_type,)+);
            fn encode(&self) -> &'static [u8] {
                let mut writer = $crate::internal::Writer::tuple(Self::INFO.columns.len());
                $( $crate::Column::write(&self.$key, &mut writer); )+
                $( $crate::Column::write(&self.$column, &mut writer); )*
                writer.bytes()
            }
            fn decode(row: &'static [u8]) -> Self {
                let mut reader = $crate::internal::Reader::of(row);
                $name { $($key: reader.column(),)+ $($column: reader.column(),)* }
            }
        }

        #[allow(dead_code)]
        impl $name {
            /// The row with this key.
            $vis fn get($($key: $key_type),+) -> Option<$name> {
                $crate::internal::get::<$name>($crate::Bound::<<$name as $crate::Table>::Key>::encode(&($($key,)+)))
            }
            /// Insert, or replace the row with the same key; true when it replaced.
            $vis fn put(&self) -> bool {
                $crate::internal::put(self)
            }
            /// True when there was such a row.
            $vis fn delete($($key: $key_type),+) -> bool {
                $crate::internal::delete::<$name>($crate::Bound::<<$name as $crate::Table>::Key>::encode(&($($key,)+)))
            }
            /// Rows in key order.
            $vis fn scan() -> $crate::Scan<$name, <$name as $crate::Table>::Key> {
                $crate::Scan::over(<$name as $crate::Listed>::NUMBER)
            }
        }
        $crate::__indexes!($name $vis, 0; $($indexes)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __history {
    () => { false };
    (history) => { true };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __index_infos {
    ([$($done:expr),*]) => { &[$($done),*] };
    ([$($done:expr),*] index $name:ident = $index:literal { $($column:ident : $type:ty),+ $(,)? } $($rest:tt)*) => {
        $crate::__index_infos!([$($done,)* $crate::IndexInfo { name: $index, columns: &[$(core::stringify!($column)),+], unique: false }] $($rest)*)
    };
    ([$($done:expr),*] unique index $name:ident = $index:literal { $($column:ident : $type:ty),+ $(,)? } $($rest:tt)*) => {
        $crate::__index_infos!([$($done,)* $crate::IndexInfo { name: $index, columns: &[$(core::stringify!($column)),+], unique: true }] $($rest)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __indexes {
    ($table:ident $vis:vis, $at:expr; ) => {};
    ($table:ident $vis:vis, $at:expr; unique index $($rest:tt)*) => { $crate::__indexes!($table $vis, $at; index $($rest)*); };
    ($table:ident $vis:vis, $at:expr; index $name:ident = $index:literal { $($column:ident : $type:ty),+ $(,)? } $($rest:tt)*) => {
        #[allow(dead_code)]
        $vis struct $name;
        #[allow(dead_code)]
        impl $name {
            /// Rows in the index's order.
            $vis fn scan() -> $crate::Scan<$table, ($($type,)+)> {
                $( let _: fn(&$table) -> &$type = |row| &row.$column; )+
                $crate::Scan::over(<$table as $crate::Listed>::FIRST_INDEX + $at)
            }
        }
        $crate::__indexes!($table $vis, $at + 1; $($rest)*);
    };
}
