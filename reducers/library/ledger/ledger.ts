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

/** The one row of a backed ledger that may grow: by how much, and what its depositor has not claimed yet. */
class Room extends Row {
  id: i16 = 1;
  headroom: U256 = new U256();
  pending: U256 = new U256();
  depositor: Address | null = null;

  table(): string {
    return "room";
  }
  fields(f: Fields): void {
    this.id = f.i16("id", this.id);
    this.headroom = f.u256("headroom", this.headroom);
    this.pending = f.u256("pending", this.pending);
    this.depositor = f.addressOrNull("depositor", this.depositor);
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

/** Of `burn`, `top_up` and `claim`. */
class Amount extends Struct {
  amount: U256 = new U256();

  fields(f: Fields): void {
    this.amount = f.u256("amount", this.amount);
  }
}

export function app(): App {
  return new App("ledger", "1.1.0")
    .table<Account>()
    .table<Transfer>()
    .table<Token>()
    .table<Payee>()
    .table<Room>()
    .view("holder", "account", ["owner", "balance"])
    .open<Params>(open)
    .message<Move>("transfer", transfer)
    .message<Move>("mint", mint)
    .message<Amount>("burn", burn)
    .message<Amount>("top_up", topUp)
    .message<Amount>("claim", claim);
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
  const count = opening.participants.length;
  const named = paysParticipants(opening);
  for (let i = 0; row.backed && i < count; i++) {
    const slot = opening.slots[i];
    const owner = named ? slot.payee()! : opening.participants[i];
    if (params.balances.length == 0) {
      const supply = row.supply.plus(slot.amount);
      if (supply == null) return tooMuch(row.supply, slot.amount);
      row.supply = supply;
      put(new Account(owner, slot.amount));
    }
    put(new Payee(<i16>i, owner));
  }
  if (row.backed && opening.slots.length > count) {
    const room = new Room();
    room.headroom = opening.slots[2 * count].amount;
    put(room);
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

function burn(ctx: Context, msg: Amount): i32 {
  const row = token();
  if (row.backed) return reject("a ledger backed by a deposit cannot burn");
  if (msg.amount.isZero()) return nothing();
  if (withdraw(ctx.address, msg.amount) != OK) return 1;
  row.supply = row.supply - msg.amount;
  put(row);
  record(ctx, "burn", ctx.address, null, msg.amount);
  return OK;
}

function topUp(ctx: Context, msg: Amount): i32 {
  if (msg.amount.isZero()) return nothing();
  const room = get(new Room());
  if (room == null) return noRoom();
  if (!room.pending.isZero()) return reject("a top-up of " + room.pending.toString() + " is not claimed yet");
  const left = room.headroom.minus(msg.amount);
  if (left == null) {
    return reject("headroom is " + room.headroom.toString() + ", " + msg.amount.toString() + " are needed");
  }
  room.headroom = left;
  room.pending = msg.amount;
  room.depositor = ctx.address;
  put(room);
  settle();
  return OK;
}

function claim(ctx: Context, msg: Amount): i32 {
  if (msg.amount.isZero()) return nothing();
  const room = get(new Room());
  if (room == null) return noRoom();
  const left = room.pending.minus(msg.amount);
  if (left == null) {
    const needed = ", " + msg.amount.toString() + " are needed";
    return reject("the top-up to claim is " + room.pending.toString() + needed);
  }
  room.pending = left;
  put(room);
  const row = token();
  const supply = row.supply.plus(msg.amount);
  if (supply == null) return tooMuch(row.supply, msg.amount);
  row.supply = supply;
  put(row);
  const depositor = room.depositor!;
  if (deposit(depositor, msg.amount) != OK) return 1;
  record(ctx, "top_up", null, depositor, msg.amount);
  settle();
  return OK;
}

function noRoom(): i32 {
  return reject("this ledger has no room for top-ups");
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

/** The outcome of a backed ledger: each slot pays its owner's balance, then what is not claimed, then the headroom. */
function settle(): void {
  const amounts: U256[] = [];
  const room = get(new Room());
  let depositor = 0;
  const payees = scan<Payee>();
  for (let payee = payees.next(); payee != null; payee = payees.next()) {
    if (room != null) {
      const owner = room.depositor;
      if (owner != null && owner.equals(payee.owner)) depositor = amounts.length;
    }
    amounts.push(balanceOf(payee.owner));
  }
  if (room != null) {
    const count = amounts.length;
    for (let i = 0; i < count; i++) amounts.push(i == depositor ? room.pending : new U256());
    amounts.push(room.headroom);
  }
  setOutcome(amounts);
}

/** One asset, one slot for each participant and none for anybody else but room, and balances that say the same. */
function isBacked(opening: Opening<Params>): bool {
  const slots = opening.slots;
  const count = opening.participants.length;
  const balances = opening.params.balances.length;
  if (slots.length == 0 || slots.length > 256 || (slots.length != count && !isRoom(opening))) return false;
  for (let i = 0; i < slots.length; i++) {
    if (slots[i].payee() == null || !slots[i].asset.equals(slots[0].asset)) return false;
  }
  const named = paysParticipants(opening);
  for (let i = 0; balances > 0 && i < count; i++) {
    const account = get(new Account(named ? slots[i].payee()! : opening.participants[i]));
    if (account == null || !account.balance.equals(slots[i].amount)) return false;
  }
  return balances == 0 || balances == count;
}

/** Are the slots after the participants' room for top-ups? */
function isRoom(opening: Opening<Params>): bool {
  const slots = opening.slots;
  const count = opening.participants.length;
  if (slots.length != 2 * count + 1 || slots[2 * count].amount.isZero()) return false;
  for (let i = 0; i < count; i++) {
    if (!slots[count + i].amount.isZero() || !slots[count + i].destination.equals(slots[i].destination)) return false;
  }
  return slots[2 * count].destination.equals(slots[0].destination);
}

/** Is there a slot for each participant, and does each pay another one? */
function paysParticipants(opening: Opening<Params>): bool {
  const slots = opening.slots;
  if (slots.length != opening.participants.length) return false;
  for (let i = 0; i < slots.length; i++) {
    const owner = slots[i].payee();
    if (owner == null || !isParticipant(opening.participants, owner)) return false;
    for (let k = 0; k < i; k++) if (slots[k].destination.equals(slots[i].destination)) return false;
  }
  return true;
}

function isParticipant(participants: Address[], owner: Address): bool {
  for (let i = 0; i < participants.length; i++) if (participants[i].equals(owner)) return true;
  return false;
}
