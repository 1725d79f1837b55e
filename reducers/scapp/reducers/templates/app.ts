// NAME: anybody adds points to a name, up to a limit agreed when the channel opens. Start from here.

import { Address, App, Context, Fields, OK, Opening, Packed, Row, Struct, add, emit, get, put, reject, remove } from "scapp";

class Score extends Row {
  points: i64 = 0;
  lastBy: Address = new Address();

  constructor(public who: string = "") {
    super();
  }
  table(): string {
    return "score";
  }
  fields(f: Fields): void {
    this.who = f.text("who", this.who);
    this.points = f.i64("points", this.points);
    this.lastBy = f.address("last_by", this.lastBy);
  }
}

class Rule extends Row {
  id: i16 = 1;
  most: i64 = 0;

  table(): string {
    return "rule";
  }
  fields(f: Fields): void {
    this.id = f.i16("id", this.id);
    this.most = f.i64("most", this.most);
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

  fields(f: Fields): void {
    this.who = f.text("who", this.who);
    this.points = f.optional().i64("points", this.points);
  }
}

class Clear extends Struct {
  who: string = "";

  fields(f: Fields): void {
    this.who = f.text("who", this.who);
  }
}

export function app(): App {
  return new App("NAME", "0.1.0")
    .table<Score>()
    .table<Rule>()
    .open<Params>(onOpen)
    .message<Add>("add", onAdd)
    .message<Clear>("clear", onClear);
}

function onOpen(_: Context, opening: Opening<Params>): i32 {
  const rule = new Rule();
  rule.most = opening.params.most;
  put(rule);
  return OK;
}

function onAdd(ctx: Context, msg: Add): i32 {
  const most = get(new Rule())!.most;
  if (msg.points < 1 || msg.points > most) return reject(`points is ${msg.points}: allowed are 1 to ${most}`);
  let score = get(new Score(msg.who));
  if (score == null) score = new Score(msg.who);
  score.points = add(score.points, msg.points);
  score.lastBy = ctx.address;
  put(score);
  emit("added", new Packed().text("who", msg.who).signed("points", msg.points));
  return OK;
}

function onClear(_: Context, msg: Clear): i32 {
  return remove(new Score(msg.who)) ? OK : reject(`nobody is called '${msg.who}'`);
}
