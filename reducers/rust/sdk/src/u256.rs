//! Amounts: whole numbers from 0 to 2^256-1. Operators panic on overflow; the `checked_` functions give None.

use core::cmp::Ordering;
use core::fmt::{Display, Formatter};
use core::ops::{Add, AddAssign, Div, Mul, Rem, Sub, SubAssign};

/// Eight 32-bit limbs, least significant first, so that 64-bit arithmetic carries everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct U256([u32; 8]);

impl U256 {
    /// 0
    pub const ZERO: U256 = U256([0; 8]);
    /// 2^256-1
    pub const MAX: U256 = U256([u32::MAX; 8]);

    /// True for 0.
    pub fn is_zero(&self) -> bool {
        *self == U256::ZERO
    }

    /// The sum, or None above 2^256-1.
    pub fn checked_add(self, other: U256) -> Option<U256> {
        let (mut out, mut carry) = (U256::ZERO, 0u64);
        for i in 0..8 {
            carry += self.0[i] as u64 + other.0[i] as u64;
            out.0[i] = carry as u32;
            carry >>= 32;
        }
        if carry == 0 { Some(out) } else { None }
    }

    /// The difference, or None below 0.
    pub fn checked_sub(self, other: U256) -> Option<U256> {
        let (mut out, mut borrow) = (U256::ZERO, 0i64);
        for i in 0..8 {
            borrow += self.0[i] as i64 - other.0[i] as i64;
            out.0[i] = borrow as u32;
            borrow >>= 32;
        }
        if borrow == 0 { Some(out) } else { None }
    }

    /// The product, or None above 2^256-1.
    pub fn checked_mul(self, other: U256) -> Option<U256> {
        let mut out = U256::ZERO;
        for i in 0..8 {
            let mut carry = 0u64;
            for k in 0..8 {
                let part = self.0[i] as u64 * other.0[k] as u64 + carry;
                if i + k >= 8 {
                    if part != 0 {
                        return None;
                    }
                    continue;
                }
                let sum = part + out.0[i + k] as u64;
                out.0[i + k] = sum as u32;
                carry = sum >> 32;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(out)
    }

    /// Quotient and remainder, or None for a divisor of 0.
    pub fn checked_div_rem(self, divisor: U256) -> Option<(U256, U256)> {
        if divisor.is_zero() {
            return None;
        }
        let (mut quotient, mut remainder) = (U256::ZERO, U256::ZERO);
        for bit in (0..256).rev() {
            let overflow = remainder.0[7] >> 31 == 1;
            remainder = remainder.doubled();
            remainder.0[0] |= self.0[bit / 32] >> (bit % 32) & 1;
            if overflow || remainder >= divisor {
                remainder = remainder.wrapping_sub(divisor);
                quotient.0[bit / 32] |= 1 << (bit % 32);
            }
        }
        Some((quotient, remainder))
    }

    fn doubled(self) -> U256 {
        let mut out = U256::ZERO;
        for i in 0..8 {
            out.0[i] = self.0[i] << 1 | if i > 0 { self.0[i - 1] >> 31 } else { 0 };
        }
        out
    }

    fn wrapping_sub(self, other: U256) -> U256 {
        let (mut out, mut borrow) = (U256::ZERO, 0i64);
        for i in 0..8 {
            borrow += self.0[i] as i64 - other.0[i] as i64;
            out.0[i] = borrow as u32;
            borrow >>= 32;
        }
        out
    }

    /// Divide in place; the remainder.
    pub(crate) fn divide_small(&mut self, divisor: u32) -> u32 {
        let mut remainder = 0u64;
        for limb in self.0.iter_mut().rev() {
            let part = remainder << 32 | *limb as u64;
            *limb = (part / divisor as u64) as u32;
            remainder = part % divisor as u64;
        }
        remainder as u32
    }

    /// Multiply and add in place; false above 2^256-1.
    pub(crate) fn multiply_add(&mut self, factor: u32, addend: u32) -> bool {
        let mut carry = addend as u64;
        for limb in self.0.iter_mut() {
            let part = *limb as u64 * factor as u64 + carry;
            *limb = part as u32;
            carry = part >> 32;
        }
        carry == 0
    }

    /// From decimal digits; None for anything else and above 2^256-1.
    pub fn parse(digits: &str) -> Option<U256> {
        let mut number = U256::ZERO;
        for digit in digits.bytes() {
            if !digit.is_ascii_digit() || !number.multiply_add(10, (digit - b'0') as u32) {
                return None;
            }
        }
        if digits.is_empty() { None } else { Some(number) }
    }

    /// 32 bytes, most significant first.
    pub fn to_be_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        for i in 0..8 {
            out[4 * i..4 * i + 4].copy_from_slice(&self.0[7 - i].to_be_bytes());
        }
        out
    }

    /// From up to 32 bytes, most significant first; panics for more.
    pub fn from_be_bytes(bytes: &[u8]) -> U256 {
        let mut out = U256::ZERO;
        for (i, byte) in bytes.iter().rev().enumerate() {
            out.0[i / 4] |= (*byte as u32) << (8 * (i % 4));
        }
        out
    }

    /// The number when it fits 64 bits.
    pub fn to_u64(self) -> Option<u64> {
        if self.0[2..].iter().any(|limb| *limb != 0) {
            return None;
        }
        Some((self.0[1] as u64) << 32 | self.0[0] as u64)
    }
}

impl From<u64> for U256 {
    fn from(number: u64) -> U256 {
        let mut out = U256::ZERO;
        out.0[0] = number as u32;
        out.0[1] = (number >> 32) as u32;
        out
    }
}

impl From<u128> for U256 {
    fn from(number: u128) -> U256 {
        U256::from_be_bytes(&number.to_be_bytes())
    }
}

impl Ord for U256 {
    fn cmp(&self, other: &U256) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for U256 {
    fn partial_cmp(&self, other: &U256) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! operator {
    ($trait:ident, $name:ident, $checked:expr, $failure:literal) => {
        impl $trait for U256 {
            type Output = U256;
            fn $name(self, other: U256) -> U256 {
                let checked: fn(U256, U256) -> Option<U256> = $checked;
                checked(self, other).expect($failure)
            }
        }
    };
}
operator!(Add, add, U256::checked_add, "attempt to add with overflow");
operator!(Sub, sub, U256::checked_sub, "attempt to subtract with overflow");
operator!(Mul, mul, U256::checked_mul, "attempt to multiply with overflow");
operator!(Div, div, |a, b| a.checked_div_rem(b).map(|both| both.0), "attempt to divide by zero");
operator!(Rem, rem, |a, b| a.checked_div_rem(b).map(|both| both.1), "attempt to divide by zero");

impl AddAssign for U256 {
    fn add_assign(&mut self, other: U256) {
        *self = *self + other;
    }
}

impl SubAssign for U256 {
    fn sub_assign(&mut self, other: U256) {
        *self = *self - other;
    }
}

impl Display for U256 {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
        let (mut digits, mut at, mut rest) = ([0u8; 78], 78, *self);
        while at == 78 || !rest.is_zero() {
            at -= 1;
            digits[at] = b'0' + rest.divide_small(10) as u8;
        }
        formatter.write_str(core::str::from_utf8(&digits[at..]).unwrap_or(""))
    }
}
