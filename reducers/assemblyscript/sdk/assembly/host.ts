// Everything a message can do besides tables: reject, emit, log, pay; and who said what when.

import { take } from "./arena";
import { Address, Bytes, Bytes32, keccak256 } from "./bytes";
import { Out } from "./out";
import * as raw from "./raw";
import { U256 } from "./u256";

/** What handlers return. */
export const OK: i32 = 0;
export const REJECTED: i32 = 1;

/** Refuse the message with a reason for its author: `return reject("balance is " + balance.toString());` */
export function reject(reason: string): i32 {
  const out = new Out().text(reason);
  raw.reject(out.start, out.size);
  return REJECTED;
}

export enum Level {
  Error,
  Warning,
  Info,
  Debug,
}

/** A line of diagnostics; never part of state. */
export function log(level: Level, line: string): void {
  const out = new Out().text(line);
  raw.log(level, out.start, out.size);
}

/** What the compiler's checks call: indexes out of range, null where there must be a value, overflow in `checked.ts`. */
export function abort(message: string | null = null, file: string | null = null, line: i32 = 0, _column: i32 = 0): void {
  const out = new Out().text(message == null ? "aborted" : message);
  if (line > 0 && file != null) out.text(", ").text(file).u8(58).number(line);
  raw.log(Level.Error, out.start, out.size);
  unreachable();
}

/** Who sent the entry, where and when. */
export class Context {
  /** 0 open, 1 message, 2 tick. */
  kind: u32;
  /** Index among the channel's participants. */
  author: u32;
  address: Address;
  channelId: Bytes32;
  /** Position in the channel's log; the opening is 0. */
  sequence: u64;
  /** Milliseconds since 1970 UTC; never decreases along the log. */
  timeMs: u64;

  /** From the header of a message buffer. */
  constructor(buffer: usize) {
    this.kind = load<u8>(buffer);
    this.author = load<u8>(buffer, 1);
    this.address = new Address(buffer + 24);
    this.channelId = new Bytes32(buffer + 44);
    this.sequence = load<u64>(buffer, 8);
    this.timeMs = load<u64>(buffer, 16);
  }
}

/** What each outcome slot gets from now on; traps unless there is one amount per slot and each asset's sum stays. */
export function setOutcome(amounts: U256[]): void {
  const start = take(32 * amounts.length);
  for (let i = 0; i < amounts.length; i++) amounts[i].toBytes(start + 32 * i);
  raw.setOutcome(start, 32 * amounts.length);
}

/**
 * What hides `value` until its author shows value and salt: keccak256(salt || channel id || author address || round u64
 * big-endian || value). Channel, author and round are inside, so nobody can repeat another's commitment.
 */
export function commitment(ctx: Context, salt: Bytes32, round: u64, value: Bytes): Bytes32 {
  const out = new Out().raw(salt.start, 32).raw(ctx.channelId.start, 32).raw(ctx.address.start, 20).big(round, 8);
  out.raw(value.start, value.size);
  return keccak256(new Bytes(out.start, out.size));
}

/** The fields of an app event, in MessagePack. */
export class Packed {
  private out: Out = new Out();
  private count: u32 = 0;

  bool(name: string, value: bool): Packed {
    this.named(name).u8(value ? 0xc3 : 0xc2);
    return this;
  }
  null(name: string): Packed {
    this.named(name).u8(0xc0);
    return this;
  }
  signed(name: string, value: i64): Packed {
    packSigned(this.named(name), value);
    return this;
  }
  unsigned(name: string, value: u64): Packed {
    packUnsigned(this.named(name), value);
    return this;
  }
  u256(name: string, value: U256): Packed {
    const out = this.named(name);
    if (value.fitsU64()) packUnsigned(out, value.a);
    else packText(out, value.toString());
    return this;
  }
  f64(name: string, value: f64): Packed {
    this.named(name).u8(0xcb).big(isNaN(value) ? 0x7ff8000000000000 : reinterpret<u64>(value), 8);
    return this;
  }
  text(name: string, value: string): Packed {
    packText(this.named(name), value);
    return this;
  }
  bytes(name: string, value: Bytes): Packed {
    packBytes(this.named(name), value);
    return this;
  }
  /** Null when there is none. */
  bytesOrNull(name: string, value: Bytes | null): Packed {
    return value == null ? this.null(name) : this.bytes(name, value);
  }
  /** Begins an array of `count` items, which `item…` then add. */
  list(name: string, count: u32): Packed {
    packSized(this.named(name), 0x90, 15, 0xdc, count);
    return this;
  }
  itemSigned(value: i64): Packed {
    packSigned(this.out, value);
    return this;
  }
  itemText(value: string): Packed {
    packText(this.out, value);
    return this;
  }

  private named(name: string): Out {
    this.count++;
    packText(this.out, name);
    return this.out;
  }
  finish(): Out {
    const whole = new Out();
    packSized(whole, 0x80, 15, 0xde, this.count);
    return whole.raw(this.out.start, this.out.size);
  }
}

/** An app event: `emit("transfer", new Packed().bytes("to", to).u256("amount", amount))`. */
export function emit(topic: string, fields: Packed): void {
  const data = fields.finish();
  emitRaw(topic, new Bytes(data.start, data.size));
}

/** An app event with bytes of your own format. */
export function emitRaw(topic: string, data: Bytes): void {
  const name = new Out().text(topic);
  raw.emit(name.start, name.size, data.start, data.size);
}

function packSized(out: Out, small: u32, smallMax: u32, long: u32, count: u32): void {
  if (count <= smallMax) out.u8(small | count);
  else if (count <= 0xffff) out.u8(long).big(count, 2);
  else out.u8(long + 1).big(count, 4);
}

function packUnsigned(out: Out, value: u64): void {
  if (value < 128) out.u8(<u32>value);
  else if (value <= 0xff) out.u8(0xcc).big(value, 1);
  else if (value <= 0xffff) out.u8(0xcd).big(value, 2);
  else if (value <= 0xffffffff) out.u8(0xce).big(value, 4);
  else out.u8(0xcf).big(value, 8);
}

function packSigned(out: Out, value: i64): void {
  if (value >= 0) packUnsigned(out, <u64>value);
  else if (value >= -32) out.u8(<u32>value & 0xff);
  else out.u8(0xd3).big(<u64>value, 8);
}

function packText(out: Out, value: string): void {
  const size = <u32>String.UTF8.byteLength(value);
  if (size > 31 && size <= 0xff) out.u8(0xd9).u8(size);
  else packSized(out, 0xa0, 31, 0xda, size);
  out.text(value);
}

function packBytes(out: Out, value: Bytes): void {
  if (value.size <= 0xff) out.u8(0xc4).big(value.size, 1);
  else if (value.size <= 0xffff) out.u8(0xc5).big(value.size, 2);
  else out.u8(0xc6).big(value.size, 4);
  out.raw(value.start, value.size);
}
