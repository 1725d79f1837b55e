//! Payloads as typed values; what does not fit is rejected with a reason that names the field. `msgpack.rs` reads.
//!
//! A message is a map of one key, the message's name, to its body: a map of fields, or their array in order. A name
//! alone is a message without fields.

use core::fmt::{Display, Formatter};

use crate::arena;
use crate::host::Result;
use crate::msgpack::{shown, Decoder, Item};
use crate::reject;
use crate::types::{Address, Bytes, Bytes32, Json, Timestamp, Uuid};
use crate::u256::U256;

/// A type that a message can hold.
pub trait Value: Sized {
    /// Type of a message's field in the manifest.
    const FIELD: &'static str;
    /// The next value.
    fn take(decoder: &mut Decoder, path: &Path) -> Result<Self>;
    /// What stands for a field that was left out and has no default.
    fn absent() -> Option<Self> {
        None
    }
}

/// Where a value stands, for reasons: the body, or a field in it.
pub struct Path<'a> {
    pub above: Option<&'a Path<'a>>,
    pub name: &'static str,
}

impl Path<'_> {
    fn dotted(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
        if let Some(above) = self.above {
            if above.above.is_some() {
                above.dotted(formatter)?;
                formatter.write_str(".")?;
            }
        }
        formatter.write_str(self.name)
    }
}

impl Display for Path<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
        if self.above.is_none() {
            return formatter.write_str("the body");
        }
        formatter.write_str("field '")?;
        self.dotted(formatter)?;
        formatter.write_str("'")
    }
}

/// Names for a reason: "a, b".
pub struct Names<'a>(pub &'a [&'static str]);

impl Display for Names<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("none");
        }
        for (index, name) in self.0.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { ", " })?;
            formatter.write_str(name)?;
        }
        Ok(())
    }
}

type OnField<'a> = dyn FnMut(&mut Decoder, usize, &Path) -> Result + 'a;

impl Decoder {
    /// A group of fields, as map or array; `on_field` takes the value of the field with that position.
    pub fn fields(&mut self, path: &Path, names: &'static [&'static str], on_field: &mut OnField) -> Result {
        match self.next()? {
            Item::Nil => Ok(()),
            Item::Map(count) => {
                let seen = arena::alloc(names.len());
                for _ in 0..count {
                    self.named_field(path, names, seen, on_field)?;
                }
                Ok(())
            }
            Item::Array(count) => {
                if count as usize > names.len() {
                    return reject!("{} has {} values for {} fields", path, count, names.len());
                }
                for (index, name) in names.iter().enumerate().take(count as usize) {
                    on_field(self, index, &Path { above: Some(path), name })?;
                }
                Ok(())
            }
            item => self.wrong(path, "a map or an array", item),
        }
    }

    fn named_field(&mut self, path: &Path, names: &'static [&'static str], seen: &mut [u8], on_field: &mut OnField) -> Result {
        let key = match self.next()? {
            Item::Str(key) => key,
            item => return self.wrong(path, "a map with text keys", item),
        };
        for (index, name) in names.iter().enumerate() {
            if name.as_bytes() == key {
                let inside = Path { above: Some(path), name };
                if seen[index] != 0 {
                    return reject!("{} is given twice", inside);
                }
                seen[index] = 1;
                return on_field(self, index, &inside);
            }
        }
        reject!("unknown field '{}': known are {}", shown(key), Names(names))
    }

    /// The message's name, and whether a body follows.
    pub fn message_name(&mut self) -> Result<(&'static [u8], bool)> {
        match self.next()? {
            Item::Str(name) => Ok((name, false)),
            Item::Map(1) => match self.next()? {
                Item::Str(name) => Ok((name, true)),
                item => reject!("a message's name is text, not {}", item.describe()),
            },
            Item::Map(count) => reject!("a message is a map of one name to a body, not of {}", count),
            item => reject!("a message is a map of one name to a body, not {}", item.describe()),
        }
    }

    /// Nothing, as a message without fields has it.
    pub fn empty_body(&mut self, name: &str) -> Result {
        match self.next()? {
            Item::Nil | Item::Map(0) | Item::Array(0) => Ok(()),
            Item::Map(count) | Item::Array(count) => reject!("message '{}' has no fields, not {}", name, count),
            item => reject!("message '{}' has no fields, not {}", name, item.describe()),
        }
    }
}

/// The reason for a name that fits no message.
pub fn unknown_message<T>(name: &'static [u8], known: &'static [&'static str]) -> Result<T> {
    reject!("unknown message '{}': known are {}", shown(name), Names(known))
}

/// A field's value: the one taken, else the default, else what its type has for an absent one.
pub fn field<T: Value>(taken: Option<T>, default: Option<T>, path: &Path, name: &'static str) -> Result<T> {
    match taken.or(default).or_else(T::absent) {
        Some(value) => Ok(value),
        None => reject!("{} missing", Path { above: Some(path), name }),
    }
}

macro_rules! value {
    ($($type:ty, $field:literal, |$decoder:ident, $path:ident| $take:expr;)*) => {
        $( impl Value for $type {
            const FIELD: &'static str = $field;
            fn take($decoder: &mut Decoder, $path: &Path) -> Result<Self> {
                $take
            }
        } )*
    };
}
macro_rules! integers {
    ($($type:ty),*) => { value! { $(
        $type, "int", |decoder, path| Ok(decoder.integer(path, <$type>::MIN as i128, <$type>::MAX as i128)? as $type);
    )* } };
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);
value! {
    bool, "bool", |decoder, path| match decoder.next()? {
        Item::Bool(flag) => Ok(flag),
        item => decoder.wrong(path, "true or false", item),
    };
    U256, "int", |decoder, path| decoder.wide(path);
    f64, "float", |decoder, path| decoder.float(path);
    &'static str, "text", |decoder, path| decoder.text(path);
    Json, "text", |decoder, path| Ok(Json(decoder.text(path)?));
    Bytes, "bytes", |decoder, path| Ok(Bytes(decoder.bytes(path, 0)?));
    Address, "bytes", |decoder, path| Ok(Address::of(decoder.bytes(path, 20)?));
    Bytes32, "bytes", |decoder, path| Ok(Bytes32::of(decoder.bytes(path, 32)?));
    Uuid, "bytes", |decoder, path| Ok(Uuid::of(decoder.bytes(path, 16)?));
    Timestamp, "int", |decoder, path| Ok(Timestamp::from_ms(decoder.integer(path, 0, (1 << 53) - 1)? as u64));
}

impl<T: Value> Value for Option<T> {
    const FIELD: &'static str = T::FIELD;
    fn take(decoder: &mut Decoder, path: &Path) -> Result<Self> {
        if decoder.skip_nil() { Ok(None) } else { Ok(Some(T::take(decoder, path)?)) }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Value> Value for &'static [T] {
    const FIELD: &'static str = "array";
    fn take(decoder: &mut Decoder, path: &Path) -> Result<Self> {
        let count = match decoder.next()? {
            Item::Array(count) => count as usize,
            item => return decoder.wrong(path, "an array", item),
        };
        // Each item takes at least a byte, so this bounds what a short payload can make us allocate.
        if count > decoder.data.len() - decoder.at {
            return reject!("{} ends before its {} items", path, count);
        }
        let items = arena::take(count * core::mem::size_of::<T>(), core::mem::align_of::<T>()) as *mut T;
        for index in 0..count {
            let item = T::take(decoder, path)?;
            unsafe { items.add(index).write(item) }
        }
        Ok(unsafe { core::slice::from_raw_parts(items, count) })
    }
}

/// Payload of entry 0.
pub struct Opening<Params> {
    /// Addresses in seat order.
    pub participants: &'static [Address],
    /// Who may be paid, and the amounts at the start.
    pub slots: &'static [Slot],
    /// What the channel was proposed with.
    pub params: Params,
}

crate::fields! {
    /// An outcome slot: who may be paid in which asset, and the amount at the start.
    pub struct Slot { asset: Address, destination: Bytes32, amount: U256 }
}

crate::fields! {
    /// Params of an app that has none.
    pub struct NoParams {}
}

impl Slot {
    /// The address behind the destination, or None when it is a channel.
    pub fn payee(&self) -> Option<Address> {
        if self.destination.0[..12].iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Address::of(&self.destination.0[12..]))
    }
}

impl<Params: Value> Value for Opening<Params> {
    const FIELD: &'static str = "map";
    fn take(decoder: &mut Decoder, path: &Path) -> Result<Self> {
        let (mut participants, mut slots, mut params) = (None, None, None);
        decoder.fields(path, &["participants", "slots", "params"], &mut |decoder, index, path| {
            match index {
                0 => participants = Some(Value::take(decoder, path)?),
                1 => slots = Some(Value::take(decoder, path)?),
                _ => params = Some(Value::take(decoder, path)?),
            }
            Ok(())
        })?;
        Ok(Opening {
            participants: field(participants, None, path, "participants")?,
            slots: field(slots, None, path, "slots")?,
            params: field(params, None, path, "params")?,
        })
    }
}

/// A group of fields, for messages and params: `fields! { struct Balance { owner: Address, amount: U256 = U256::ZERO } }`.
/// A field with a value, or an Option, may be left out.
#[macro_export]
macro_rules! fields {
    ($(#[$about:meta])* $vis:vis struct $name:ident { $($field:ident : $type:ty $(= $default:expr)?),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        #[allow(missing_docs)]
        $vis struct $name { $($vis $field: $type),* }

        impl $crate::Value for $name {
            const FIELD: &'static str = "map";
            #[allow(unused_variables, unused_mut, unused_assignments)]
            fn take(decoder: &mut $crate::internal::Decoder, path: &$crate::internal::Path) -> $crate::Result<Self> {
                $crate::__take_fields!(decoder, path, $($field: $type $(= $default)?),*);
                Ok($name { $($field),* })
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __take_fields {
    ($decoder:ident, $path:ident, $($field:ident : $type:ty $(= $default:expr)?),*) => {
        $( let mut $field: Option<$type> = None; )*
        $decoder.fields($path, &[$(core::stringify!($field)),*], &mut |decoder, index, path| {
            let mut position = 0;
            $(
                if index == position {
                    $field = Some($crate::Value::take(decoder, path)?);
                    return Ok(());
                }
                position += 1;
            )*
            Ok(())
        })?;
        $( let $field: $type = $crate::internal::field($field, $crate::__default!($($default)?), $path, core::stringify!($field))?; )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __default {
    () => { None };
    ($default:expr) => { Some($default) };
}

/// The app's messages: `messages! { enum Message { Transfer("transfer") { to: Address, amount: U256 }, Pass("pass") } }`.
#[macro_export]
macro_rules! messages {
    ($(#[$about:meta])* $vis:vis enum $name:ident {
        $( $(#[$note:meta])* $case:ident ($message:literal) $({ $($field:ident : $type:ty $(= $default:expr)?),+ $(,)? })? ),+ $(,)?
    }) => {
        $(#[$about])*
        $vis enum $name { $( $(#[$note])* $case $({ $($field: $type),+ })? ),+ }

        impl $name {
            const MESSAGES: &'static [$crate::MessageInfo] = &[$( $crate::MessageInfo {
                name: $message,
                fields: &[$( $( $crate::FieldInfo { name: core::stringify!($field), of: <$type as $crate::Value>::FIELD, nullable: false } ),+ )?],
            } ),+];

            #[allow(unused_mut, unused_assignments)]
            fn decode(decoder: &mut $crate::internal::Decoder) -> $crate::Result<$name> {
                let (name, body) = decoder.message_name()?;
                let path = &$crate::internal::Path { above: None, name: "" };
                $( if name == $message.as_bytes() {
                    $crate::__take_case!(decoder, path, body, $name, $case, $message $(, $($field : $type $(= $default)?),+)?)
                } )+
                $crate::internal::unknown_message(name, &[$($message),+])
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __take_case {
    ($decoder:ident, $path:ident, $body:ident, $name:ident, $case:ident, $message:literal) => {{
        if $body {
            $decoder.empty_body($message)?;
        }
        return Ok($name::$case);
    }};
    ($decoder:ident, $path:ident, $body:ident, $name:ident, $case:ident, $message:literal, $($field:ident : $type:ty $(= $default:expr)?),+) => {{
        if !$body {
            return $crate::reject!("message '{}' needs a body", $message);
        }
        $crate::__take_fields!($decoder, $path, $($field: $type $(= $default)?),+);
        return Ok($name::$case { $($field),+ });
    }};
}
