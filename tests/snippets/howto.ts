// The AssemblyScript of docs/howto in one reducer, so that a compiler has seen it.

import { Address, App, Context, Fields, Indexes, OK, Row, Struct, U256, put, reject, scan } from "scapp";

class Account extends Row {
  constructor(public owner: Address = new Address(), public balance: U256 = new U256()) { super(); }
  table(): string { return "account"; }
  fields(f: Fields): void {
    this.owner = f.address("owner", this.owner);
    this.balance = f.u256("balance", this.balance);
  }
  history(): bool { return true; }
}

class Offer extends Row {
  constructor(public id: i64 = 0, public side: string = "", public price: U256 = new U256()) { super(); }
  table(): string { return "offer"; }
  fields(f: Fields): void {
    this.id = f.i64("id", this.id);
    this.side = f.text("side", this.side);
    this.price = f.u256("price", this.price);
  }
  indexes(on: Indexes): void { on.on("by_price", ["side", "price"]); }
}

class Buy extends Struct {
  most: U256 = new U256();
  fields(f: Fields): void {
    this.most = f.u256("most", this.most);
  }
}

export function app(): App {
  return new App("howto", "1.0.0").table<Account>().table<Offer>().message<Buy>("buy", onBuy);
}

function onBuy(ctx: Context, msg: Buy): i32 {
  const best = scan<Offer>().by("by_price").prefix(new Offer(0, "sell"), 1).next();
  if (best == null || best.price > msg.most) return reject(`no offer up to ${msg.most}`);
  put(new Account(ctx.address, best.price));
  return OK;
}
