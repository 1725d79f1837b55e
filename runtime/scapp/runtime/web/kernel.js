// The node's own kernel and a channel's reducer, run in the browser over the co-signed log: the same tables, the same
// roots, computed by the page itself. Host side of docs/reference/kernel.md; Python's is scapp.runtime.native.
//
// On a node a bridge module with two memories copies between kernel and reducer. Here functions of the page do it, so a
// browser without multi-memory can run it as well. A browser measures no fuel: this is for logs that were co-signed.

import { bytesOf, hex } from "./client.js";
import { decodeRow } from "./rows.js";

const IMPORTS = ["get", "put", "delete", "scan", "next", "emit", "set_outcome", "reject", "log", "keccak256", "sha256"];
const TYPES = [
  "bool", "int2", "int4", "int8", "numeric", "float8", "text", "bytea", "bytes32", "address", "uuid", "timestamptz", "json",
];
const BUDGET = 16n; // that of derivation
const ACCEPTED = 1;
const REPORT = { output: 84, outputLength: 88, statuses: 92, stateRoot: 112, baseStateRoot: 144 };
const ROWS_CHUNK_BYTES = 1 << 20;

/** Whether this browser can run it at all. */
export function canRun() {
  return typeof WebAssembly === "object" && typeof BigInt === "function";
}

/** The log does not give what was signed, or cannot be run. */
export class KernelError extends Error {}

export class Kernel {
  /**
   * `kernel`, `reducer`: bytes. `channel`: {id, participants, slots} as the log's first entry has them, `limits` as the
   * deployment's. Raises WebAssembly.CompileError or KernelError.
   */
  static async create({ kernel, reducer, channel, limits }) {
    const self = new Kernel();
    self.reducer = await WebAssembly.compile(reducer);
    self.guest = null;
    const guest = () => self.guest.exports;
    const kernelMemory = () => new Uint8Array(self.kernel.memory.buffer);
    const guestMemory = () => new Uint8Array(guest().memory.buffer);
    const shim = {
      guest_pages: () => guest().memory.buffer.byteLength / 65536,
      guest_alloc: (length) => guest().scapp_alloc(length),
      guest_reduce: (pointer, length) => guest().scapp_reduce(pointer, length),
      guest_load: (from, to, length) => copy(guestMemory(), from, kernelMemory(), to, length),
      guest_store: (from, to, length) => copy(kernelMemory(), from, guestMemory(), to, length),
    };
    self.kernel = (await WebAssembly.instantiate(await WebAssembly.compile(kernel), { shim })).exports;
    await self.plug();
    self.manifest = self.readManifest();
    self.limits = limits;
    self.configure(channel);
    return self;
  }

  /** A fresh instance of the reducer, as each batch begins with. */
  async plug() {
    const imports = Object.fromEntries(IMPORTS.map((name) => [name, this.kernel[`abi_${name}`]]));
    this.guest = await WebAssembly.instantiate(this.reducer, { scapp_1: imports });
  }

  readManifest() {
    const answer = BigInt.asUintN(64, this.guest.exports.scapp_manifest());
    const pointer = Number(answer >> 32n);
    const text = new Uint8Array(this.guest.exports.memory.buffer, pointer, Number(answer & 0xffffffffn));
    return JSON.parse(new TextDecoder().decode(text));
  }

  configure({ id, participants, slots }) {
    const { kernel, limits } = this;
    const tables = this.manifest.tables;
    const out = new Writer();
    out.u64(limits.rows_max).u64(limits.row_bytes_total_max).u32(limits.events_per_message_max);
    out.u32(limits.event_bytes_max).u32(limits.logs_per_message_max).u32(limits.log_bytes_max);
    out.bytes(bytesOf(id)).u32(participants.length);
    for (const participant of participants) out.bytes(bytesOf(participant));
    const assets = [...new Set(slots.map((slot) => slot.asset))].sort();
    out.u32(slots.length).u32(assets.length);
    for (const slot of slots) out.u32(assets.indexOf(slot.asset)).u256(slot.amount);
    out.u32(tables.length);
    for (const table of tables) {
      const names = table.columns.map((column) => column.name);
      out.u16(names.length).u16(table.key).u16(0);
      for (const column of table.columns) out.u8(TYPES.indexOf(column.type)).u8(column.nullable ? 1 : 0);
      const indexes = table.indexes ?? [];
      out.u16(indexes.length);
      for (const index of indexes) {
        out.u16(index.columns.length).u16(index.unique ? 1 : 0);
        for (const name of index.columns) out.u16(names.indexOf(name));
      }
    }
    kernel.scapp_init();
    kernel.scapp_configure(this.pass(out.done()));
    kernel.scapp_track(0);
    kernel.scapp_set_rooted(1);
    kernel.scapp_set_ordered(1);
    kernel.scapp_ignore_outcome(0);
    this.report = kernel.scapp_report();
  }

  /** Run one turn's entries (bytes) and keep what they give; returns the state root. Raises KernelError. */
  async run(firstSequence, entries, turn) {
    const { kernel } = this;
    const offsets = [4 * (entries.length + 1)];
    for (const entry of entries) offsets.push(offsets.at(-1) + entry.length);
    const out = new Writer();
    for (const offset of offsets) out.u32(offset);
    for (const entry of entries) out.bytes(entry);
    const data = out.done();
    const address = kernel.scapp_reserve(entries.length, data.length);
    new Uint8Array(kernel.memory.buffer).set(data, address);
    kernel.scapp_open(BigInt(firstSequence), BigInt(this.limits.fuel_per_message) * BUDGET);
    await this.plug();
    try {
      kernel.scapp_run(0, entries.length);
    } catch (error) {
      throw new KernelError(`the reducer failed in turn ${turn}: ${error.message}`);
    }
    kernel.scapp_finish();
    const statuses = new Uint8Array(kernel.memory.buffer, this.word(REPORT.statuses), entries.length);
    const refused = statuses.findIndex((status) => status !== ACCEPTED);
    if (refused >= 0) throw new KernelError(`entry ${firstSequence + refused} is refused by the reducer, and is in the log`);
    const root = hex(new Uint8Array(kernel.memory.buffer, this.report + REPORT.stateRoot, 32));
    kernel.scapp_commit(BigInt(turn));
    return root;
  }

  /** Rows of a table in key order, as objects by column name; bytes as `0x…`, numeric and 64-bit integers as text. */
  rows(name) {
    const number = this.manifest.tables.findIndex((table) => table.name === name);
    if (number < 0) throw new KernelError(`no table ${name}`);
    const found = [];
    let after = Uint8Array.of(number >> 8, number & 255);
    for (;;) {
      this.kernel.scapp_rows(this.pass(after), ROWS_CHUNK_BYTES);
      const memory = new Uint8Array(this.kernel.memory.buffer);
      const view = new DataView(memory.buffer, this.word(REPORT.output), this.word(REPORT.outputLength));
      const count = view.getUint32(0, true);
      const keyLength = view.getUint32(4, true);
      if (!count) return found;
      after = new Uint8Array(view.buffer, view.byteOffset + 8, keyLength).slice();
      for (let row = 0, at = 8 + keyLength; row < count; row++) {
        const length = view.getUint32(at, true);
        found.push(decodeRow(this.manifest.tables[number].columns, memory, view.byteOffset + at + 4));
        at += 4 + length;
      }
    }
  }

  /** Root of what is kept. */
  stateRoot() {
    return hex(new Uint8Array(this.kernel.memory.buffer, this.report + REPORT.baseStateRoot, 32));
  }

  pass(data) {
    const address = this.kernel.scapp_scratch(data.length);
    new Uint8Array(this.kernel.memory.buffer).set(data, address);
    return data.length;
  }

  word(offset) {
    return new DataView(this.kernel.memory.buffer).getUint32(this.report + offset, true);
  }
}

function copy(source, from, target, to, length) {
  from >>>= 0;
  to >>>= 0;
  length >>>= 0;
  if (from + length > source.length || to + length > target.length) throw new WebAssembly.RuntimeError("out of bounds");
  target.set(source.subarray(from, from + length), to);
}

/** Little-endian, growing. */
class Writer {
  parts = [];

  number(size, set, value) {
    const bytes = new Uint8Array(size);
    new DataView(bytes.buffer)[set](0, value, true);
    return this.bytes(bytes);
  }
  u8(value) {
    return this.number(1, "setUint8", value);
  }
  u16(value) {
    return this.number(2, "setUint16", value);
  }
  u32(value) {
    return this.number(4, "setUint32", value);
  }
  u64(value) {
    return this.number(8, "setBigUint64", BigInt(value));
  }
  /** Big-endian, as amounts are. */
  u256(text) {
    return this.bytes(bytesOf("0x" + BigInt(text).toString(16).padStart(64, "0")));
  }
  bytes(bytes) {
    this.parts.push(bytes);
    return this;
  }
  done() {
    const all = new Uint8Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}
