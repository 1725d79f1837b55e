// COPY BINARY tuples, the form of a row everywhere (docs/reference/abi.md), to objects by column name.

import { hex } from "./client.js";

const EPOCH_MS = Date.UTC(2000, 0, 1);
const decoder = new TextDecoder();

const DECODE = {
  bool: (view) => view.getUint8(0) !== 0,
  int2: (view) => view.getInt16(0),
  int4: (view) => view.getInt32(0),
  int8: (view) => view.getBigInt64(0).toString(),
  float8: (view) => view.getFloat64(0),
  numeric,
  text: (view) => decoder.decode(view),
  json: (view) => JSON.parse(decoder.decode(view)),
  bytea: raw,
  bytes32: raw,
  address: raw,
  uuid: (view) => raw(view).slice(2).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"),
  timestamptz: (view) => new Date(EPOCH_MS + Number(view.getBigInt64(0) / 1000n)).toISOString(),
};

/** The row whose tuple begins at `at`. */
export function decodeRow(columns, memory, at) {
  const view = new DataView(memory.buffer, memory.byteOffset + at);
  const row = {};
  let position = 2; // behind the number of columns
  for (const column of columns) {
    const length = view.getInt32(position);
    position += 4;
    if (length < 0) {
      row[column.name] = null;
      continue;
    }
    row[column.name] = DECODE[column.type](new DataView(memory.buffer, memory.byteOffset + at + position, length));
    position += length;
  }
  return row;
}

function raw(view) {
  return hex(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
}

/** An unsigned integer in PostgreSQL's digits of base 10,000. */
function numeric(view) {
  const count = view.getInt16(0);
  const weight = view.getInt16(2);
  let value = 0n;
  for (let digit = 0; digit <= weight; digit++) value = value * 10000n + BigInt(digit < count ? view.getUint16(8 + 2 * digit) : 0);
  return value.toString();
}
