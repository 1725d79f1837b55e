// A channel's log, checked and run in the browser, one co-signed turn after the other.

import { bytesOf, hex } from "./client.js";
import { keccak256 } from "./keccak.js";
import { canRun, Kernel, KernelError } from "./kernel.js";

const KINDS = ["open", "message", "tick", "close"];

/** The bytes that were signed, of an entry as the API gives it. */
export function entryBytes(entry) {
  const payload = Uint8Array.from(atob(entry.payload_base64), (character) => character.charCodeAt(0));
  const bytes = new Uint8Array(18 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KINDS.indexOf(entry.kind));
  view.setUint8(1, entry.author);
  view.setBigUint64(2, BigInt(entry.counter));
  view.setBigUint64(10, BigInt(entry.time_ms));
  bytes.set(payload, 18);
  return bytes;
}

/** Root of the log after these entries, the first of which is entry 0. */
export function logRoot(entries) {
  let root = new Uint8Array(32);
  for (const entry of entries) root = keccak256(root, keccak256(entryBytes(entry)));
  return hex(root);
}

/** Entries by turn: [{turn, first, entries, stateRoot}]. */
export function turnsOf(entries) {
  const turns = [];
  for (const entry of entries) {
    if (turns.at(-1)?.turn !== entry.turn) {
      turns.push({ turn: entry.turn, first: entry.sequence, entries: [], stateRoot: entry.state_root });
    }
    turns.at(-1).entries.push(entry);
  }
  return turns;
}

/** The log of a channel with a kernel beside it that goes through it turn by turn. */
export class LocalRun {
  /** Raises NodeError, or KernelError where this browser cannot run WebAssembly. */
  static async of(node, channel) {
    if (!canRun()) throw new KernelError("this browser runs no WebAssembly");
    const [kernel, app, reducer, entries] = await Promise.all([
      node.bytes("/app/scapp/kernel.wasm"),
      node.get(`/v1/deployments/${channel.deployment_id.slice(2)}`),
      node.bytes(`/v1/deployments/${channel.deployment_id.slice(2)}/module`),
      node.entries(channel.channel_id),
    ]);
    const hash = hex(keccak256(reducer));
    if (hash !== app.reducer) throw new KernelError(`the module hashes to ${hash}, the deployment names ${app.reducer}`);
    const self = new LocalRun();
    self.channel = channel;
    self.entries = entries;
    self.turns = turnsOf(entries);
    self.parts = { kernel, reducer, limits: app.limits };
    await self.restart();
    return self;
  }

  /** Before the first turn. */
  async restart() {
    const { channel_id: id, participants, slots } = this.channel;
    this.kernel = await Kernel.create({ ...this.parts, channel: { id, participants, slots } });
    this.done = 0;
  }

  /** Run the next turn; returns {turn, signed, computed}, two roots that must be equal. */
  async step() {
    const { turn, first, entries, stateRoot } = this.turns[this.done];
    const computed = await this.kernel.run(first, entries.map(entryBytes), turn);
    this.done += 1;
    return { turn, signed: stateRoot, computed };
  }

  /** Go to where `count` turns have been run. */
  async go(count) {
    if (count < this.done) await this.restart();
    while (this.done < count) await this.step();
  }
}

/**
 * Check a channel: the log's root against the signed one, then each turn's root, recomputed here.
 * Returns {ok, turns, entries, detail}: `detail` says what differs.
 */
export async function verify(node, channel, onTurn = () => {}) {
  const run = await LocalRun.of(node, channel);
  const counts = { turns: run.turns.length, entries: run.entries.length };
  const known = run.entries.slice(0, channel.sequence);
  const root = logRoot(known);
  if (root !== channel.log_root) return { ok: false, ...counts, detail: `log root ${root}, signed was ${channel.log_root}` };
  while (run.done < run.turns.length) {
    const { turn, signed, computed } = await run.step();
    onTurn(turn, signed, computed);
    if (signed !== computed) return { ok: false, ...counts, detail: `turn ${turn} gives ${computed}, signed was ${signed}` };
  }
  return { ok: true, ...counts, detail: "" };
}
