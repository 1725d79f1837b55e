// The token ledger of ledger.zig in AssemblyScript: same tables, same messages, same rows. The rules stand at the head of
// that file.

import {
  Address, App, Context, Fields, Indexes, OK, Opening, Packed, Row, Slot, Struct, U256, emit, get, put, reject, scan,
  setOutcome,
} from "scapp";

class Account extends Row {
  constructor(public owner: Address = new Address(), public balance: U256 = new U256()) {
    super();
  }
  table(): string {
    return "account";
  }
  fields(f: Fields): void {
    this.owner = f.address("owner", this.owner);
    this.balance = f.u256("balance", this.balance);
  }
  indexes(on: Indexes): void {
    on.on("account_by_balance", ["balance"]);
  }
}

/** One row for each change of a balance: `sender` null for a mint, `recipient` null for a burn. */
class Transfer extends Row {
  sequence: i64 = 0;
  sender: Address | null = null;
  recipient: Address | null = null;
  amount: U256 = new U256();
  at: i64 = 0;

  table(): string {
    return "transfer";
  }
  fields(f: Fields): void {
    this.sequence = f.i64("sequence", this.sequence);
    this.sender = f.addressOrNull("sender", this.sender);
    this.recipient = f.addressOrNull("recipient", this.recipient);
    this.amount = f.u256("amount", this.amount);
    this.at = f.timestamp("at", this.at);
  }
  indexes(on: Indexes): void {
    on.on("transfer_by_sender", ["sender", "sequence"]).on("transfer_by_recipient", ["recipient", "sequence"]);
  }
}

/** The one row of what was agreed at the opening. */
class Token extends Row {
  id: i16 = 1;
  issuer: Address | null = null;
  supply: U256 = new U256();
  backed: bool = false;

  table(): string {
    return "token";
  }
  fields(f: Fields): void {
    this.id = f.i16("id", this.id);
    this.issuer = f.addressOrNull("issuer", this.issuer);
    this.supply = f.u256("supply", this.supply);
    this.backed = f.bool("backed", this.backed);
  }
}

/** Who is paid by which slot, in slot order; only for a backed ledger. */
class Payee extends Row {
  constructor(public slot: i16 = 0, public owner: Address = new Address()) {
    super();
  }
  table(): string {
    return "payee";
  }
  fields(f: Fields): void {
    this.slot = f.i16("slot", this.slot);
    this.owner = f.address("owner", this.owner);
  }
  indexes(on: Indexes): void {
    on.unique("payee_by_owner", ["owner"]);
  }
}

class Balance extends Struct {
  owner: Address = new Address();
  amount: U256 = new U256();

  fields(f: Fields): void {
    this.owner = f.address("owner", this.owner);
    this.amount = f.u256("amount", this.amount);
  }
}

class Params extends Struct {
  issuer: Address | null = null;
  balances: Balance[] = [];

  fields(f: Fields): void {
    this.issuer = f.addressOrNull("issuer", this.issuer);
    this.balances = f.optional().list<Balance>("balances", this.balances);
  }
}

/** Of `transfer` and `mint`. */
class Move extends Struct {
  to: Address = new Address();
  amount: U256 = new U256();

  fields(f: Fields): void {
    this.to = f.address("to", this.to);
    this.amount = f.u256("amount", this.amount);
  }
}

class Burn extends Struct {
  amount: U256 = new U256();

  fields(f: Fields): void {
    this.amount = f.u256("amount", this.amount);
  }
}

export function app(): App {
  return new App("ledger", "1.0.0")
    .table<Account>()
    .table<Transfer>()
    .table<Token>()
    .table<Payee>()
    .view("holder", "account", ["owner", "balance"])
    .open<Params>(open)
    .message<Move>("transfer", transfer)
    .message<Move>("mint", mint)
    .message<Burn>("burn", burn);
}

function open(_: Context, opening: Opening<Params>): i32 {
  const params = opening.params;
  const row = new Token();
  for (let i = 0; i < params.balances.length; i++) {
    const item = params.balances[i];
    if (get(new Account(item.owner)) != null) return reject(item.owner.toString() + " has two opening balances");
    const supply = row.supply.plus(item.amount);
    if (supply == null) return tooMuch(row.supply, item.amount);
    row.supply = supply;
    put(new Account(item.owner, item.amount));
  }
  row.issuer = params.issuer;
  row.backed = isBacked(opening);
  if (row.backed && params.issuer != null) return reject("a ledger backed by a deposit cannot have an issuer");
  for (let i = 0; row.backed && i < opening.slots.length; i++) {
    const slot = opening.slots[i];
    const owner = slot.payee()!;
    if (params.balances.length == 0) {
      const supply = row.supply.plus(slot.amount);
      if (supply == null) return tooMuch(row.supply, slot.amount);
      row.supply = supply;
      put(new Account(owner, slot.amount));
    }
    put(new Payee(<i16>i, owner));
  }
  put(row);
  return OK;
}

function token(): Token {
  return get(new Token())!;
}

function transfer(ctx: Context, msg: Move): i32 {
  if (msg.to.equals(ctx.address)) return reject("sender and recipient are both " + msg.to.toString());
  if (msg.amount.isZero()) return nothing();
  const backed = token().backed;
  if (backed && get(new Account(msg.to)) == null) {
    return reject(msg.to.toString() + " has no outcome slot: a backed ledger pays participants only");
  }
  if (withdraw(ctx.address, msg.amount) != OK || deposit(msg.to, msg.amount) != OK) return 1;
  record(ctx, "transfer", ctx.address, msg.to, msg.amount);
  if (backed) settle();
  return OK;
}

function mint(ctx: Context, msg: Move): i32 {
  const row = token();
  const issuer = row.issuer;
  if (issuer == null) return reject("this ledger has no issuer, so nobody can mint");
  if (!issuer.equals(ctx.address)) {
    return reject("only the issuer " + issuer.toString() + " can mint, not " + ctx.address.toString());
  }
  if (msg.amount.isZero()) return nothing();
  const supply = row.supply.plus(msg.amount);
  if (supply == null) return tooMuch(row.supply, msg.amount);
  row.supply = supply;
  if (deposit(msg.to, msg.amount) != OK) return 1;
  put(row);
  record(ctx, "mint", null, msg.to, msg.amount);
  return OK;
}

function burn(ctx: Context, msg: Burn): i32 {
  const row = token();
  if (row.backed) return reject("a ledger backed by a deposit cannot burn");
  if (msg.amount.isZero()) return nothing();
  if (withdraw(ctx.address, msg.amount) != OK) return 1;
  row.supply = row.supply - msg.amount;
  put(row);
  record(ctx, "burn", ctx.address, null, msg.amount);
  return OK;
}

function nothing(): i32 {
  return reject("amount is 0: at least 1 is needed");
}

function tooMuch(a: U256, b: U256): i32 {
  return reject(a.toString() + " and " + b.toString() + " together exceed 2^256-1");
}

function balanceOf(owner: Address): U256 {
  const account = get(new Account(owner));
  return account == null ? new U256() : account.balance;
}

function withdraw(owner: Address, amount: U256): i32 {
  const balance = balanceOf(owner);
  const rest = balance.minus(amount);
  if (rest == null) {
    const needed = ", " + amount.toString() + " are needed";
    return reject("balance of " + owner.toString() + " is " + balance.toString() + needed);
  }
  put(new Account(owner, rest));
  return OK;
}

function deposit(owner: Address, amount: U256): i32 {
  const balance = balanceOf(owner);
  const total = balance.plus(amount);
  if (total == null) return tooMuch(balance, amount);
  put(new Account(owner, total));
  return OK;
}

function record(ctx: Context, topic: string, sender: Address | null, recipient: Address | null, amount: U256): void {
  const row = new Transfer();
  row.sequence = <i64>ctx.sequence;
  row.sender = sender;
  row.recipient = recipient;
  row.amount = amount;
  row.at = <i64>ctx.timeMs;
  put(row);
  emit(topic, new Packed().bytesOrNull("sender", sender).bytesOrNull("recipient", recipient).u256("amount", amount));
}

/** The outcome of a backed ledger: each slot pays its owner's balance. */
function settle(): void {
  const amounts: U256[] = [];
  const payees = scan<Payee>();
  for (let payee = payees.next(); payee != null; payee = payees.next()) amounts.push(balanceOf(payee.owner));
  setOutcome(amounts);
}

/** One asset, one slot for each participant and none for anybody else, and balances that say the same as the slots. */
function isBacked(opening: Opening<Params>): bool {
  const slots = opening.slots;
  const balances = opening.params.balances.length;
  if (slots.length == 0 || slots.length != opening.participants.length || slots.length > 255) return false;
  for (let i = 0; i < slots.length; i++) {
    const owner = slots[i].payee();
    if (owner == null || !slots[i].asset.equals(slots[0].asset)) return false;
    if (!isParticipant(opening.participants, owner)) return false;
    for (let k = 0; k < i; k++) if (slots[k].destination.equals(slots[i].destination)) return false;
    if (balances == 0) continue;
    const account = get(new Account(owner));
    if (account == null || !account.balance.equals(slots[i].amount)) return false;
  }
  return balances == 0 || balances == slots.length;
}

function isParticipant(participants: Address[], owner: Address): bool {
  for (let i = 0; i < participants.length; i++) if (participants[i].equals(owner)) return true;
  return false;
}
