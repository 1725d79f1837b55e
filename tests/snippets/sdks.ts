// The AssemblyScript of docs/reference/sdks.md in one reducer, so that a compiler has seen it.

import {
  Address, App, Box, Bytes, Bytes32, Context, Fields, Indexes, Level, OK, Opening, Packed, REJECTED, Row, Struct, U256, Uuid, add,
  commitment, emit, emitRaw, get, keccak256, log, multiply, put, reject, remove, scan, setOutcome, sha256, subtract,
} from "scapp";

class Account extends Row {
  constructor(public owner: Address = new Address(), public balance: U256 = new U256()) { super(); }
  table(): string { return "account"; }
  fields(f: Fields): void {
    this.owner = f.address("owner", this.owner);
    this.balance = f.u256("balance", this.balance);
  }
}

class Holding extends Row {
  owner: Address = new Address();
  balance: U256 = new U256();

  table(): string { return "holding"; }
  fields(f: Fields): void {
    this.owner = f.address("owner", this.owner);
    this.balance = f.u256("balance", this.balance);
  }
  indexes(on: Indexes): void { on.on("by_balance", ["balance"]); }
  history(): bool { return true; }
}

class Pair extends Row {
  constructor(public left: i32 = 0, public right: string = "", public value: i32 = 0) { super(); }
  table(): string { return "pair"; }
  key(): i32 { return 2; }
  fields(f: Fields): void {
    this.left = f.i32("left", this.left);
    this.right = f.text("right", this.right);
    this.value = f.i32("value", this.value);
  }
  indexes(on: Indexes): void { on.unique("by_value", ["value"]); }
}

class Every extends Row {
  id: i16 = 0;
  flag: bool = false;
  large: i64 = 0;
  word: u64 = 0;
  ratio: f64 = 0;
  colour: string = "red";
  blob: Bytes = new Bytes();
  doc: string = "{}";
  hash: Bytes32 = new Bytes32();
  uid: Uuid = new Uuid();
  at: i64 = 0;
  note: string | null = null;
  mark: Box<i32> | null = null;

  table(): string { return "every"; }
  fields(f: Fields): void {
    this.id = f.i16("id", this.id);
    this.flag = f.bool("flag", this.flag);
    this.large = f.i64("large", this.large);
    this.word = f.u64("word", this.word);
    this.ratio = f.f64("ratio", this.ratio);
    this.colour = f.choice("colour", this.colour, ["red", "green"]);
    this.blob = f.bytes("blob", this.blob);
    this.doc = f.json("doc", this.doc);
    this.hash = f.bytes32("hash", this.hash);
    this.uid = f.uuid("uid", this.uid);
    this.at = f.timestamp("at", this.at);
    this.note = f.textOrNull("note", this.note);
    this.mark = f.i32OrNull("mark", this.mark);
  }
}

class Item extends Struct {
  x: i32 = 0;
  fields(f: Fields): void {
    this.x = f.i32("x", this.x);
  }
}

class Params extends Struct {
  most: i64 = 10;
  fields(f: Fields): void {
    this.most = f.optional().i64("most", this.most);
  }
}

class Add extends Struct {
  who: string = "";
  points: i64 = 1;
  item: Item = new Item();
  items: Item[] = [];
  fields(f: Fields): void {
    this.who = f.text("who", this.who);
    this.points = f.optional().i64("points", this.points);
    this.item = f.group<Item>("item", this.item);
    this.items = f.list<Item>("items", this.items);
  }
}

export function app(): App {
  return new App("name", "1.0.0").table<Account>().table<Holding>().table<Pair>().table<Every>()
    .view("holder", "account", ["owner"])
    .open<Params>(onOpen)
    .message<Add>("add", onAdd)
    .tick(onTick);
}

function onOpen(_: Context, opening: Opening<Params>): i32 {
  const amounts = [new U256(1), new U256(2)];
  const x = opening.slots.length;
  if (x != amounts.length) return reject(`${x}`);
  setOutcome(amounts);
  return OK;
}

function onAdd(ctx: Context, msg: Add): i32 {
  if (step(ctx) != OK) return REJECTED;
  const o = ctx.address;
  let row = get(new Account(o));
  if (row == null) row = new Account(o);
  const points = new U256(msg.points);
  const x = row.balance.plus(points);
  if (x == null || (x < points && x.minus(points) == null) || x.times(points) == null) return reject(`${row.balance} is the most`);
  if (x > points && !x.equals(x * points + points - points)) return REJECTED;
  row.balance = x;
  put(row);
  if (x.isZero()) remove(new Account(o));
  emit("t", new Packed().u256("a", x));
  emitRaw("raw", o);
  log(Level.Info, `${o} has ${x}`);
  return walk(multiply(subtract(add(msg.item.x, msg.items.length), 1), 2));
}

function step(ctx: Context): i32 {
  return ctx.author < 2 ? OK : REJECTED;
}

function walk(x: i32): i32 {
  const rows = scan<Pair>().prefix(new Pair(x), 1);
  let sum = 0;
  for (let row = rows.next(); row != null; row = rows.next()) sum += row.value;
  const first = scan<Pair>().next();
  const least = scan<Pair>().by("by_value").next();
  if (first != null && least != null) put(new Pair(x, sum.toString(), first.value - least.value));
  return OK;
}

function onTick(ctx: Context): i32 {
  const salt = keccak256(ctx.channelId);
  const v = sha256(salt);
  const round: u64 = 0;
  const row = new Every();
  row.hash = commitment(ctx, salt, round, v);
  put(row);
  return OK;
}
