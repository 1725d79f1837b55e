// Amounts: whole numbers from 0 to 2^256-1. Operators trap on overflow; `plus`, `minus` and `times` give null instead.

/** Four limbs, the lowest first; immutable by convention. */
export class U256 {
  constructor(public a: u64 = 0, public b: u64 = 0, public c: u64 = 0, public d: u64 = 0) {}

  static max(): U256 {
    return new U256(u64.MAX_VALUE, u64.MAX_VALUE, u64.MAX_VALUE, u64.MAX_VALUE);
  }

  /** From up to 32 big-endian bytes. */
  static fromBytes(start: usize, size: u32): U256 {
    const found = new U256();
    for (let i: u32 = 0; i < size; i++) {
      found.d = (found.d << 8) | (found.c >> 56);
      found.c = (found.c << 8) | (found.b >> 56);
      found.b = (found.b << 8) | (found.a >> 56);
      found.a = (found.a << 8) | <u64>load<u8>(start + i);
    }
    return found;
  }

  /** 32 big-endian bytes at `out`. */
  toBytes(out: usize): void {
    store<u64>(out, bswap(this.d));
    store<u64>(out + 8, bswap(this.c));
    store<u64>(out + 16, bswap(this.b));
    store<u64>(out + 24, bswap(this.a));
  }

  /** Decimal digits; null for anything else, or beyond 2^256-1. */
  static parse(start: usize, size: u32): U256 | null {
    const found = new U256();
    for (let i: u32 = 0; i < size; i++) {
      const digit = <u64>load<u8>(start + i) - 48;
      if (digit > 9 || found.scale(10, digit)) return null;
    }
    return size > 0 ? found : null;
  }

  isZero(): bool {
    return (this.a | this.b | this.c | this.d) == 0;
  }

  fitsU64(): bool {
    return (this.b | this.c | this.d) == 0;
  }

  /** -1, 0 or 1. */
  compare(other: U256): i32 {
    if (this.d != other.d) return this.d < other.d ? -1 : 1;
    if (this.c != other.c) return this.c < other.c ? -1 : 1;
    if (this.b != other.b) return this.b < other.b ? -1 : 1;
    if (this.a != other.a) return this.a < other.a ? -1 : 1;
    return 0;
  }

  /** Not `==`, which compares places in memory, as for all objects. */
  equals(other: U256): bool {
    return this.compare(other) == 0;
  }

  /** The sum, or null beyond 2^256-1. */
  plus(other: U256): U256 | null {
    const a = this.a + other.a;
    const carryA = <u64>(a < this.a);
    const b = this.b + other.b + carryA;
    const carryB = <u64>(b < this.b || (carryA != 0 && b == this.b));
    const c = this.c + other.c + carryB;
    const carryC = <u64>(c < this.c || (carryB != 0 && c == this.c));
    const d = this.d + other.d + carryC;
    if (d < this.d || (carryC != 0 && d == this.d)) return null;
    return new U256(a, b, c, d);
  }

  /** The difference, or null below 0. */
  minus(other: U256): U256 | null {
    if (this.compare(other) < 0) return null;
    const borrowA = <u64>(this.a < other.a);
    const borrowB = <u64>(this.b < other.b || (borrowA != 0 && this.b == other.b));
    const borrowC = <u64>(this.c < other.c || (borrowB != 0 && this.c == other.c));
    return new U256(
      this.a - other.a,
      this.b - other.b - borrowA,
      this.c - other.c - borrowB,
      this.d - other.d - borrowC,
    );
  }

  /** The product, or null beyond 2^256-1. */
  times(other: U256): U256 | null {
    let found = new U256();
    for (let bit = 255; bit >= 0; bit--) {
      const doubled = found.plus(found);
      if (doubled == null) return null;
      found = doubled;
      if (other.bit(bit)) {
        const sum = found.plus(this);
        if (sum == null) return null;
        found = sum;
      }
    }
    return found;
  }

  private bit(number: i32): bool {
    const limb = number < 64 ? this.a : number < 128 ? this.b : number < 192 ? this.c : this.d;
    return ((limb >> <u64>(number & 63)) & 1) != 0;
  }

  /** Itself times `factor` plus `addend`, both below 2^32, in place; true when it does not fit. */
  scale(factor: u64, addend: u64): bool {
    let carry = addend;
    for (let i: usize = 0; i < 8; i++) {
      const place = changetype<usize>(this) + 4 * i;
      const product = <u64>load<u32>(place) * factor + carry;
      store<u32>(place, <u32>product);
      carry = product >> 32;
    }
    return carry != 0;
  }

  /** Itself divided by `divisor` below 2^32, in place; the remainder. */
  divide(divisor: u64): u64 {
    let rest: u64 = 0;
    for (let i: i32 = 7; i >= 0; i--) {
      const place = changetype<usize>(this) + 4 * <usize>i;
      const value = (rest << 32) | <u64>load<u32>(place);
      store<u32>(place, <u32>(value / divisor));
      rest = value % divisor;
    }
    return rest;
  }

  copy(): U256 {
    return new U256(this.a, this.b, this.c, this.d);
  }

  toString(): string {
    if (this.fitsU64()) return this.a.toString();
    const rest = this.copy();
    let text = "";
    while (!rest.fitsU64()) text = rest.divide(1000000000).toString().padStart(9, "0") + text;
    return rest.isZero() ? text : rest.a.toString() + text;
  }

  @operator("+")
  static add(a: U256, b: U256): U256 {
    return value(a.plus(b));
  }
  @operator("-")
  static subtract(a: U256, b: U256): U256 {
    return value(a.minus(b));
  }
  @operator("*")
  static multiply(a: U256, b: U256): U256 {
    return value(a.times(b));
  }
  @operator("<")
  static less(a: U256, b: U256): bool {
    return a.compare(b) < 0;
  }
  @operator(">")
  static greater(a: U256, b: U256): bool {
    return a.compare(b) > 0;
  }
}

function value(found: U256 | null): U256 {
  if (found == null) abort("integer overflow");
  return found!;
}
