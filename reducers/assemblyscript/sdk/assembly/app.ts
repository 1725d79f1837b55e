// The app: its tables, views and messages, and what runs for each entry. It is built anew for every message, because
// nothing outlives one.

import { Address, Bytes32 } from "./bytes";
import { Fields, describe, same, takeStruct } from "./fields";
import { Context, OK, REJECTED, reject } from "./host";
import { Kind, Path, Reader, joined } from "./message";
import { Out } from "./out";
import { Indexes, Row, Struct } from "./row";
import { U256 } from "./u256";

/** An outcome slot: who may be paid in which asset, and the amount at the start. */
export class Slot extends Struct {
  asset: Address = new Address();
  destination: Bytes32 = new Bytes32();
  amount: U256 = new U256();

  fields(f: Fields): void {
    this.asset = f.address("asset", this.asset);
    this.destination = f.bytes32("destination", this.destination);
    this.amount = f.u256("amount", this.amount);
  }

  /** The address that is paid, null for a slot that pays a channel. */
  payee(): Address | null {
    for (let i = 0; i < 12; i++) if (load<u8>(this.destination.start + i)) return null;
    return new Address(this.destination.start + 12);
  }
}

/** Entry 0. */
export class Opening<P extends Struct> extends Struct {
  participants: Address[] = [];
  slots: Slot[] = [];
  params: P = instantiate<P>();

  fields(f: Fields): void {
    this.participants = f.addresses("participants", this.participants);
    this.slots = f.list<Slot>("slots", this.slots);
    this.params = f.group<P>("params", this.params);
  }
}

abstract class Handler {
  abstract fresh(): Struct;
  abstract run(ctx: Context, body: Struct): i32;
}

class HandlerOf<T extends Struct> extends Handler {
  constructor(private call: (ctx: Context, body: T) => i32) {
    super();
  }
  fresh(): Struct {
    return instantiate<T>();
  }
  run(ctx: Context, body: Struct): i32 {
    return this.call(ctx, changetype<T>(body));
  }
}

let running: usize = 0; // the app of this message; what is in the arena dies with it

/** The app that runs. */
export function current(): App {
  return changetype<App>(running);
}

export class App {
  private rows: Row[] = [];
  private views: string[][] = [];
  private names: string[] = [];
  private handlers: Handler[] = [];
  private opener: Handler | null = null;
  private ticker: ((ctx: Context) => i32) | null = null;

  constructor(private name: string, private version: string) {
    running = changetype<usize>(this);
  }

  /** A table; numbers follow the order of these calls. */
  table<T extends Row>(): App {
    this.rows.push(instantiate<T>());
    return this;
  }

  /** A named selection of columns of a table, for SQL. */
  view(name: string, table: string, columns: string[]): App {
    this.views.push([name, table].concat(columns));
    return this;
  }

  /** Entry 0, with params of class P. */
  open<P extends Struct>(handler: (ctx: Context, opening: Opening<P>) => i32): App {
    this.opener = new HandlerOf<Opening<P>>(handler);
    return this;
  }

  message<T extends Struct>(name: string, handler: (ctx: Context, body: T) => i32): App {
    this.names.push(name);
    this.handlers.push(new HandlerOf<T>(handler));
    return this;
  }

  /** Without it ticks are rejected. */
  tick(handler: (ctx: Context) => i32): App {
    this.ticker = handler;
    return this;
  }

  tableNumber(name: string): u32 {
    for (let i = 0; i < this.rows.length; i++) if (this.rows[i].table() == name) return i;
    abort("a table that the app does not list");
    return 0;
  }

  indexNumber(table: string, index: string): u32 {
    let number: u32 = this.rows.length;
    for (let i = 0; i < this.rows.length; i++) {
      const on = indexesOf(this.rows[i]);
      if (this.rows[i].table() == table) return number + on.names.indexOf(index);
      number += on.names.length;
    }
    abort("a table that the app does not list");
    return 0;
  }

  /** One entry: 0 accepts it. */
  run(buffer: usize, size: u32): i32 {
    const ctx = new Context(buffer);
    const reader = new Reader(buffer + 80, size - 80);
    if (ctx.kind == 1) return this.runMessage(ctx, reader);
    if (ctx.kind == 0) {
      const opener = this.opener;
      if (opener == null) return OK;
      const opening = opener.fresh();
      takeStruct(reader, new Path(), opening, opener.fresh());
      return reader.ended() ? opener.run(ctx, opening) : REJECTED;
    }
    if (ctx.kind != 2) return reject("entries of kind " + ctx.kind.toString() + " are unknown here");
    const ticker = this.ticker;
    return ticker == null ? reject("this app takes no ticks") : ticker(ctx);
  }

  private runMessage(ctx: Context, reader: Reader): i32 {
    if (!reader.next()) return REJECTED;
    const isMap = reader.kind == Kind.Map;
    if (isMap) {
      if (reader.number != 1) {
        return reject("a message is a map of one name to a body, not of " + reader.number.toString());
      }
      if (!reader.next()) return REJECTED;
      if (reader.kind != Kind.Text) return reject("a message's name is text, not " + reader.describe());
    } else if (reader.kind != Kind.Text) {
      return reject("a message is a map of one name to a body, not " + reader.describe());
    }
    for (let i = 0; i < this.names.length; i++) {
      if (!same(this.names[i], reader.data, reader.size)) continue;
      const handler = this.handlers[i];
      const body = handler.fresh();
      if (describe(handler.fresh()).names.length == 0) {
        if (isMap && !emptyBody(reader, this.names[i])) return REJECTED;
      } else if (!isMap) return reject("message '" + this.names[i] + "' needs a body");
      else takeStruct(reader, new Path(), body, handler.fresh());
      return reader.ended() ? handler.run(ctx, body) : REJECTED;
    }
    const out = new Out().text("unknown message '").raw(reader.data, reader.size).text("': known are ");
    reader.fail(joined(out, this.names));
    return REJECTED;
  }

  /** The JSON document that a module carries (docs/reference/manifest.md). */
  manifest(): Out {
    const out = new Out();
    quoted(out.text('{"name":'), this.name);
    quoted(out.text(',"version":'), this.version);
    out.text(',"abi":"scapp_1","encoding":"msgpack","tables":[');
    for (let i = 0; i < this.rows.length; i++) {
      if (i) out.text(",");
      describeTable(out, this.rows[i]);
    }
    out.text('],"views":[');
    for (let i = 0; i < this.views.length; i++) {
      quoted(out.text(i ? ',{"name":' : '{"name":'), this.views[i][0]);
      quoted(out.text(',"table":'), this.views[i][1]);
      list(out.text(',"columns":['), this.views[i].slice(2));
      out.text("}");
    }
    out.text('],"messages":[');
    for (let i = 0; i < this.names.length; i++) {
      quoted(out.text(i ? ',{"name":' : '{"name":'), this.names[i]);
      const known = describe(this.handlers[i].fresh());
      out.text(',"fields":[');
      for (let f = 0; f < known.names.length; f++) {
        quoted(out.text(f ? ',{"name":' : '{"name":'), known.names[f]);
        quoted(out.text(',"type":'), known.kinds[f]);
        out.text("}");
      }
      out.text("]}");
    }
    return out.text("]}");
  }
}

function indexesOf(row: Row): Indexes {
  const found = new Indexes();
  row.indexes(found);
  return found;
}

function emptyBody(reader: Reader, name: string): bool {
  if (!reader.next()) return false;
  const sized = reader.kind == Kind.Map || reader.kind == Kind.Array;
  if (reader.kind == Kind.Nil || (sized && reader.number == 0)) return true;
  const out = new Out().text("message '").text(name).text("' has no fields, not ");
  return reader.fail(sized ? out.number(reader.number) : out.text(reader.describe()));
}

function describeTable(out: Out, row: Row): void {
  quoted(out.text('{"name":'), row.table());
  out.text(',"columns":[');
  const known = describe(row);
  for (let i = 0; i < known.names.length; i++) {
    if (!known.columns[i].length) abort("a field of a row has a type that is no column");
    quoted(out.text(i ? ',{"name":' : '{"name":'), known.names[i]);
    quoted(out.text(',"type":'), known.columns[i]);
    out.text(known.nullable[i] ? ',"nullable":true}' : "}");
  }
  out.text('],"key":').number(row.key()).text(',"indexes":[');
  const on = indexesOf(row);
  for (let i = 0; i < on.names.length; i++) {
    quoted(out.text(i ? ',{"name":' : '{"name":'), on.names[i]);
    list(out.text(',"columns":['), on.columns[i]);
    out.text(on.uniques[i] ? ',"unique":true}' : ',"unique":false}');
  }
  out.text(row.history() ? '],"history":true}' : "]}");
}

function quoted(out: Out, text: string): void {
  out.text('"').text(text).text('"');
}

function list(out: Out, names: string[]): void {
  for (let i = 0; i < names.length; i++) quoted(out.text(i ? "," : ""), names[i]);
  out.text("]");
}
