//! The Zig of docs/howto in one reducer, so that a compiler has seen it.

const scapp = @import("scapp");

pub const name = "howto";
pub const version = "1.0.0";

const Account = struct {
    owner: scapp.Address,
    balance: u256,

    pub const table = .{ .name = "account", .key = 1, .history = true };
};

const Offer = struct {
    id: i64,
    side: []const u8,
    price: u256,

    pub const table = .{
        .name = "offer",
        .key = 1,
        .indexes = .{.{ .name = "by_price", .columns = .{ "side", "price" } }},
    };
};

pub const db = scapp.Database(.{ Account, Offer });

pub const Params = struct { fee: u256 = 0 };

pub const Message = union(enum) { buy: struct { pot: u256, fee: u256 } };

pub fn open(_: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    if (opening.slots.len != opening.participants.len)
        return scapp.reject("{d} slots for {d} players: one each is needed", .{ opening.slots.len, opening.participants.len });
    for (opening.slots, opening.participants) |slot, player| {
        const payee = slot.payee() orelse return scapp.reject("a slot pays a channel", .{});
        if (!payee.eql(player)) return scapp.reject("a slot pays {f}, who does not play there", .{payee});
    }
    // Remember the stakes: `opening` is seen only now.
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    const best = db.first(Offer, .{ .index = "by_price", .prefix = .{"sell"} }) orelse return scapp.reject("no offer", .{});
    const pot, const fee = .{ msg.buy.pot, msg.buy.fee };
    if (best.price > pot or fee > pot) return scapp.reject("{d} are asked", .{best.price});
    scapp.setOutcome(&.{ pot - fee, 0, fee });   // one u256 for each slot, in slot order
    _ = db.put(Account{ .owner = ctx.address, .balance = pot });
}
