//! An inventory with crafting and barter. Params: {"items": [name, …], "holdings": [[owner, item, amount], …],
//! "recipes": [{"name", "inputs": [[item, amount], …], "outputs": [[item, amount], …], "ms": 0}, …]}.
//!
//! Items come into being by recipes alone: for each item the supply is what all hold and offer, and only crafting changes
//! it. Inputs are gone when a job starts; its outputs can be collected once the signed time has reached `ready_at`. An
//! offer sets the goods aside, so it can always be kept; it is accepted whole, and both sides change hands in one message.

const std = @import("std");
const scapp = @import("scapp");

pub const name = "crafting";
pub const version = "1.0.0";

const Item = struct {
    name: []const u8,
    supply: u256,

    pub const table = .{ .name = "item", .key = 1 };
};

const Holding = struct {
    owner: scapp.Address,
    item: []const u8,
    amount: u256,

    pub const table = .{ .name = "holding", .key = 2, .indexes = .{.{ .name = "holding_by_item", .columns = .{ "item", "amount" } }} };
};

const Recipe = struct {
    name: []const u8,
    ms: i64,

    pub const table = .{ .name = "recipe", .key = 1 };
};

/// What a recipe takes (`output` false) and gives.
const Part = struct {
    recipe: []const u8,
    output: bool,
    item: []const u8,
    amount: u256,

    pub const table = .{ .name = "part", .key = 3 };
};

/// `id` is the sequence of the message that began it.
const Job = struct {
    id: i64,
    owner: scapp.Address,
    recipe: []const u8,
    times: u256,
    ready_at: scapp.Timestamp,

    pub const table = .{ .name = "job", .key = 1, .indexes = .{.{ .name = "job_by_owner", .columns = .{ "owner", "ready_at" } }} };
};

/// `recipient` null: whoever accepts first.
const Offer = struct {
    id: i64,
    owner: scapp.Address,
    recipient: ?scapp.Address,
    give_item: []const u8,
    give_amount: u256,
    want_item: []const u8,
    want_amount: u256,

    pub const table = .{ .name = "offer", .key = 1, .indexes = .{.{ .name = "offer_by_give", .columns = .{ "give_item", "id" } }} };
};

pub const db = scapp.Database(.{ Item, Holding, Recipe, Part, Job, Offer });

const Amount = struct { item: []const u8, amount: u256 };

pub const Message = union(enum) {
    give: struct { to: scapp.Address, item: []const u8, amount: u256 },
    craft: struct { recipe: []const u8, times: u256 = 1 },
    collect: struct { job: i64 },
    offer: struct { give: Amount, want: Amount, recipient: ?scapp.Address = null },
    accept: struct { offer: i64 },
    withdraw: struct { offer: i64 },
};

const Start = struct { owner: scapp.Address, item: []const u8, amount: u256 };
const Rule = struct { name: []const u8, inputs: []const Amount = &.{}, outputs: []const Amount, ms: i64 = 0 };
pub const Params = struct { items: []const []const u8, recipes: []const Rule = &.{}, holdings: []const Start = &.{} };

const craft_ms_max = 366 * 24 * 3600 * 1000;

pub fn open(_: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    const params = opening.params;
    for (params.items) |item| {
        if (item.len == 0 or item.len > 60) return scapp.reject("an item's name has {d} bytes: allowed are 1 to 60", .{item.len});
        if (db.get(Item, .{item}) != null) return scapp.reject("item '{s}' is named twice", .{item});
        _ = db.put(Item{ .name = item, .supply = 0 });
    }
    for (params.recipes) |rule| {
        if (rule.name.len == 0 or rule.name.len > 60 or db.get(Recipe, .{rule.name}) != null)
            return scapp.reject("recipe '{s}': a name of its own, of 1 to 60 bytes, is needed", .{rule.name});
        if (rule.ms < 0 or rule.ms > craft_ms_max) return scapp.reject("ms is {d}: allowed are 0 to {d}", .{ rule.ms, craft_ms_max });
        _ = db.put(Recipe{ .name = rule.name, .ms = rule.ms });
        try addParts(rule.name, false, rule.inputs);
        try addParts(rule.name, true, rule.outputs);
    }
    for (params.holdings) |start| {
        try isParticipant(opening.participants, start.owner);
        try make(start.item, start.amount);
        add(start.owner, start.item, start.amount);
    }
}

fn addParts(recipe: []const u8, output: bool, amounts: []const Amount) scapp.Rejection!void {
    for (amounts) |part| {
        try known(part.item);
        try positive(part.amount);
        if (db.put(Part{ .recipe = recipe, .output = output, .item = part.item, .amount = part.amount }))
            return scapp.reject("recipe '{s}' names '{s}' twice on one side", .{ recipe, part.item });
    }
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    switch (msg) {
        .give => |body| {
            if (body.to.eql(ctx.address)) return scapp.reject("giver and receiver are both {f}", .{body.to});
            try take(ctx.address, body.item, body.amount);
            add(body.to, body.item, body.amount);
        },
        .craft => |body| try craft(ctx, body.recipe, body.times),
        .collect => |body| try collect(ctx, body.job),
        .offer => |body| try makeOffer(ctx, body.give, body.want, body.recipient),
        .accept => |body| try accept(ctx, body.offer),
        .withdraw => |body| try withdraw(ctx, body.offer),
    }
}

fn craft(ctx: *const scapp.Context, recipe: []const u8, times: u256) scapp.Rejection!void {
    const rule = db.get(Recipe, .{recipe}) orelse return scapp.reject("there is no recipe '{s}'", .{recipe});
    try positive(times);
    var inputs = db.scan(Part, .{ .prefix = .{ recipe, false } });
    while (inputs.next()) |part| {
        const needed = try product(part.amount, times);
        try take(ctx.address, part.item, needed);
        var item = db.get(Item, .{part.item}).?;
        item.supply -= needed;
        _ = db.put(item);
    }
    const job: Job = .{
        .id = @intCast(ctx.sequence),
        .owner = ctx.address,
        .recipe = recipe,
        .times = times,
        .ready_at = .fromMs(ctx.time_ms + @as(u64, @intCast(rule.ms))),
    };
    if (rule.ms == 0) return finish(job);
    _ = db.put(job);
    scapp.emit("started", .{ .job = job.id, .owner = job.owner, .recipe = recipe, .times = times });
}

fn collect(ctx: *const scapp.Context, id: i64) scapp.Rejection!void {
    const job = db.get(Job, .{id}) orelse return scapp.reject("there is no job {d}", .{id});
    if (!job.owner.eql(ctx.address)) return scapp.reject("job {d} is not yours", .{id});
    const ready = job.ready_at.toMs();
    if (ctx.time_ms < ready) return scapp.reject("job {d} is ready in {d} ms", .{ id, ready - ctx.time_ms });
    _ = db.delete(Job, .{id});
    try finish(job);
}

fn finish(job: Job) scapp.Rejection!void {
    var outputs = db.scan(Part, .{ .prefix = .{ job.recipe, true } });
    while (outputs.next()) |part| {
        const gained = try product(part.amount, job.times);
        try make(part.item, gained);
        add(job.owner, part.item, gained);
    }
    scapp.emit("crafted", .{ .owner = job.owner, .recipe = job.recipe, .times = job.times });
}

fn makeOffer(ctx: *const scapp.Context, give: Amount, want: Amount, recipient: ?scapp.Address) scapp.Rejection!void {
    try known(want.item);
    try positive(want.amount);
    if (recipient) |to| if (to.eql(ctx.address)) return scapp.reject("an offer to yourself", .{});
    try take(ctx.address, give.item, give.amount);
    _ = db.put(Offer{
        .id = @intCast(ctx.sequence),
        .owner = ctx.address,
        .recipient = recipient,
        .give_item = give.item,
        .give_amount = give.amount,
        .want_item = want.item,
        .want_amount = want.amount,
    });
}

fn accept(ctx: *const scapp.Context, id: i64) scapp.Rejection!void {
    const offer = db.get(Offer, .{id}) orelse return scapp.reject("there is no offer {d}", .{id});
    if (offer.owner.eql(ctx.address)) return scapp.reject("offer {d} is your own: withdraw it", .{id});
    if (offer.recipient) |to| if (!to.eql(ctx.address)) return scapp.reject("offer {d} is for {f}", .{ id, to });
    try take(ctx.address, offer.want_item, offer.want_amount);
    add(offer.owner, offer.want_item, offer.want_amount);
    add(ctx.address, offer.give_item, offer.give_amount);
    _ = db.delete(Offer, .{id});
    scapp.emit("bartered", .{ .offer = id, .owner = offer.owner, .with = ctx.address });
}

fn withdraw(ctx: *const scapp.Context, id: i64) scapp.Rejection!void {
    const offer = db.get(Offer, .{id}) orelse return scapp.reject("there is no offer {d}", .{id});
    if (!offer.owner.eql(ctx.address)) return scapp.reject("offer {d} is not yours", .{id});
    add(offer.owner, offer.give_item, offer.give_amount);
    _ = db.delete(Offer, .{id});
}

// Amounts

fn take(owner: scapp.Address, item: []const u8, amount: u256) scapp.Rejection!void {
    try known(item);
    try positive(amount);
    const held = if (db.get(Holding, .{ owner, item })) |holding| holding.amount else 0;
    if (held < amount) return scapp.reject("{f} has {d} of '{s}', {d} are needed", .{ owner, held, item, amount });
    if (held == amount) {
        _ = db.delete(Holding, .{ owner, item });
    } else _ = db.put(Holding{ .owner = owner, .item = item, .amount = held - amount });
}

/// Cannot overflow: an item's supply, which `make` bounds, is all there is of it.
fn add(owner: scapp.Address, item: []const u8, amount: u256) void {
    const held = if (db.get(Holding, .{ owner, item })) |holding| holding.amount else 0;
    _ = db.put(Holding{ .owner = owner, .item = item, .amount = held + amount });
}

fn make(item: []const u8, amount: u256) scapp.Rejection!void {
    try known(item);
    try positive(amount);
    var row = db.get(Item, .{item}).?;
    row.supply = std.math.add(u256, row.supply, amount) catch
        return scapp.reject("{d} and {d} of '{s}' together exceed 2^256-1", .{ row.supply, amount, item });
    _ = db.put(row);
}

fn product(amount: u256, times: u256) scapp.Rejection!u256 {
    return std.math.mul(u256, amount, times) catch scapp.reject("{d} times {d} exceeds 2^256-1", .{ times, amount });
}

fn known(item: []const u8) scapp.Rejection!void {
    if (db.get(Item, .{item}) == null) return scapp.reject("there is no item '{s}'", .{item});
}

fn positive(amount: u256) scapp.Rejection!void {
    if (amount == 0) return scapp.reject("amount is 0: at least 1 is needed", .{});
}

fn isParticipant(participants: []const scapp.Address, owner: scapp.Address) scapp.Rejection!void {
    for (participants) |participant| if (participant.eql(owner)) return;
    return scapp.reject("{f} does not take part", .{owner});
}
