//! A token ledger: accounts, transfers, an issuer who mints. Params: `{"issuer": address or nil, "balances": [[owner,
//! amount], …]}`; without balances the outcome slots, if any, are the opening balances.
//!
//! Money. With one slot for each participant, in one asset, and opening balances that equal the slots' amounts, the
//! ledger is *backed*: balances are what the chain would pay, the outcome follows each transfer at once, only
//! participants can hold tokens, and there is neither mint nor burn, because the sum is fixed on chain. A slot is of the
//! participant whom it pays; when some pay accounts elsewhere, slot i is participant i's. In any other case the outcome
//! is left as it was negotiated.
//!
//! Top-ups. A backed ledger may have room for them: a reserve slot for each participant, beginning with 0 and paid as
//! its first slot, and one more with what may be added, paid as slot 0. `top_up` says that its author deposits so much;
//! once the chain has it, `claim` adds it to the balance. Nodes sign neither before it is true.

const std = @import("std");
const scapp = @import("scapp");

pub const name = "ledger";
pub const version = "1.1.0";

const Account = struct {
    owner: scapp.Address,
    balance: u256,

    pub const table = .{
        .name = "account",
        .key = 1,
        .indexes = .{.{ .name = "account_by_balance", .columns = .{"balance"} }},
    };
};

/// One row for each change of a balance: `sender` null for a mint, `recipient` null for a burn.
const Transfer = struct {
    sequence: i64,
    sender: ?scapp.Address,
    recipient: ?scapp.Address,
    amount: u256,
    at: scapp.Timestamp,

    pub const table = .{
        .name = "transfer",
        .key = 1,
        .indexes = .{
            .{ .name = "transfer_by_sender", .columns = .{ "sender", "sequence" } },
            .{ .name = "transfer_by_recipient", .columns = .{ "recipient", "sequence" } },
        },
    };
};

/// The one row of what was agreed at the opening.
const Token = struct {
    id: i16 = 1,
    issuer: ?scapp.Address,
    supply: u256,
    backed: bool,

    pub const table = .{ .name = "token", .key = 1 };
};

/// Who is paid by which slot, in slot order; only for a backed ledger.
const Payee = struct {
    slot: i16,
    owner: scapp.Address,

    pub const table = .{ .name = "payee", .key = 1, .indexes = .{.{ .name = "payee_by_owner", .columns = .{"owner"}, .unique = true }} };
};

/// The one row of a backed ledger that may grow: by how much, and what its depositor has not claimed yet.
const Room = struct {
    id: i16 = 1,
    headroom: u256,
    pending: u256,
    depositor: ?scapp.Address,

    pub const table = .{ .name = "room", .key = 1 };
};

pub const db = scapp.Database(.{ Account, Transfer, Token, Payee, Room });

pub const views = .{.{ .name = "holder", .table = "account", .columns = .{ "owner", "balance" } }};

pub const Message = union(enum) {
    transfer: struct { to: scapp.Address, amount: u256 },
    mint: struct { to: scapp.Address, amount: u256 },
    burn: struct { amount: u256 },
    top_up: struct { amount: u256 },
    claim: struct { amount: u256 },
};

const Balance = struct { owner: scapp.Address, amount: u256 };
pub const Params = struct { issuer: ?scapp.Address = null, balances: []const Balance = &.{} };

pub fn open(_: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    const params = opening.params;
    var supply: u256 = 0;
    for (params.balances) |item| {
        if (db.get(Account, .{item.owner}) != null) return scapp.reject("{f} has two opening balances", .{item.owner});
        supply = try sum(supply, item.amount);
        _ = db.put(Account{ .owner = item.owner, .balance = item.amount });
    }
    const backed = try isBacked(opening);
    if (backed and params.issuer != null) return scapp.reject("a ledger backed by a deposit cannot have an issuer", .{});
    const count = opening.participants.len;
    const named = paysParticipants(opening);
    if (backed) for (opening.slots[0..count], opening.participants, 0..) |slot, participant, index| {
        const owner = if (named) slot.payee().? else participant;
        if (params.balances.len == 0) {
            supply = try sum(supply, slot.amount);
            _ = db.put(Account{ .owner = owner, .balance = slot.amount });
        }
        _ = db.put(Payee{ .slot = @intCast(index), .owner = owner });
    };
    if (backed and opening.slots.len > count) _ = db.put(Room{ .headroom = opening.slots[2 * count].amount, .pending = 0, .depositor = null });
    _ = db.put(Token{ .issuer = params.issuer, .supply = supply, .backed = backed });
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    switch (msg) {
        .transfer => |body| try transfer(ctx, body.to, body.amount),
        .mint => |body| try mint(ctx, body.to, body.amount),
        .burn => |body| try burn(ctx, body.amount),
        .top_up => |body| try topUp(ctx, body.amount),
        .claim => |body| try claim(ctx, body.amount),
    }
}

fn transfer(ctx: *const scapp.Context, to: scapp.Address, amount: u256) scapp.Rejection!void {
    if (to.eql(ctx.address)) return scapp.reject("sender and recipient are both {f}", .{to});
    try positive(amount);
    const token = db.get(Token, .{1}).?;
    if (token.backed and balanceOf(to) == null) return scapp.reject("{f} has no outcome slot: a backed ledger pays participants only", .{to});
    try withdraw(ctx.address, amount);
    try deposit(to, amount);
    record(ctx, "transfer", ctx.address, to, amount);
    if (token.backed) settle();
}

fn mint(ctx: *const scapp.Context, to: scapp.Address, amount: u256) scapp.Rejection!void {
    var token = db.get(Token, .{1}).?;
    const issuer = token.issuer orelse return scapp.reject("this ledger has no issuer, so nobody can mint", .{});
    if (!issuer.eql(ctx.address)) return scapp.reject("only the issuer {f} can mint, not {f}", .{ issuer, ctx.address });
    try positive(amount);
    token.supply = try sum(token.supply, amount);
    try deposit(to, amount);
    _ = db.put(token);
    record(ctx, "mint", null, to, amount);
}

fn burn(ctx: *const scapp.Context, amount: u256) scapp.Rejection!void {
    var token = db.get(Token, .{1}).?;
    if (token.backed) return scapp.reject("a ledger backed by a deposit cannot burn", .{});
    try positive(amount);
    try withdraw(ctx.address, amount);
    token.supply -= amount;
    _ = db.put(token);
    record(ctx, "burn", ctx.address, null, amount);
}

fn topUp(ctx: *const scapp.Context, amount: u256) scapp.Rejection!void {
    try positive(amount);
    var room = db.get(Room, .{1}) orelse return scapp.reject("this ledger has no room for top-ups", .{});
    if (room.pending != 0) return scapp.reject("a top-up of {d} is not claimed yet", .{room.pending});
    if (room.headroom < amount) return scapp.reject("headroom is {d}, {d} are needed", .{ room.headroom, amount });
    room.headroom -= amount;
    room.pending = amount;
    room.depositor = ctx.address;
    _ = db.put(room);
    settle();
}

fn claim(ctx: *const scapp.Context, amount: u256) scapp.Rejection!void {
    try positive(amount);
    var room = db.get(Room, .{1}) orelse return scapp.reject("this ledger has no room for top-ups", .{});
    if (room.pending < amount) return scapp.reject("the top-up to claim is {d}, {d} are needed", .{ room.pending, amount });
    room.pending -= amount;
    _ = db.put(room);
    var token = db.get(Token, .{1}).?;
    token.supply = try sum(token.supply, amount);
    _ = db.put(token);
    try deposit(room.depositor.?, amount);
    record(ctx, "top_up", null, room.depositor, amount);
    settle();
}

fn balanceOf(owner: scapp.Address) ?u256 {
    const account = db.get(Account, .{owner}) orelse return null;
    return account.balance;
}

fn withdraw(owner: scapp.Address, amount: u256) scapp.Rejection!void {
    const balance = balanceOf(owner) orelse 0;
    if (balance < amount) return scapp.reject("balance of {f} is {d}, {d} are needed", .{ owner, balance, amount });
    _ = db.put(Account{ .owner = owner, .balance = balance - amount });
}

fn deposit(owner: scapp.Address, amount: u256) scapp.Rejection!void {
    _ = db.put(Account{ .owner = owner, .balance = try sum(balanceOf(owner) orelse 0, amount) });
}

fn record(ctx: *const scapp.Context, topic: []const u8, sender: ?scapp.Address, recipient: ?scapp.Address, amount: u256) void {
    _ = db.put(Transfer{
        .sequence = @intCast(ctx.sequence),
        .sender = sender,
        .recipient = recipient,
        .amount = amount,
        .at = .fromMs(ctx.time_ms),
    });
    scapp.emit(topic, .{ .sender = sender, .recipient = recipient, .amount = amount });
}

/// The outcome of a backed ledger: each slot pays its owner's balance, then what is not claimed, then the headroom.
fn settle() void {
    var amounts: [256]u256 = @splat(0);
    var count: usize = 0;
    var depositor: usize = 0;
    const room = db.get(Room, .{1});
    var payees = db.scan(Payee, .{});
    while (payees.next()) |payee| : (count += 1) {
        amounts[count] = balanceOf(payee.owner).?;
        if (room) |r| if (r.depositor) |owner| if (owner.eql(payee.owner)) {
            depositor = count;
        };
    }
    if (room) |r| {
        amounts[count + depositor] = r.pending;
        amounts[2 * count] = r.headroom;
        count = 2 * count + 1;
    }
    scapp.setOutcome(amounts[0..count]);
}

/// One asset, one slot for each participant and none for anybody else but room, and balances that say the same.
fn isBacked(opening: scapp.Opening(Params)) scapp.Rejection!bool {
    const slots = opening.slots;
    const count = opening.participants.len;
    if (slots.len == 0 or slots.len > 256 or (slots.len != count and !isRoom(opening))) return false;
    const named = paysParticipants(opening);
    for (slots) |slot| if (slot.payee() == null or !slot.asset.eql(slots[0].asset)) return false;
    for (slots[0..count], opening.participants) |slot, participant| {
        const owner = if (named) slot.payee().? else participant;
        if (opening.params.balances.len != 0 and (balanceOf(owner) orelse return false) != slot.amount) return false;
    }
    return opening.params.balances.len == 0 or opening.params.balances.len == count;
}

/// Are the slots after the participants' room for top-ups?
fn isRoom(opening: scapp.Opening(Params)) bool {
    const slots = opening.slots;
    const count = opening.participants.len;
    if (slots.len != 2 * count + 1 or slots[2 * count].amount == 0) return false;
    for (slots[0..count], slots[count .. 2 * count]) |first, reserve| {
        if (reserve.amount != 0 or !reserve.destination.eql(first.destination)) return false;
    }
    return slots[2 * count].destination.eql(slots[0].destination);
}

/// Is there a slot for each participant, and does each pay another one?
fn paysParticipants(opening: scapp.Opening(Params)) bool {
    const slots = opening.slots;
    if (slots.len != opening.participants.len) return false;
    for (slots, 0..) |slot, index| {
        const owner = slot.payee() orelse return false;
        if (!isParticipant(opening.participants, owner)) return false;
        for (slots[0..index]) |earlier| if (earlier.destination.eql(slot.destination)) return false;
    }
    return true;
}

fn isParticipant(participants: []const scapp.Address, owner: scapp.Address) bool {
    for (participants) |participant| if (participant.eql(owner)) return true;
    return false;
}

fn positive(amount: u256) scapp.Rejection!void {
    if (amount == 0) return scapp.reject("amount is 0: at least 1 is needed", .{});
}

fn sum(a: u256, b: u256) scapp.Rejection!u256 {
    return std.math.add(u256, a, b) catch scapp.reject("{d} and {d} together exceed 2^256-1", .{ a, b });
}
