// Payloads: MessagePack, read value by value. What does not fit is rejected with a reason that names the field; the
// reasons are those of the other SDKs, byte for byte.

import { take } from "./arena";
import { Bytes } from "./bytes";
import { Out } from "./out";
import * as raw from "./raw";
import { U256 } from "./u256";

export enum Kind {
  Nil,
  Bool,
  Int,
  Float,
  Text,
  Bin,
  Array,
  Map,
  Ext,
}

/** Where a value stands: the message's body has no name and nothing above it. */
export class Path {
  constructor(public above: Path | null = null, public name: string = "") {}

  /** "the body", or "field 'a.b'". */
  label(out: Out): Out {
    if (this.above == null) return out.text("the body");
    this.join(out.text("field '"));
    return out.text("'");
  }

  private join(out: Out): void {
    const above = this.above!;
    if (above.above != null) {
      above.join(out);
      out.text(".");
    }
    out.text(this.name);
  }
}

function described(kind: Kind): string {
  switch (kind) {
    case Kind.Nil: return "nil";
    case Kind.Bool: return "a boolean";
    case Kind.Int: return "a whole number";
    case Kind.Float: return "a fraction";
    case Kind.Text: return "text";
    case Kind.Bin: return "bytes";
    case Kind.Array: return "an array";
    case Kind.Map: return "a map";
    default: return "an extension";
  }
}

/** Names with commas between them, "none" for none. */
export function joined(out: Out, names: string[]): Out {
  for (let i = 0; i < names.length; i++) out.text(i ? ", " : "").text(names[i]);
  return names.length ? out : out.text("none");
}

/** A payload and the value that was read last. Once `failed`, nothing more is to be read: the reason has been given. */
export class Reader {
  failed: bool = false;
  private at: u32 = 0;
  kind: Kind = Kind.Nil;
  /** Of an integer its sign, and its absolute value in `number`. */
  negative: bool = false;
  /** A boolean, an absolute value, the bits of a fraction, or the count of an array or map. */
  number: u64 = 0;
  /** Of text, bytes and extensions. */
  data: usize = 0;
  size: u32 = 0;

  constructor(private start: usize, private end: u32) {}

  left(): u32 {
    return this.end - this.at;
  }

  fail(reason: Out): bool {
    raw.reject(reason.start, reason.size);
    this.failed = true;
    return false;
  }

  wrong(path: Path, wanted: string): bool {
    const out = path.label(new Out()).text(" must be ").text(wanted).text(", not ");
    return this.fail(out.text(described(this.kind)));
  }

  describe(): string {
    return described(this.kind);
  }

  isNil(): bool {
    return this.at < this.end && load<u8>(this.start + this.at) == 0xc0;
  }

  skip(): void {
    this.at++;
  }

  /** The next value's head; the items of an array or map follow it. False, and rejected, when the bytes are none. */
  next(): bool {
    if (this.read()) return true;
    const out = new Out().text("payload is not valid MessagePack (at byte ").number(this.at);
    return this.fail(out.text(" of ").number(this.end).text(")"));
  }

  private grab(count: u64): bool {
    if (count > this.left()) return false;
    this.data = this.start + this.at;
    this.size = <u32>count;
    this.at += <u32>count;
    return true;
  }

  private count(width: u32): bool {
    if (!this.grab(width)) return false;
    let value: u64 = 0;
    for (let i: u32 = 0; i < width; i++) value = (value << 8) | <u64>load<u8>(this.data + i);
    this.number = value;
    return true;
  }

  private sized(width: u32, extra: u32): bool {
    return this.count(width) && this.grab(this.number + extra);
  }

  private signed(width: u32): bool {
    if (!this.count(width)) return false;
    const unused = 64 - 8 * width;
    const value = <i64>(this.number << unused) >> unused;
    this.negative = value < 0;
    this.number = value < 0 ? <u64>-value : <u64>value;
    return true;
  }

  private read(): bool {
    this.negative = false;
    this.number = 0;
    if (!this.grab(1)) return false;
    const head = <u32>load<u8>(this.data);
    if (head < 0x80) return this.of(Kind.Int, head);
    if (head < 0x90) return this.of(Kind.Map, head & 15);
    if (head < 0xa0) return this.of(Kind.Array, head & 15);
    if (head < 0xc0) return this.of(Kind.Text, 0) && this.grab(head & 31);
    if (head >= 0xe0) {
      this.negative = true;
      return this.of(Kind.Int, 256 - head);
    }
    switch (head) {
      case 0xc0: return this.of(Kind.Nil, 0);
      case 0xc2:
      case 0xc3: return this.of(Kind.Bool, head & 1);
      case 0xc4:
      case 0xc5:
      case 0xc6: return this.of(Kind.Bin, 0) && this.sized(1 << (head - 0xc4), 0);
      case 0xc7:
      case 0xc8:
      case 0xc9: return this.of(Kind.Ext, 0) && this.sized(1 << (head - 0xc7), 1);
      case 0xca: {
        if (!this.of(Kind.Float, 0) || !this.count(4)) return false;
        this.number = reinterpret<u64>(<f64>reinterpret<f32>(<u32>this.number));
        return true;
      }
      case 0xcb: return this.of(Kind.Float, 0) && this.count(8);
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf: return this.of(Kind.Int, 0) && this.count(1 << (head - 0xcc));
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3: return this.of(Kind.Int, 0) && this.signed(1 << (head - 0xd0));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8: return this.of(Kind.Ext, 0) && this.grab((1 << (head - 0xd4)) + 1);
      case 0xd9:
      case 0xda:
      case 0xdb: return this.of(Kind.Text, 0) && this.sized(1 << (head - 0xd9), 0);
      case 0xdc:
      case 0xdd: return this.of(Kind.Array, 0) && this.count(2 << (head - 0xdc));
      case 0xde:
      case 0xdf: return this.of(Kind.Map, 0) && this.count(2 << (head - 0xde));
      default: return false; // 0xc1 is never used
    }
  }

  private of(kind: Kind, number: u64): bool {
    this.kind = kind;
    this.number = number;
    return true;
  }

  // Values. Each gives something harmless when it has failed.

  boolean(path: Path): bool {
    if (this.next() && this.kind != Kind.Bool) this.wrong(path, "true or false");
    return !this.failed && this.number != 0;
  }

  /** The bits of an integer of `bits` bits. */
  integer(path: Path, signed: bool, bits: u32): u64 {
    if (!this.next()) return 0;
    if (this.kind != Kind.Int) {
      this.wrong(path, "a whole number");
      return 0;
    }
    const most = u64.MAX_VALUE >> (64 - bits + (signed ? 1 : 0));
    const least: u64 = signed ? most + 1 : 0;
    if (this.number <= (this.negative ? least : most)) return this.negative ? <u64>-(<i64>this.number) : this.number;
    const out = path.label(new Out()).text(" is out of range: ");
    if (signed) out.text("-").number(least);
    else out.text("0");
    this.fail(out.text(" to ").number(most));
    return 0;
  }

  wide(path: Path): U256 {
    const none = new U256();
    if (!this.next()) return none;
    if (this.kind == Kind.Text) {
      const parsed = U256.parse(this.data, this.size);
      if (parsed != null) return parsed;
      const out = path.label(new Out()).text(" is not a whole number from 0 to 2^256-1: '");
      this.fail(out.raw(this.data, this.size).text("'"));
      return none;
    }
    if (this.kind == Kind.Int && !this.negative) return new U256(this.number);
    if (this.kind == Kind.Bin && this.size <= 32) return U256.fromBytes(this.data, this.size);
    if (this.kind == Kind.Int || this.kind == Kind.Bin) {
      this.fail(path.label(new Out()).text(" is out of range: 0 to 2^256-1"));
    } else this.wrong(path, "a whole number");
    return none;
  }

  fraction(path: Path): f64 {
    if (!this.next()) return 0;
    if (this.kind == Kind.Float) return reinterpret<f64>(this.number);
    if (this.kind != Kind.Int) this.wrong(path, "a number");
    return this.negative ? -(<f64>this.number) : <f64>this.number;
  }

  /** The bytes of valid UTF-8, in `data` and `size`. */
  utf8(path: Path): bool {
    if (!this.next()) return false;
    if (this.kind != Kind.Text) return this.wrong(path, "text");
    if (validUtf8(this.data, this.size)) return true;
    return this.fail(path.label(new Out()).text(" is not valid UTF-8"));
  }

  text(path: Path): string {
    return this.utf8(path) ? String.UTF8.decodeUnsafe(this.data, this.size) : "";
  }

  /** One of the names. */
  choice(path: Path, names: string[]): string {
    if (!this.utf8(path)) return "";
    const given = String.UTF8.decodeUnsafe(this.data, this.size);
    if (names.includes(given)) return given;
    const out = path.label(new Out()).text(" is '").raw(this.data, this.size).text("': allowed are ");
    this.fail(joined(out, names));
    return "";
  }

  /** `size` 0: any number. */
  bytes(path: Path, size: u32): Bytes {
    const found = new Bytes();
    if (!this.next()) return found;
    if (this.kind == Kind.Bin) {
      found.start = this.data;
      found.size = this.size;
    } else if (this.kind != Kind.Text) {
      this.wrong(path, "bytes or 0x text");
      return found;
    } else if (!this.hex(found)) {
      this.fail(path.label(new Out()).text(" is text, but not 0x and pairs of hexadecimal digits"));
      return found;
    }
    if (size != 0 && found.size != size) {
      const out = path.label(new Out()).text(" has ").number(found.size).text(" bytes, ");
      this.fail(out.number(size).text(" are needed"));
    }
    return found;
  }

  private hex(out: Bytes): bool {
    const size = this.size;
    if (size < 2 || size % 2 || load<u8>(this.data) != 48 || load<u8>(this.data + 1) != 120) return false;
    out.size = size / 2 - 1;
    out.start = take(out.size);
    for (let i: u32 = 2; i < size; i += 2) {
      const high = hexDigit(load<u8>(this.data + i));
      const low = hexDigit(load<u8>(this.data + i + 1));
      if (high < 0 || low < 0) return false;
      store<u8>(out.start + i / 2 - 1, <u8>((high << 4) | low));
    }
    return true;
  }

  /** The count of an array; 0 when it has failed. */
  array(path: Path): u32 {
    if (!this.next()) return 0;
    if (this.kind != Kind.Array) {
      this.wrong(path, "an array");
      return 0;
    }
    // Each item takes at least a byte, so this bounds what a short payload can make us allocate.
    if (this.number <= this.left()) return <u32>this.number;
    this.fail(path.label(new Out()).text(" ends before its ").number(this.number).text(" items"));
    return 0;
  }

  /** Nothing may follow the value. */
  ended(): bool {
    if (this.failed || this.at == this.end) return !this.failed;
    return this.fail(new Out().number(this.left()).text(" bytes after the payload's value"));
  }
}

function hexDigit(character: u32): i32 {
  if (character >= 48 && character <= 57) return character - 48;
  const lower = character | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function validUtf8(start: usize, size: u32): bool {
  let i: u32 = 0;
  while (i < size) {
    const head = <u32>load<u8>(start + i++);
    if (head < 0x80) continue;
    const more: u32 = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1;
    if (head < 0xc2 || head > 0xf4 || more > size - i) return false;
    let code = head & (0x3f >> more);
    for (let k: u32 = 0; k < more; k++) {
      const byte = <u32>load<u8>(start + i++);
      if ((byte & 0xc0) != 0x80) return false;
      code = (code << 6) | (byte & 0x3f);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return false;
  }
  return true;
}
