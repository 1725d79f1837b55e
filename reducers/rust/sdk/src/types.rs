//! The values that tables and messages are made of, besides bool, integers, f64, [`crate::U256`] and `Option`.

use core::fmt::{Display, Formatter};

/// UTF-8 text without NUL, until the message ends.
pub type Text = &'static str;

/// Any bytes, until the message ends: column type bytea.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub &'static [u8]);

/// JSON text, kept verbatim: column type json.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json(pub &'static str);

macro_rules! fixed {
    ($(#[$about:meta])* $name:ident, $size:literal) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// All zeros.
            pub const ZERO: $name = $name([0; $size]);

            /// From a slice of exactly that many bytes; panics for another length.
            pub fn of(bytes: &[u8]) -> $name {
                let mut value = $name::ZERO;
                value.0.copy_from_slice(bytes);
                value
            }
        }

        impl Display for $name {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
                formatter.write_str("0x")?;
                for byte in self.0.iter() {
                    write!(formatter, "{:02x}", byte)?;
                }
                Ok(())
            }
        }
    };
}

fixed!(
    /// An account: column type address.
    Address, 20
);
fixed!(
    /// A hash or identifier: column type bytes32.
    Bytes32, 32
);
fixed!(
    /// Column type uuid.
    Uuid, 16
);

/// A moment, in microseconds since 2000-01-01 00:00 UTC as PostgreSQL counts: column type timestamptz.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 2000.
    pub micros: i64,
}

const EPOCH_MS: i64 = 946_684_800_000;

impl Timestamp {
    /// From milliseconds since 1970, as entries carry them.
    pub fn from_ms(ms: u64) -> Timestamp {
        Timestamp { micros: (ms as i64 - EPOCH_MS) * 1000 }
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> u64 {
        (self.micros.div_euclid(1000) + EPOCH_MS) as u64
    }
}
