// Typed tables: rows to and from the host. The number of a table is its place in the app's list.

import { current } from "./app";
import { take } from "./arena";
import { Fields, Mode, describe } from "./fields";
import { Path } from "./message";
import { Out } from "./out";
import * as raw from "./raw";
import { Indexes, Row } from "./row";

const ROW_GUESS: u32 = 512;
const BACKWARDS: u32 = 1;
const TO_INCLUSIVE: u32 = 2;

/** The row with the key of `key`, whose other fields do not matter: `get(new Account(owner))`. */
export function get<T extends Row>(key: T): T | null {
  const bytes = tuple(key, key.key());
  let buffer = take(ROW_GUESS);
  let size = raw.get(number(key), bytes.start, bytes.size, buffer, ROW_GUESS);
  if (size > <i32>ROW_GUESS) {
    buffer = take(size);
    size = raw.get(number(key), bytes.start, bytes.size, buffer, size);
  }
  return size < 0 ? null : decoded<T>(buffer);
}

/** Insert, or replace the row with the same key; true when it replaced. */
export function put(row: Row): bool {
  const bytes = tuple(row, i32.MAX_VALUE);
  return raw.put(number(row), bytes.start, bytes.size) != 0;
}

/** True when there was a row with the key of `key`. */
export function remove(key: Row): bool {
  const bytes = tuple(key, key.key());
  return raw.remove(number(key), bytes.start, bytes.size) != 0;
}

/** Rows in key order. */
export function scan<T extends Row>(): Scan<T> {
  return new Scan<T>();
}

/** Which rows, in which order: read them with `next` until null, or take `first`. */
export class Scan<T extends Row> {
  private columns: string[] = [];
  private index: string = "";
  private lo: Out = new Out();
  private hi: Out = new Out();
  private flags: u32 = 0;
  private cursor: i32 = -1;
  private ended: bool = false;

  /** In the order of an index; before any bound. */
  by(index: string): Scan<T> {
    const found = new Indexes();
    instantiate<T>().indexes(found);
    const place = found.names.indexOf(index);
    if (place < 0) abort("the table has no such index");
    this.index = index;
    this.columns = found.columns[place];
    return this;
  }

  /** Only rows that agree with `row` in the leading `count` columns of the key or index. */
  prefix(row: T, count: i32): Scan<T> {
    this.lo = this.bound(row, count);
    this.hi = this.lo;
    this.flags |= TO_INCLUSIVE;
    return this;
  }

  /** From here on, inclusive. */
  from(row: T, count: i32): Scan<T> {
    this.lo = this.bound(row, count);
    return this;
  }

  /** Up to here, exclusive unless `inclusive`. */
  to(row: T, count: i32, inclusive: bool = false): Scan<T> {
    this.hi = this.bound(row, count);
    if (inclusive) this.flags |= TO_INCLUSIVE;
    return this;
  }

  /** Last row first. */
  backwards(): Scan<T> {
    this.flags |= BACKWARDS;
    return this;
  }

  /** The next row, or null at the end. A scan that is left early keeps one of the message's 16 cursors. */
  next(): T | null {
    if (this.ended) return null;
    if (this.cursor < 0) {
      this.cursor = <i32>raw.scan(this.over(), this.lo.start, this.lo.size, this.hi.start, this.hi.size, this.flags);
    }
    let buffer = take(ROW_GUESS);
    let size = raw.next(this.cursor, buffer, ROW_GUESS);
    if (size > <i32>ROW_GUESS) {
      buffer = take(size);
      size = raw.next(this.cursor, buffer, size);
    }
    this.ended = size < 0;
    return size < 0 ? null : decoded<T>(buffer);
  }

  private over(): u32 {
    const row = instantiate<T>();
    return this.index.length ? current().indexNumber(row.table(), this.index) : number(row);
  }

  private bound(row: T, count: i32): Out {
    if (!this.index.length) return tuple(row, count);
    const whole = new Out();
    const offsets: u32[] = [];
    const written = new Fields(Mode.Write, changetype<Path>(0), whole);
    written.offsets = offsets;
    row.fields(written);
    offsets.push(whole.size);
    const names = describe(instantiate<T>()).names;
    const out = new Out().big(count, 2);
    for (let i = 0; i < count; i++) {
      const place = names.indexOf(this.columns[i]);
      out.raw(whole.start + offsets[place], offsets[place + 1] - offsets[place]);
    }
    return out;
  }
}

function number(row: Row): u32 {
  return current().tableNumber(row.table());
}

/** The first `count` fields, or all. */
function tuple(row: Row, count: i32): Out {
  const out = new Out().big(0, 2);
  const written = new Fields(Mode.Write, changetype<Path>(0), out);
  written.limit = count;
  row.fields(written);
  store<u16>(out.start, bswap(<u16>written.count));
  return out;
}

function decoded<T extends Row>(buffer: usize): T {
  const row = instantiate<T>();
  const fields = new Fields(Mode.Read);
  fields.at = buffer + 2;
  row.fields(fields);
  return row;
}
