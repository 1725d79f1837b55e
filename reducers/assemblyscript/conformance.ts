// The probes of reducers/zig/conformance.zig in AssemblyScript: every import of `scapp_1` with values of the sender's
// choosing. Not an app. Built to tests/golden/conformance-assemblyscript.wasm.

import {
  Address, App, Box, Bytes, Bytes32, Context, Fields, Indexes, Level, OK, Opening, Packed, Row, Scan, Struct, U256, Uuid, add,
  commitment, emit, emitRaw, get, keccak256, log, put, reject, remove, scan, setOutcome, sha256,
} from "scapp";
import { take } from "scapp/assembly/arena";
import * as raw from "scapp/assembly/raw";

function colours(): string[] {
  return ["red", "green", "blue"];
}

/** One column of each type; the message that writes it has the same fields. */
class Every extends Row {
  id: i64 = 0;
  flag: bool = false;
  small: i16 = 0;
  medium: i32 = 0;
  amount: U256 = new U256();
  word: u64 = 0;
  ratio: f64 = 0;
  title: string = "";
  blob: Bytes = new Bytes();
  hash: Bytes32 = new Bytes32();
  owner: Address = new Address();
  uid: Uuid = new Uuid();
  at: i64 = 0;
  doc: string = "";
  colour: string = "red";
  note: string | null = null;

  table(): string {
    return "every";
  }
  fields(f: Fields): void {
    this.id = f.i64("id", this.id);
    this.flag = f.bool("flag", this.flag);
    this.small = f.i16("small", this.small);
    this.medium = f.i32("medium", this.medium);
    this.amount = f.u256("amount", this.amount);
    this.word = f.u64("word", this.word);
    this.ratio = f.f64("ratio", this.ratio);
    this.title = f.text("title", this.title);
    this.blob = f.bytes("blob", this.blob);
    this.hash = f.bytes32("hash", this.hash);
    this.owner = f.address("owner", this.owner);
    this.uid = f.uuid("uid", this.uid);
    this.at = f.timestamp("at", this.at);
    this.doc = f.json("doc", this.doc);
    this.colour = f.choice("colour", this.colour, colours());
    this.note = f.textOrNull("note", this.note);
  }
  indexes(on: Indexes): void {
    on.on("every_by_title", ["title", "id"]).unique("every_by_note", ["note"]);
  }
}

class Pair extends Row {
  constructor(public left: i32 = 0, public right: string = "", public value: i32 = 0) {
    super();
  }
  table(): string {
    return "pair";
  }
  key(): i32 {
    return 2;
  }
  fields(f: Fields): void {
    this.left = f.i32("left", this.left);
    this.right = f.text("right", this.right);
    this.value = f.i32("value", this.value);
  }
  indexes(on: Indexes): void {
    on.on("pair_by_value", ["value"]);
  }
  history(): bool {
    return true;
  }
}

/** What probes found out, one row per message. */
class Found extends Row {
  constructor(public sequence: i64 = 0, public text: string = "") {
    super();
  }
  table(): string {
    return "result";
  }
  fields(f: Fields): void {
    this.sequence = f.i64("sequence", this.sequence);
    this.text = f.text("text", this.text);
  }
}

class Params extends Struct {
  greeting: string = "hello";
  fields(f: Fields): void {
    this.greeting = f.optional().text("greeting", this.greeting);
  }
}
class Item extends Struct {
  left: i32 = 0;
  right: string = "";
  value: i32 = 0;
  fields(f: Fields): void {
    this.left = f.i32("left", this.left);
    this.right = f.text("right", this.right);
    this.value = f.i32("value", this.value);
  }
}
class Copy extends Struct {
  from: i64 = 0;
  to: i64 = 0;
  fields(f: Fields): void {
    this.from = f.i64("from", this.from);
    this.to = f.i64("to", this.to);
  }
}
class Remove extends Struct {
  id: i64 = 0;
  fields(f: Fields): void {
    this.id = f.i64("id", this.id);
  }
}
class PutPairs extends Struct {
  pairs: Item[] = [];
  fields(f: Fields): void {
    this.pairs = f.list<Item>("pairs", this.pairs);
  }
}
class ScanPairs extends Struct {
  left: Box<i32> | null = null;
  from: Box<i32> | null = null;
  to: Box<i32> | null = null;
  inclusive: bool = false;
  backwards: bool = false;
  fields(f: Fields): void {
    this.left = f.i32OrNull("left", this.left);
    this.from = f.i32OrNull("from", this.from);
    this.to = f.i32OrNull("to", this.to);
    this.inclusive = f.optional().bool("inclusive", this.inclusive);
    this.backwards = f.optional().bool("backwards", this.backwards);
  }
}
class ScanValues extends Struct {
  from: i32 = 0;
  to: i32 = 0;
  backwards: bool = false;
  fields(f: Fields): void {
    this.from = f.i32("from", this.from);
    this.to = f.i32("to", this.to);
    this.backwards = f.optional().bool("backwards", this.backwards);
  }
}
class Nothing extends Struct {
  fields(_: Fields): void {}
}
class Pay extends Struct {
  amounts: U256[] = [];
  fields(f: Fields): void {
    this.amounts = f.u256s("amounts", this.amounts);
  }
}
class Data extends Struct {
  data: Bytes = new Bytes();
  fields(f: Fields): void {
    this.data = f.bytes("data", this.data);
  }
}
class Hide extends Struct {
  salt: Bytes32 = new Bytes32();
  round: u64 = 0;
  value: Bytes = new Bytes();
  fields(f: Fields): void {
    this.salt = f.bytes32("salt", this.salt);
    this.round = f.u64("round", this.round);
    this.value = f.bytes("value", this.value);
  }
}
class Speak extends Struct {
  level: string = "err";
  text: string = "";
  fields(f: Fields): void {
    this.level = f.choice("level", this.level, ["err", "warn", "info", "debug"]);
    this.text = f.text("text", this.text);
  }
}
class Announce extends Struct {
  topic: string = "";
  data: Bytes = new Bytes();
  fields(f: Fields): void {
    this.topic = f.text("topic", this.topic);
    this.data = f.bytes("data", this.data);
  }
}
class AnnounceValues extends Struct {
  a: i64 = 0;
  b: U256 = new U256();
  c: Box<bool> | null = null;
  d: string = "";
  fields(f: Fields): void {
    this.a = f.i64("a", this.a);
    this.b = f.u256("b", this.b);
    this.c = f.boolOrNull("c", this.c);
    this.d = f.text("d", this.d);
  }
}
class Refuse extends Struct {
  reason: string = "";
  fields(f: Fields): void {
    this.reason = f.text("reason", this.reason);
  }
}
class Move extends Struct {
  x: i32 = 0;
  y: i32 = 0;
  fields(f: Fields): void {
    this.x = f.i32("x", this.x);
    this.y = f.i32("y", this.y);
  }
}
class Overflow extends Struct {
  by: i32 = 0;
  fields(f: Fields): void {
    this.by = f.i32("by", this.by);
  }
}
class Recurse extends Struct {
  depth: u32 = 0;
  fields(f: Fields): void {
    this.depth = f.u32("depth", this.depth);
  }
}
class Devour extends Struct {
  bytes: u32 = 0;
  fields(f: Fields): void {
    this.bytes = f.u32("bytes", this.bytes);
  }
}
/** Calls an import with raw numbers: bad tables, pointers and lengths. */
class Raw extends Struct {
  name: string = "get";
  table: u32 = 0;
  ptr: u32 = 0;
  len: u32 = 0;
  fields(f: Fields): void {
    const names = ["get", "put", "delete", "scan", "next", "emit", "set_outcome", "keccak256"];
    this.name = f.choice("import", this.name, names);
    this.table = f.u32("table", this.table);
    this.ptr = f.u32("ptr", this.ptr);
    this.len = f.u32("len", this.len);
  }
}

export function app(): App {
  return new App("conformance", "1.0.0")
    .table<Every>()
    .table<Pair>()
    .table<Found>()
    .open<Params>(onOpen)
    .message<Every>("every", (_ctx, row) => {
      put(row);
      return OK;
    })
    .message<Copy>("copy", onCopy)
    .message<Remove>("remove", onRemove)
    .message<PutPairs>("put_pairs", (_ctx, b) => {
      for (let i = 0; i < b.pairs.length; i++) put(new Pair(b.pairs[i].left, b.pairs[i].right, b.pairs[i].value));
      return OK;
    })
    .message<ScanPairs>("scan_pairs", onScanPairs)
    .message<ScanValues>("scan_values", onScanValues)
    .message<Nothing>("scan_while_deleting", onScanWhileDeleting)
    .message<Pay>("pay", (_ctx, b) => {
      setOutcome(b.amounts);
      return OK;
    })
    .message<Data>("hash_both", (ctx, b) => note(ctx, keccak256(b.data).toString() + " " + sha256(b.data).toString()))
    .message<Hide>("hide", (ctx, b) => note(ctx, commitment(ctx, b.salt, b.round, b.value).toString()))
    .message<Speak>("speak", (_ctx, b) => {
      log(<Level>["err", "warn", "info", "debug"].indexOf(b.level), b.text);
      return OK;
    })
    .message<Announce>("announce", (_ctx, b) => {
      emitRaw(b.topic, b.data);
      return OK;
    })
    .message<AnnounceValues>("announce_values", onAnnounceValues)
    .message<Refuse>("refuse_but_accept", (_ctx, b) => {
      reject(b.reason);
      return OK;
    })
    .message<Move>("move", (ctx, b) => note(ctx, `${b.x} ${b.y}`))
    .message<Nothing>("context", (ctx, _b) => describe(ctx))
    .message<Overflow>("overflow", (ctx, b) => note(ctx, add<i32>(2147483647, b.by).toString()))
    .message<Recurse>("recurse", (ctx, b) => note(ctx, deep(b.depth).toString()))
    .message<Devour>("devour", (ctx, b) => {
      take(b.bytes);
      return note(ctx, b.bytes.toString());
    })
    .message<Raw>("raw", onRaw)
    .tick((ctx) => describe(ctx));
}

function note(ctx: Context, text: string): i32 {
  put(new Found(<i64>ctx.sequence, text));
  return OK;
}

function describe(ctx: Context): i32 {
  const kind = ctx.kind == 2 ? "tick" : "message";
  return note(
    ctx,
    `${kind} ${ctx.author} ${ctx.address.toString()} ${ctx.channelId.toString()} ${ctx.sequence} ${ctx.timeMs}`,
  );
}

function onOpen(ctx: Context, opening: Opening<Params>): i32 {
  const greeting = opening.params.greeting;
  if (greeting.length == 0) return reject("greeting is empty");
  return note(ctx, `${greeting} ${opening.participants.length} participants ${opening.slots.length} slots`);
}

function onCopy(ctx: Context, b: Copy): i32 {
  const key = new Every();
  key.id = b.from;
  const row = get(key);
  if (row == null) return reject(`no row ${b.from}`);
  row.id = b.to;
  row.note = null;
  return note(ctx, "replaced " + put(row).toString());
}

function onRemove(ctx: Context, b: Remove): i32 {
  const key = new Every();
  key.id = b.id;
  return note(ctx, "existed " + remove(key).toString());
}

function list(ctx: Context, rows: Scan<Pair>): i32 {
  let text = "";
  for (let row = rows.next(); row != null; row = rows.next()) text += `${row.left}${row.right}=${row.value} `;
  return note(ctx, text);
}

function onScanPairs(ctx: Context, b: ScanPairs): i32 {
  const rows = scan<Pair>();
  if (b.backwards) rows.backwards();
  const left = b.left;
  if (left != null) return list(ctx, rows.prefix(new Pair(left.value), 1));
  const from = b.from;
  if (from == null) return list(ctx, rows);
  rows.from(new Pair(from.value), 1);
  const to = b.to;
  return list(ctx, to == null ? rows : rows.to(new Pair(to.value), 1, b.inclusive));
}

function onScanValues(ctx: Context, b: ScanValues): i32 {
  const rows = scan<Pair>().by("pair_by_value").from(new Pair(0, "", b.from), 1).to(new Pair(0, "", b.to), 1);
  return list(ctx, b.backwards ? rows.backwards() : rows);
}

function onScanWhileDeleting(_: Context, _b: Nothing): i32 {
  const rows = scan<Pair>();
  for (let row = rows.next(); row != null; row = rows.next()) {
    remove(row);
    remove(new Pair(row.left + 1, row.right));
  }
  return OK;
}

function onAnnounceValues(_: Context, b: AnnounceValues): i32 {
  const packed = new Packed().signed("a", b.a).u256("b", b.b);
  const c = b.c;
  if (c == null) packed.null("c");
  else packed.bool("c", c.value);
  emit("values", packed.text("d", b.d).list("list", 2).itemSigned(b.a).itemText(b.d));
  return OK;
}

function deep(depth: u32): u32 {
  return depth == 0 ? 0 : 1 + deep(depth - 1);
}

function onRaw(_: Context, b: Raw): i32 {
  if (b.name == "get") raw.get(b.table, b.ptr, b.len, b.ptr, 0);
  else if (b.name == "put") raw.put(b.table, b.ptr, b.len);
  else if (b.name == "delete") raw.remove(b.table, b.ptr, b.len);
  else if (b.name == "scan") raw.scan(b.table, b.ptr, b.len, b.ptr, 0, b.ptr);
  else if (b.name == "next") raw.next(b.table, b.ptr, b.len);
  else if (b.name == "emit") raw.emit(b.ptr, b.len, b.ptr, b.len);
  else if (b.name == "set_outcome") raw.setOutcome(b.ptr, b.len);
  else raw.keccak256(b.ptr, b.len, b.ptr);
  return OK;
}
