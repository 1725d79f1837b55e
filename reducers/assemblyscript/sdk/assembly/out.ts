// Bytes that grow: rows, events, the manifest and reasons are written here.

import { take } from "./arena";

export class Out {
  start: usize = take(64);
  size: u32 = 0;
  private capacity: u32 = 64;

  /** Room for `count` bytes, which the caller fills. */
  room(count: u32): usize {
    if (this.size + count > this.capacity) {
      const capacity = max(2 * this.capacity, this.size + count);
      const grown = take(capacity);
      memory.copy(grown, this.start, this.size);
      this.start = grown;
      this.capacity = capacity;
    }
    const place = this.start + this.size;
    this.size += count;
    return place;
  }

  u8(value: u32): Out {
    store<u8>(this.room(1), <u8>value);
    return this;
  }

  /** Big-endian, the low `width` bytes. */
  big(value: u64, width: u32): Out {
    const place = this.room(width);
    for (let i: u32 = 0; i < width; i++) store<u8>(place + i, <u8>(value >> (8 * (width - 1 - i))));
    return this;
  }

  raw(data: usize, size: u32): Out {
    memory.copy(this.room(size), data, size);
    return this;
  }

  /** As UTF-8. */
  text(value: string): Out {
    const size = <u32>String.UTF8.byteLength(value);
    String.UTF8.encodeUnsafe(changetype<usize>(value), value.length, this.room(size));
    return this;
  }

  number(value: u64): Out {
    return this.text(value.toString());
  }

  hex(data: usize, size: u32): Out {
    this.text("0x");
    for (let i: u32 = 0; i < size; i++) {
      const byte = load<u8>(data + i);
      this.u8(digit(byte >> 4)).u8(digit(byte & 15));
    }
    return this;
  }

  toString(): string {
    return String.UTF8.decodeUnsafe(this.start, this.size);
  }
}

function digit(value: u32): u32 {
  return value < 10 ? 48 + value : 87 + value;
}
