// One pass over the fields of a struct or row: to describe them, to write or read a row's columns, or to take one field of
// a message. Each call names a field, takes its value and gives the value it has afterwards.

import { Address, Bytes, Bytes32, Uuid } from "./bytes";
import { Kind, Path, Reader, joined } from "./message";
import { Out } from "./out";
import { Box, Struct } from "./row";
import { U256 } from "./u256";

export enum Mode {
  Describe,
  Write,
  Read,
  Take,
}

const EPOCH_MS: i64 = 946684800000; // of PostgreSQL, 2000-01-01, in milliseconds since 1970

/** The fields of a struct or row, in order. `columns` is "" for a type that no column has. */
export class Described {
  names: string[] = [];
  columns: string[] = [];
  kinds: string[] = [];
  nullable: bool[] = [];
  optional: bool[] = [];
}

export class Fields {
  described: Described | null = null;
  // A row that is written: how many columns, and where each begins in `out` when that is asked for.
  out: Out;
  count: u32 = 0;
  offsets: u32[] | null = null;
  limit: i32 = i32.MAX_VALUE;
  // A row that is read.
  at: usize = 0;
  // A message: the field that is taken now.
  reader: Reader | null = null;
  path: Path;
  target: i32 = 0;

  private position: i32 = 0;
  private nullableNext: bool = false;
  private optionalNext: bool = false;

  /** `path` is where the struct of a message stands, `out` where a row goes. */
  constructor(private mode: Mode, path: Path = changetype<Path>(0), out: Out = changetype<Out>(0)) {
    this.path = path;
    this.out = out;
  }

  /** Begin again. */
  restart(): Fields {
    this.position = 0;
    return this;
  }

  /** The next field may be left out of a message, and then keeps its value. */
  optional(): Fields {
    this.optionalNext = true;
    return this;
  }

  // Types that are columns.

  bool(name: string, value: bool): bool {
    if (!this.turn(name, "bool", "bool")) return value;
    if (this.mode == Mode.Take) return this.reader!.boolean(this.inside(name));
    return this.fixed(1, <u64>value) != 0;
  }
  i16(name: string, value: i16): i16 {
    return <i16>this.integer(name, "int2", 2, true, <i64>value);
  }
  i32(name: string, value: i32): i32 {
    return <i32>this.integer(name, "int4", 4, true, <i64>value);
  }
  i64(name: string, value: i64): i64 {
    return this.integer(name, "int8", 8, true, value);
  }
  u64(name: string, value: u64): u64 {
    if (!this.turn(name, "numeric", "int")) return value;
    if (this.mode == Mode.Take) return this.reader!.integer(this.inside(name), false, 64);
    return this.numeric(new U256(value)).a;
  }
  u256(name: string, value: U256): U256 {
    if (!this.turn(name, "numeric", "int")) return value;
    if (this.mode == Mode.Take) return this.reader!.wide(this.inside(name));
    return this.numeric(value);
  }
  f64(name: string, value: f64): f64 {
    if (!this.turn(name, "float8", "float")) return value;
    if (this.mode == Mode.Take) return this.reader!.fraction(this.inside(name));
    const bits = isNaN(value) ? 0x7ff8000000000000 : reinterpret<u64>(value);
    return reinterpret<f64>(this.fixed(8, bits));
  }
  text(name: string, value: string): string {
    return this.string_(name, "text", value);
  }
  /** JSON text, kept verbatim. */
  json(name: string, value: string): string {
    return this.string_(name, "json", value);
  }
  /** Text that is one of `allowed`. */
  choice(name: string, value: string, allowed: string[]): string {
    if (!this.turn(name, "text", "text")) return value;
    if (this.mode == Mode.Take) return this.reader!.choice(this.inside(name), allowed);
    if (this.mode == Mode.Write && !allowed.includes(value)) abort("a column holds a name that is not allowed");
    return this.textual(value);
  }
  bytes(name: string, value: Bytes): Bytes {
    return this.binary(name, "bytea", 0, value);
  }
  address(name: string, value: Address): Address {
    const found = this.binary(name, "address", 20, value);
    return found == value ? value : new Address(this.start20(found));
  }
  bytes32(name: string, value: Bytes32): Bytes32 {
    const found = this.binary(name, "bytes32", 32, value);
    return found == value ? value : found.size == 32 ? new Bytes32(found.start) : new Bytes32();
  }
  uuid(name: string, value: Uuid): Uuid {
    const found = this.binary(name, "uuid", 16, value);
    return found == value ? value : found.size == 16 ? new Uuid(found.start) : new Uuid();
  }
  /** Milliseconds since 1970: column type timestamptz. */
  timestamp(name: string, ms: i64): i64 {
    if (!this.turn(name, "timestamptz", "int")) return ms;
    if (this.mode == Mode.Take) return <i64>this.reader!.integer(this.inside(name), false, 53);
    const micros = <i64>this.fixed(8, <u64>((ms - EPOCH_MS) * 1000));
    return (micros - (((micros % 1000) + 1000) % 1000)) / 1000 + EPOCH_MS;
  }

  // The same, nullable.

  boolOrNull(name: string, value: Box<bool> | null): Box<bool> | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return new Box<bool>(this.bool(name, value == null ? false : value.value));
  }
  i16OrNull(name: string, value: Box<i16> | null): Box<i16> | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return new Box<i16>(this.i16(name, value == null ? 0 : value.value));
  }
  i32OrNull(name: string, value: Box<i32> | null): Box<i32> | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return new Box<i32>(this.i32(name, value == null ? 0 : value.value));
  }
  i64OrNull(name: string, value: Box<i64> | null): Box<i64> | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return new Box<i64>(this.i64(name, value == null ? 0 : value.value));
  }
  timestampOrNull(name: string, value: Box<i64> | null): Box<i64> | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return new Box<i64>(this.timestamp(name, value == null ? 0 : value.value));
  }
  u256OrNull(name: string, value: U256 | null): U256 | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return this.u256(name, value == null ? new U256() : value);
  }
  textOrNull(name: string, value: string | null): string | null {
    const absent = this.absent(value === null);
    if (absent) return absent == 1 ? null : value;
    return this.text(name, value === null ? "" : value);
  }
  bytesOrNull(name: string, value: Bytes | null): Bytes | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return this.bytes(name, value == null ? new Bytes() : value);
  }
  addressOrNull(name: string, value: Address | null): Address | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return this.address(name, value == null ? new Address() : value);
  }
  bytes32OrNull(name: string, value: Bytes32 | null): Bytes32 | null {
    const absent = this.absent(value == null);
    if (absent) return absent == 1 ? null : value;
    return this.bytes32(name, value == null ? new Bytes32() : value);
  }

  // Types of messages alone.

  u8(name: string, value: u8): u8 {
    return <u8>this.integer(name, "", 1, false, <i64>value);
  }
  u16(name: string, value: u16): u16 {
    return <u16>this.integer(name, "", 2, false, <i64>value);
  }
  u32(name: string, value: u32): u32 {
    return <u32>this.integer(name, "", 4, false, <i64>value);
  }
  /** A struct within. */
  group<T extends Struct>(name: string, value: T): T {
    if (!this.turn(name, "", "map")) return value;
    const found = instantiate<T>();
    takeStruct(this.reader!, this.inside(name), found, instantiate<T>());
    return found;
  }
  list<T extends Struct>(name: string, value: T[]): T[] {
    if (!this.turn(name, "", "array")) return value;
    const reader = this.reader!;
    const path = this.inside(name);
    const found: T[] = [];
    for (let count = reader.array(path); count > 0 && !reader.failed; count--) {
      const item = instantiate<T>();
      takeStruct(reader, path, item, instantiate<T>());
      found.push(item);
    }
    return found;
  }
  u256s(name: string, value: U256[]): U256[] {
    if (!this.turn(name, "", "array")) return value;
    const path = this.inside(name);
    const found: U256[] = [];
    for (let count = this.reader!.array(path); count > 0 && !this.reader!.failed; count--) found.push(this.reader!.wide(path));
    return found;
  }
  addresses(name: string, value: Address[]): Address[] {
    if (!this.turn(name, "", "array")) return value;
    const path = this.inside(name);
    const found: Address[] = [];
    for (let count = this.reader!.array(path); count > 0 && !this.reader!.failed; count--) {
      found.push(new Address(this.start20(this.reader!.bytes(path, 20))));
    }
    return found;
  }
  texts(name: string, value: string[]): string[] {
    if (!this.turn(name, "", "array")) return value;
    const path = this.inside(name);
    const found: string[] = [];
    for (let count = this.reader!.array(path); count > 0 && !this.reader!.failed; count--) found.push(this.reader!.text(path));
    return found;
  }

  // How each of them works.

  /** Note the field, or say whether it is this one's turn to be written, read or taken. */
  private turn(name: string, column: string, kind: string): bool {
    const position = this.position++;
    if (this.mode == Mode.Describe) {
      const described = this.described!;
      described.names.push(name);
      described.columns.push(column);
      described.kinds.push(kind);
      described.nullable.push(this.nullableNext);
      described.optional.push(this.optionalNext);
      this.nullableNext = false;
      this.optionalNext = false;
      return false;
    }
    if (this.mode == Mode.Take) return position == this.target && !this.reader!.failed;
    if (this.mode == Mode.Write && position >= this.limit) return false;
    if (this.mode == Mode.Write) this.begin();
    return true;
  }

  /** One more column is written. */
  private begin(): void {
    this.count++;
    const offsets = this.offsets;
    if (offsets != null) offsets.push(this.out.size);
  }

  /** For a nullable field: 0 there is a value, 1 it is null, 2 it is not its turn. */
  private absent(none: bool): i32 {
    switch (this.mode) {
      case Mode.Describe:
        this.nullableNext = true;
        return 0;
      case Mode.Write:
        if (!none) return 0;
        if (this.position++ >= this.limit) return 2;
        this.begin();
        this.out.big(u32.MAX_VALUE, 4);
        return 1;
      case Mode.Read:
        if (bswap(load<u32>(this.at)) != u32.MAX_VALUE) return 0;
        this.position++;
        this.at += 4;
        return 1;
      default:
        if (this.position != this.target || this.reader!.failed) {
          this.position++;
          return 2;
        }
        if (!this.reader!.isNil()) return 0;
        this.reader!.skip();
        this.position++;
        return 1;
    }
  }

  private inside(name: string): Path {
    return new Path(this.path, name);
  }

  private integer(name: string, column: string, width: u32, signed: bool, value: i64): i64 {
    if (!this.turn(name, column, "int")) return value;
    if (this.mode == Mode.Take) return <i64>this.reader!.integer(this.inside(name), signed, 8 * width);
    const unused: i64 = 64 - 8 * width;
    return ((<i64>this.fixed(width, <u64>value)) << unused) >> unused;
  }

  private string_(name: string, column: string, value: string): string {
    if (!this.turn(name, column, "text")) return value;
    if (this.mode == Mode.Take) return this.reader!.text(this.inside(name));
    return this.textual(value);
  }

  private binary(name: string, column: string, size: u32, value: Bytes): Bytes {
    if (!this.turn(name, column, "bytes")) return value;
    if (this.mode == Mode.Take) return this.reader!.bytes(this.inside(name), size);
    if (this.mode == Mode.Write) {
      this.out.big(value.size, 4).raw(value.start, value.size);
      return value;
    }
    const length = this.length();
    const found = new Bytes(this.at, length);
    this.at += length;
    return found;
  }

  private start20(found: Bytes): usize {
    return found.size == 20 ? found.start : 0; // else it has been rejected
  }

  private length(): u32 {
    const length = bswap(load<u32>(this.at));
    this.at += 4;
    return length;
  }

  /** A column of `width` bytes, big-endian. */
  private fixed(width: u32, value: u64): u64 {
    if (this.mode == Mode.Write) {
      this.out.big(width, 4).big(value, width);
      return value;
    }
    this.length();
    let found: u64 = 0;
    for (let i: u32 = 0; i < width; i++) found = (found << 8) | <u64>load<u8>(this.at + i);
    this.at += width;
    return found;
  }

  private textual(value: string): string {
    if (this.mode == Mode.Write) {
      this.out.big(String.UTF8.byteLength(value), 4).text(value);
      return value;
    }
    const length = this.length();
    const found = String.UTF8.decodeUnsafe(this.at, length);
    this.at += length;
    return found;
  }

  private numeric(value: U256): U256 {
    if (this.mode == Mode.Write) {
      writeNumeric(this.out, value);
      return value;
    }
    this.length();
    const count = <u32>bswap(load<u16>(this.at));
    const weight = <u32>bswap(load<u16>(this.at, 2));
    const found = new U256();
    for (let i: u32 = 0; count > 0 && i <= weight; i++) {
      found.scale(10000, i < count ? bswap(load<u16>(this.at + 8 + 2 * i)) : 0);
    }
    this.at += 8 + 2 * count;
    return found;
  }
}

function writeNumeric(out: Out, value: U256): void {
  const digits: u16[] = [];
  for (const rest = value.copy(); !rest.isZero(); ) digits.push(<u16>rest.divide(10000));
  let low = 0;
  while (low < digits.length && digits[low] == 0) low++;
  const count = digits.length - low;
  out.big(8 + 2 * count, 4).big(count, 2).big(digits.length ? digits.length - 1 : 0, 2).big(0, 4);
  for (let i = digits.length - 1; i >= low; i--) out.big(digits[i], 2);
}

/** The fields of a struct, from a fresh instance. */
export function describe(fresh: Struct): Described {
  const found = new Described();
  const fields = new Fields(Mode.Describe);
  fields.described = found;
  fresh.fields(fields);
  return found;
}

/** A map or an array into `target`; `fresh` is another of its class. */
export function takeStruct(reader: Reader, path: Path, target: Struct, fresh: Struct): void {
  const known = describe(fresh);
  const count = known.names.length;
  const seen = new StaticArray<bool>(count);
  const fields = new Fields(Mode.Take, path);
  fields.reader = reader;
  if (!reader.next()) return;
  if (reader.kind == Kind.Map) {
    for (let left = reader.number; left > 0 && !reader.failed; left--) takeNamed(reader, fields, known, target, seen);
  } else if (reader.kind == Kind.Array) {
    if (reader.number > <u64>count) {
      const out = path.label(new Out()).text(" has ").number(reader.number).text(" values for ");
      reader.fail(out.number(count).text(" fields"));
      return;
    }
    const given = <i32>reader.number;
    for (let i = 0; i < given && !reader.failed; i++) {
      fields.target = i;
      target.fields(fields.restart());
      seen[i] = true;
    }
  } else if (reader.kind != Kind.Nil) {
    reader.wrong(path, "a map or an array");
    return;
  }
  for (let i = 0; i < count && !reader.failed; i++) {
    if (seen[i] || known.nullable[i] || known.optional[i]) continue;
    reader.fail(new Path(path, known.names[i]).label(new Out()).text(" missing"));
  }
}

function takeNamed(reader: Reader, fields: Fields, known: Described, target: Struct, seen: StaticArray<bool>): void {
  if (!reader.next()) return;
  if (reader.kind != Kind.Text) {
    reader.wrong(fields.path, "a map with text keys");
    return;
  }
  for (let i = 0; i < known.names.length; i++) {
    if (!same(known.names[i], reader.data, reader.size)) continue;
    if (seen[i]) {
      reader.fail(new Path(fields.path, known.names[i]).label(new Out()).text(" is given twice"));
      return;
    }
    seen[i] = true;
    fields.target = i;
    target.fields(fields.restart());
    return;
  }
  const out = new Out().text("unknown field '").raw(reader.data, reader.size).text("': known are ");
  reader.fail(joined(out, known.names));
}

/** Whether a name of ASCII characters is these bytes. */
export function same(name: string, data: usize, size: u32): bool {
  if (<u32>name.length != size) return false;
  for (let i: u32 = 0; i < size; i++) if (<u32>name.charCodeAt(i) != <u32>load<u8>(data + i)) return false;
  return true;
}
