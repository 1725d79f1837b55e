// Bytes, and bytes of a fixed length: a place in memory that stays until the message ends.

import { take } from "./arena";
import { Out } from "./out";
import * as raw from "./raw";

/** Any bytes: column type bytea. */
export class Bytes {
  constructor(public start: usize = 0, public size: u32 = 0) {}

  /** 0x and hexadecimal digits. */
  toString(): string {
    return new Out().hex(this.start, this.size).toString();
  }

  equals(other: Bytes): bool {
    return this.size == other.size && memory.compare(this.start, other.start, this.size) == 0;
  }

  /** As text; what is not UTF-8 becomes U+FFFD. */
  text(): string {
    return String.UTF8.decodeUnsafe(this.start, this.size);
  }

  /** The UTF-8 of text. */
  static of(text: string): Bytes {
    const out = new Out().text(text);
    return new Bytes(out.start, out.size);
  }
}

function zeros(size: u32): usize {
  const start = take(size);
  memory.fill(start, 0, size);
  return start;
}

/** An account: column type address. `new Address()` is zero. */
export class Address extends Bytes {
  constructor(start: usize = 0) {
    super(start ? start : zeros(20), 20);
  }
}

/** A hash or identifier: column type bytes32. */
export class Bytes32 extends Bytes {
  constructor(start: usize = 0) {
    super(start ? start : zeros(32), 32);
  }
}

/** Column type uuid. */
export class Uuid extends Bytes {
  constructor(start: usize = 0) {
    super(start ? start : zeros(16), 16);
  }
}

export function keccak256(data: Bytes): Bytes32 {
  const digest = new Bytes32();
  raw.keccak256(data.start, data.size, digest.start);
  return digest;
}

export function sha256(data: Bytes): Bytes32 {
  const digest = new Bytes32();
  raw.sha256(data.start, data.size, digest.start);
  return digest;
}
