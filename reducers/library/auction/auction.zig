//! A sealed-bid auction by commit and reveal; the highest bid wins and is paid. Params: {"item": text, "seller": seat,
//! "reserve": amount, "bond": amount, "commit_ms": n, "reveal_ms": n}.
//!
//! Money. Without slots nothing is paid. With money there is one slot for each participant, in seat order and one asset,
//! and a last one, the *pool*, which pays nobody who takes part. A bidder's slot is the most it can bid.
//!
//! A dispute pays the last outcome that all have signed, so what is owed is set aside before secrets open: while bids are
//! revealed, the bond of whoever still owes something lies in the pool: bidders who have not revealed, and the highest
//! bidder until the sale is closed. Whoever falls silent then loses its bond, and nobody gains it. A reveal that never
//! comes costs the bond for good; what it hides cannot win.
//!
//! Time is that of the signed entries. Both deadlines hold by themselves; a tick makes a passed one count.

const std = @import("std");
const scapp = @import("scapp");

pub const name = "auction";
pub const version = "1.0.0";

const Phase = enum { commit, reveal, closed };
const Status = enum { idle, committed, revealed, withheld };

/// The one auction of the channel. `winner` and `price` are provisional until `phase` is closed.
const Auction = struct {
    id: i16 = 1,
    item: []const u8,
    seller: i16,
    reserve: u256,
    bond: u256,
    phase: Phase,
    commit_until: scapp.Timestamp,
    reveal_ms: i64,
    reveal_until: ?scapp.Timestamp,
    winner: ?i16,
    price: ?u256,
    funded: bool,

    pub const table = .{ .name = "auction", .key = 1 };
};

const Bidder = struct {
    seat: i16,
    address: scapp.Address,
    deposit: u256,
    status: Status,
    commitment: ?scapp.Bytes32,
    committed_at: ?i64, // sequence: of equal bids the one committed first wins
    bid: ?u256,

    pub const table = .{ .name = "bidder", .key = 1, .indexes = .{.{ .name = "bidder_by_bid", .columns = .{"bid"} }} };
};

pub const db = scapp.Database(.{ Auction, Bidder });

pub const Message = union(enum) {
    /// keccak256(salt || channel || bidder || round 0 || amount as 32 bytes, big-endian).
    commit: struct { hash: scapp.Bytes32 },
    reveal: struct { amount: u256, salt: scapp.Bytes32 },
};

pub const Params = struct {
    item: []const u8,
    seller: i16 = 0,
    reserve: u256 = 0,
    bond: u256 = 0,
    commit_ms: i64,
    reveal_ms: i64,
};

const phase_ms_max = 366 * 24 * 3600 * 1000;

pub fn open(ctx: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    const params = opening.params;
    const seats = opening.participants.len;
    if (seats < 2) return scapp.reject("an auction needs a seller and a bidder", .{});
    if (params.seller < 0 or params.seller >= seats)
        return scapp.reject("seller is seat {d}: there are seats 0 to {d}", .{ params.seller, seats - 1 });
    if (params.item.len == 0 or params.item.len > 1000) return scapp.reject("item needs 1 to 1000 bytes", .{});
    for ([_]i64{ params.commit_ms, params.reveal_ms }) |ms| if (ms < 1 or ms > phase_ms_max)
        return scapp.reject("a phase of {d} ms: allowed are 1 to {d}", .{ ms, phase_ms_max });
    const funded = opening.slots.len != 0;
    if (funded) try checkSlots(opening);
    if (!funded and params.bond != 0) return scapp.reject("a bond needs outcome slots", .{});
    for (opening.participants, 0..) |address, seat| _ = db.put(Bidder{
        .seat = @intCast(seat),
        .address = address,
        .deposit = if (funded) opening.slots[seat].amount else 0,
        .status = .idle,
        .commitment = null,
        .committed_at = null,
        .bid = null,
    });
    _ = db.put(Auction{
        .item = params.item,
        .seller = params.seller,
        .reserve = params.reserve,
        .bond = params.bond,
        .phase = .commit,
        .commit_until = .fromMs(ctx.time_ms + @as(u64, @intCast(params.commit_ms))),
        .reveal_ms = params.reveal_ms,
        .reveal_until = null,
        .winner = null,
        .price = null,
        .funded = funded,
    });
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    var auction = db.get(Auction, .{1}).?;
    _ = advance(ctx, &auction);
    const bidder = db.get(Bidder, .{ctx.author}).?;
    if (bidder.seat == auction.seller) return scapp.reject("the seller cannot bid", .{});
    switch (msg) {
        .commit => |body| try commit(ctx, &auction, bidder, body.hash),
        .reveal => |body| try reveal(ctx, &auction, bidder, body.amount, body.salt),
    }
    finish(ctx, &auction);
}

pub fn tick(ctx: *const scapp.Context) scapp.Rejection!void {
    var auction = db.get(Auction, .{1}).?;
    if (!advance(ctx, &auction)) return scapp.reject("no deadline has passed", .{});
    finish(ctx, &auction);
}

fn commit(ctx: *const scapp.Context, auction: *const Auction, found: Bidder, hash: scapp.Bytes32) scapp.Rejection!void {
    if (auction.phase != .commit) return scapp.reject("bidding is over", .{});
    if (found.commitment != null) return scapp.reject("seat {d} has bid already", .{found.seat});
    var bidder = found;
    bidder.status = .committed;
    bidder.commitment = hash;
    bidder.committed_at = @intCast(ctx.sequence);
    _ = db.put(bidder);
    scapp.emit("committed", .{ .seat = bidder.seat });
}

fn reveal(ctx: *const scapp.Context, auction: *const Auction, found: Bidder, amount: u256, salt: scapp.Bytes32) scapp.Rejection!void {
    if (auction.phase != .reveal) return scapp.reject("bids are revealed once bidding is over, and until the sale is closed", .{});
    if (found.status != .committed) return scapp.reject("seat {d} has no bid to reveal", .{found.seat});
    var value: [32]u8 = undefined;
    std.mem.writeInt(u256, &value, amount, .big);
    const expected = scapp.commitment(ctx, salt, 0, &value);
    if (!expected.eql(found.commitment.?))
        return scapp.reject("{d} with this salt hashes to {f}, committed was {f}", .{ amount, expected, found.commitment.? });
    if (auction.funded and amount > found.deposit)
        return scapp.reject("a bid of {d} with a deposit of {d}", .{ amount, found.deposit });
    var bidder = found;
    bidder.status = .revealed;
    bidder.bid = amount;
    _ = db.put(bidder);
    scapp.emit("revealed", .{ .seat = bidder.seat, .amount = amount });
}

/// Let passed deadlines count; whether one did.
fn advance(ctx: *const scapp.Context, auction: *Auction) bool {
    var moved = false;
    if (auction.phase == .commit and ctx.time_ms > auction.commit_until.toMs()) {
        startReveal(auction, auction.commit_until.toMs());
        moved = true;
    }
    if (auction.phase == .reveal and ctx.time_ms > auction.reveal_until.?.toMs()) {
        close(auction);
        moved = true;
    }
    return moved;
}

/// A phase ends early once everybody has done what it is for. Then store the auction and what everyone is owed.
fn finish(ctx: *const scapp.Context, auction: *Auction) void {
    if (auction.phase == .commit and count(.idle) == 1) startReveal(auction, ctx.time_ms); // the seller stays idle
    if (auction.phase != .commit) pickWinner(auction);
    if (auction.phase == .reveal and count(.committed) == 0) close(auction);
    _ = db.put(auction.*);
    if (auction.funded) settle(auction);
}

fn startReveal(auction: *Auction, from_ms: u64) void {
    auction.phase = .reveal;
    auction.reveal_until = .fromMs(from_ms + @as(u64, @intCast(auction.reveal_ms)));
    scapp.emit("bidding_over", .{ .bids = count(.committed) });
}

fn close(auction: *Auction) void {
    auction.phase = .closed;
    var bidders = db.scan(Bidder, .{});
    while (bidders.next()) |found| if (found.status == .committed) {
        var bidder = found;
        bidder.status = .withheld;
        _ = db.put(bidder);
    };
    pickWinner(auction);
    scapp.emit("closed", .{ .winner = auction.winner, .price = auction.price });
}

/// The highest revealed bid from the reserve on; of equal ones the first committed.
fn pickWinner(auction: *Auction) void {
    auction.winner = null;
    auction.price = null;
    var first: i64 = 0;
    var bidders = db.scan(Bidder, .{});
    while (bidders.next()) |bidder| {
        const bid = bidder.bid orelse continue;
        if (bid < auction.reserve) continue;
        if (auction.price) |best| if (bid < best or (bid == best and bidder.committed_at.? > first)) continue;
        auction.winner = bidder.seat;
        auction.price = bid;
        first = bidder.committed_at.?;
    }
}

fn count(status: Status) usize {
    var found: usize = 0;
    var bidders = db.scan(Bidder, .{});
    while (bidders.next()) |bidder| found += @intFromBool(bidder.status == status);
    return found;
}

/// What everyone is owed if nothing more is ever signed. Amounts only move between slots, so their sum stays.
fn settle(auction: *const Auction) void {
    var amounts: [256]u256 = undefined;
    var seats: usize = 0;
    var pool: u256 = 0;
    var bidders = db.scan(Bidder, .{});
    while (bidders.next()) |bidder| : (seats += 1) {
        const owes = switch (auction.phase) {
            .commit => false,
            .reveal => bidder.status == .committed or bidder.seat == auction.winner,
            .closed => bidder.status == .withheld,
        };
        amounts[seats] = bidder.deposit;
        if (owes) {
            amounts[seats] -= auction.bond;
            pool += auction.bond;
        }
    }
    if (auction.phase == .closed) if (auction.winner) |seat| {
        amounts[@intCast(seat)] -= auction.price.?;
        amounts[@intCast(auction.seller)] += auction.price.?;
    };
    amounts[seats] = pool;
    scapp.setOutcome(amounts[0 .. seats + 1]);
}

/// An auction that could not pay is refused before anybody deposits.
fn checkSlots(opening: scapp.Opening(Params)) scapp.Rejection!void {
    const slots = opening.slots;
    const seats = opening.participants.len;
    if (slots.len != seats + 1)
        return scapp.reject("{d} outcome slots: {d} are needed, one for each seat and the pool", .{ slots.len, seats + 1 });
    var sum: u256 = 0;
    for (slots, 0..) |slot, index| {
        if (!slot.asset.eql(slots[0].asset)) return scapp.reject("slots are in two assets: one is needed", .{});
        sum = std.math.add(u256, sum, slot.amount) catch return scapp.reject("the deposits exceed 2^256-1 together", .{});
        if (index == seats) break;
        const payee = slot.payee() orelse return scapp.reject("slot {d} pays a channel: it must pay seat {d}", .{ index, index });
        if (!payee.eql(opening.participants[index])) return scapp.reject("slot {d} pays {f}: it must pay seat {d}", .{ index, payee, index });
        if (index != opening.params.seller and slot.amount < opening.params.bond)
            return scapp.reject("seat {d} deposits {d}, less than the bond of {d}", .{ index, slot.amount, opening.params.bond });
    }
    if (slots[seats].amount != 0) return scapp.reject("the pool starts at {d}: it must be 0", .{slots[seats].amount});
    if (slots[seats].payee()) |payee| for (opening.participants) |participant| if (payee.eql(participant))
        return scapp.reject("the pool pays {f}, who takes part", .{payee});
}
