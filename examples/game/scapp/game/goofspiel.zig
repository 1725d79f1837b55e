//! Goofspiel for 2 to 4 players: every round all bid one card of their hand for a prize, hidden by commit and reveal.
//! Rules, stakes and what the chain can enforce: docs/explanation/commit-reveal.md. The Python package beside this
//! file plays it; `tests/support/goofspiel_model.py` is the same game in plain Python.

const std = @import("std");
const scapp = @import("scapp");

pub const name = "goofspiel";
pub const version = "1.1.0";

const cards_min = 3;
const cards_max = 13;
const players_max = 4;
const chat_bytes_max = 280;
/// Divisible by any number of players, so that a share of a point is a whole number.
const shares_per_point = 12;
const bond_percent_max = 50;

const Phase = enum { commit, reveal, over };

/// The one row of how the game stands. `stake` is the sum of the players' outcome slots, 0 without any; `bond` the part
/// of one player's that only the end of the game gives back.
const Game = struct {
    id: i16 = 1,
    phase: Phase,
    round: i16,
    prize: i16,
    pot: i16,
    cards: i16,
    players: i16,
    move_ms: i64,
    deadline: ?scapp.Timestamp,
    stake: u256,
    bond: u256,

    pub const table = .{ .name = "game", .key = 1 };
};

const Player = struct {
    seat: i16,
    address: scapp.Address,
    score: i16,
    /// JSON array of the cards not yet revealed, ascending.
    hand: scapp.Json,
    status: enum { playing, finished, forfeited },
    rank: ?i16,

    pub const table = .{
        .name = "player",
        .key = 1,
        .indexes = .{.{ .name = "player_by_address", .columns = .{"address"}, .unique = true }},
    };
};

/// All rounds stand here from the opening on, so everybody sees the prizes to come.
const Round = struct {
    round: i16,
    prize: i16,
    /// The prize and what tied rounds before left; null until the round begins.
    pot: ?i16,
    result: enum { pending, open, won, tied, void },
    winner: ?i16,
    card: ?i16,

    pub const table = .{ .name = "round", .key = 1 };
};

const Bid = struct {
    round: i16,
    seat: i16,
    commitment: scapp.Bytes32,
    card: ?i16,

    pub const table = .{ .name = "bid", .key = 2, .indexes = .{.{ .name = "bid_by_seat", .columns = .{ "seat", "round" } }} };
};

/// What players say to each other; it changes nothing in the game.
const Chat = struct {
    sequence: i64,
    seat: i16,
    text: []const u8,
    said_at: scapp.Timestamp,

    pub const table = .{ .name = "chat", .key = 1 };
};

pub const db = scapp.Database(.{ Game, Player, Round, Bid, Chat });

pub const views = .{.{ .name = "standings", .table = "player", .columns = .{ "rank", "seat", "score", "status", "address" } }};

pub const Message = union(enum) {
    commit: struct { hash: scapp.Bytes32 },
    reveal: struct { card: i16, salt: scapp.Bytes32 },
    chat: struct { text: []const u8 },
};

pub const Params = struct { cards: i16 = 7, move_ms: i64 = 0, bond_percent: i16 = 0 };

const move_ms_max = 366 * 24 * 3600 * 1000;

pub fn open(ctx: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    const params = opening.params;
    const players = opening.participants.len;
    if (players < 2 or players > players_max)
        return scapp.reject("{d} participants: the game is for 2 to {d}", .{ players, players_max });
    if (params.cards < cards_min or params.cards > cards_max)
        return scapp.reject("cards is {d}: allowed are {d} to {d}", .{ params.cards, cards_min, cards_max });
    if (params.move_ms < 0 or params.move_ms > move_ms_max)
        return scapp.reject("move_ms is {d}: allowed are 0 (no deadline) to {d}", .{ params.move_ms, move_ms_max });
    if (params.bond_percent < 0 or params.bond_percent > bond_percent_max)
        return scapp.reject("bond_percent is {d}: allowed are 0 to {d}", .{ params.bond_percent, bond_percent_max });
    const stake = try checkedStake(opening);
    const bond = partOf(stake / @as(u256, @intCast(players)), @intCast(params.bond_percent), 100);
    if (stake != 0 and params.bond_percent != 0 and bond == 0)
        return scapp.reject("a stake of {d} is too small for a bond of {d} percent", .{ opening.slots[0].amount, params.bond_percent });

    for (opening.participants, 0..) |address, seat| _ = db.put(Player{
        .seat = @intCast(seat),
        .address = address,
        .score = 0,
        .hand = fullHand(params.cards),
        .status = .playing,
        .rank = null,
    });
    const prizes = shuffledPrizes(ctx, params.cards);
    for (prizes[0..@intCast(params.cards)], 1..) |prize, number| _ = db.put(Round{
        .round = @intCast(number),
        .prize = prize,
        .pot = null,
        .result = .pending,
        .winner = null,
        .card = null,
    });
    var game: Game = .{
        .phase = .commit,
        .round = 0,
        .prize = 0,
        .pot = 0,
        .cards = params.cards,
        .players = @intCast(players),
        .move_ms = params.move_ms,
        .deadline = null,
        .stake = stake,
        .bond = bond,
    };
    beginRound(ctx, &game);
    _ = db.put(game);
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    var game = db.get(Game, .{1}).?;
    const player = db.get(Player, .{ctx.author}) orelse return scapp.reject("participant {d} has no seat", .{ctx.author});
    if (msg == .chat) return chat(ctx, player, msg.chat.text);
    if (game.phase == .over) return scapp.reject("the game is over", .{});
    if (player.status == .forfeited) return scapp.reject("seat {d} has forfeited the game", .{player.seat});
    switch (msg) {
        .commit => |body| try commit(&game, player, body.hash),
        .reveal => |body| try reveal(ctx, &game, player, body.card, body.salt),
        .chat => unreachable,
    }
    advance(ctx, &game);
}

/// Anybody may make a passed deadline count: who has not moved forfeits. Until then a late move is still taken.
pub fn tick(ctx: *const scapp.Context) scapp.Rejection!void {
    var game = db.get(Game, .{1}).?;
    if (game.phase == .over) return scapp.reject("the game is over", .{});
    const deadline = game.deadline orelse return scapp.reject("this game has no deadline", .{});
    if (ctx.time_ms <= deadline.toMs())
        return scapp.reject("the deadline passes in {d} ms", .{deadline.toMs() - ctx.time_ms + 1});
    var players = db.scan(Player, .{});
    while (players.next()) |player| {
        if (player.status == .forfeited or hasMoved(&game, player.seat)) continue;
        var out = player;
        out.status = .forfeited;
        _ = db.put(out);
        scapp.emit("forfeit", .{ .round = game.round, .seat = player.seat, .phase = game.phase });
    }
    advance(ctx, &game);
}

fn commit(game: *const Game, player: Player, hash: scapp.Bytes32) scapp.Rejection!void {
    if (game.phase != .commit)
        return scapp.reject("round {d} is in phase reveal: commitments are closed", .{game.round});
    if (bidOf(game.round, player.seat) != null)
        return scapp.reject("seat {d} has already committed in round {d}", .{ player.seat, game.round });
    _ = db.put(Bid{ .round = game.round, .seat = player.seat, .commitment = hash, .card = null });
}

fn reveal(ctx: *const scapp.Context, game: *const Game, player: Player, card: i16, salt: scapp.Bytes32) scapp.Rejection!void {
    if (game.phase != .reveal)
        return scapp.reject("round {d} is in phase commit: not all have committed yet", .{game.round});
    var bid = bidOf(game.round, player.seat).?;
    if (bid.card != null) return scapp.reject("seat {d} has already revealed in round {d}", .{ player.seat, game.round });
    if (card < 1 or card > game.cards) return scapp.reject("card is {d}: allowed are 1 to {d}", .{ card, game.cards });
    const expected = scapp.commitment(ctx, salt, @intCast(game.round), &.{@intCast(card)});
    if (!expected.eql(bid.commitment))
        return scapp.reject("card {d} with this salt hashes to {f}, committed was {f}", .{ card, expected, bid.commitment });
    const hand = without(player.hand, card) orelse
        return scapp.reject("card {d} is not in the hand {s}", .{ card, player.hand.text });
    bid.card = card;
    _ = db.put(bid);
    var changed = player;
    changed.hand = hand;
    _ = db.put(changed);
}

/// Whoever has a seat may speak, also when the game is over or the player out of it.
fn chat(ctx: *const scapp.Context, player: Player, text: []const u8) scapp.Rejection!void {
    if (text.len == 0 or text.len > chat_bytes_max)
        return scapp.reject("text of {d} bytes: allowed are 1 to {d}", .{ text.len, chat_bytes_max });
    _ = db.put(Chat{ .sequence = @intCast(ctx.sequence), .seat = player.seat, .text = text, .said_at = .fromMs(ctx.time_ms) });
}

/// Move on as far as the moves made allow, then store the game and what everyone is owed.
fn advance(ctx: *const scapp.Context, game: *Game) void {
    if (playing() < 2) {
        endEarly(game);
    } else if (allMoved(game)) {
        if (game.phase == .commit) {
            game.phase = .reveal;
            setDeadline(ctx, game);
        } else finishRound(ctx, game);
    }
    _ = db.put(game.*);
    if (game.stake != 0) settle(game);
}

fn beginRound(ctx: *const scapp.Context, game: *Game) void {
    game.round += 1;
    var round = db.get(Round, .{game.round}).?;
    game.phase = .commit;
    game.prize = round.prize;
    game.pot += round.prize;
    round.pot = game.pot;
    round.result = .open;
    _ = db.put(round);
    setDeadline(ctx, game);
}

fn setDeadline(ctx: *const scapp.Context, game: *Game) void {
    game.deadline = if (game.move_ms == 0) null else .fromMs(ctx.time_ms + @as(u64, @intCast(game.move_ms)));
}

/// The highest bid wins the pot; when several are highest nobody does, and the pot waits for the next round.
fn finishRound(ctx: *const scapp.Context, game: *Game) void {
    var best: i16 = 0;
    var winner: ?i16 = null;
    var bids = db.scan(Bid, .{ .prefix = .{game.round} });
    while (bids.next()) |bid| {
        const card = bid.card orelse continue; // its player has forfeited
        if (card > best) {
            best = card;
            winner = bid.seat;
        } else if (card == best) winner = null;
    }
    var round = db.get(Round, .{game.round}).?;
    round.result = if (winner == null) .tied else .won;
    round.winner = winner;
    round.card = best;
    _ = db.put(round);
    scapp.emit("round", .{ .round = game.round, .prize = game.prize, .pot = game.pot, .winner = winner, .card = best });
    if (winner) |seat| {
        award(seat, game.pot);
        game.pot = 0;
    }
    if (game.round == game.cards) endGame(game) else beginRound(ctx, game);
}

/// Fewer than two are left: the last one takes all that is still to be won; with nobody left nobody does.
fn endEarly(game: *Game) void {
    var rest = game.pot;
    var rounds = db.scan(Round, .{ .from = .{game.round} });
    while (rounds.next()) |round| {
        if (round.round != game.round) rest += round.prize;
        var void_round = round;
        void_round.result = .void;
        _ = db.put(void_round);
    }
    var players = db.scan(Player, .{});
    while (players.next()) |player| {
        if (player.status == .forfeited) continue;
        award(player.seat, rest);
        game.pot = 0;
    }
    endGame(game);
}

fn endGame(game: *Game) void {
    game.phase = .over;
    game.deadline = null;
    var standing: [players_max]struct { seat: i16, score: i16, rank: i16 } = undefined;
    var count: usize = 0;
    var players = db.scan(Player, .{});
    while (players.next()) |player| : (count += 1) {
        var ranked = player;
        ranked.rank = rankOf(player);
        if (player.status == .playing) ranked.status = .finished;
        _ = db.put(ranked);
        standing[count] = .{ .seat = player.seat, .score = player.score, .rank = ranked.rank.? };
    }
    scapp.emit("game_over", .{ .rounds = game.round, .standings = standing[0..count] });
}

/// 1 and the number of players who did better; who stayed is before who forfeited, equals share a rank.
fn rankOf(player: Player) i16 {
    var rank: i16 = 1;
    var others = db.scan(Player, .{});
    while (others.next()) |other| {
        const alike = (other.status == .forfeited) == (player.status == .forfeited);
        const better = if (alike) other.score > player.score else other.status != .forfeited;
        if (better) rank += 1;
    }
    return rank;
}

fn award(seat: i16, points: i16) void {
    var player = db.get(Player, .{seat}).?;
    player.score += points;
    _ = db.put(player);
}

fn bidOf(round: i16, seat: i16) ?Bid {
    return db.get(Bid, .{ round, seat });
}

fn hasMoved(game: *const Game, seat: i16) bool {
    const bid = bidOf(game.round, seat) orelse return false;
    return game.phase == .commit or bid.card != null;
}

fn playing() usize {
    var count: usize = 0;
    var players = db.scan(Player, .{});
    while (players.next()) |player| count += @intFromBool(player.status != .forfeited);
    return count;
}

fn allMoved(game: *const Game) bool {
    var moved = true;
    var players = db.scan(Player, .{});
    while (players.next()) |player| {
        if (player.status != .forfeited and !hasMoved(game, player.seat)) moved = false;
    }
    return moved;
}

// Hands

fn fullHand(cards: i16) scapp.Json {
    const text = scapp.alloc(u8, 3 * cards_max + 2);
    var at: usize = 0;
    for (1..@as(usize, @intCast(cards)) + 1) |card| at += written(text[at..], at == 0, @intCast(card));
    text[at] = ']';
    return .{ .text = text[0 .. at + 1] };
}

/// The hand less one card, or null when it does not hold it.
fn without(hand: scapp.Json, card: i16) ?scapp.Json {
    const text = scapp.alloc(u8, hand.text.len + 2);
    var at: usize = 0;
    var found = false;
    var parts = std.mem.tokenizeAny(u8, hand.text, "[,]");
    while (parts.next()) |part| {
        const held = std.fmt.parseInt(i16, part, 10) catch unreachable;
        if (held == card) found = true else at += written(text[at..], at == 0, held);
    }
    if (!found) return null;
    if (at == 0) return .{ .text = "[]" };
    text[at] = ']';
    return .{ .text = text[0 .. at + 1] };
}

fn written(out: []u8, first: bool, card: i16) usize {
    const part = std.fmt.bufPrint(out, "{s}{d}", .{ if (first) "[" else ",", card }) catch unreachable;
    return part.len;
}

/// Prizes in the order in which they are played: a Fisher-Yates shuffle drawn from the channel id. Everybody knows it
/// from the start and it treats all seats alike, so whoever chose the channel's nonce gained nothing by it.
fn shuffledPrizes(ctx: *const scapp.Context, cards: i16) [cards_max]i16 {
    var prizes: [cards_max]i16 = undefined;
    for (&prizes, 1..) |*prize, number| prize.* = @intCast(number);
    var left: usize = @intCast(cards);
    while (left > 1) : (left -= 1) {
        var seed: [33]u8 = undefined;
        @memcpy(seed[0..32], &ctx.channel_id.bytes);
        seed[32] = @intCast(left);
        const draw = std.mem.readInt(u64, scapp.keccak256(&seed).bytes[0..8], .big);
        std.mem.swap(i16, &prizes[left - 1], &prizes[@intCast(draw % left)]);
    }
    return prizes;
}

// Stakes

/// Sum of the players' slots, 0 without slots. A game that could not pay its players is refused before anybody stakes
/// on it. Bonds lie in a slot of their own behind the players', which pays somebody else, as long as the game goes on.
fn checkedStake(opening: scapp.Opening(Params)) scapp.Rejection!u256 {
    const slots = opening.slots;
    if (slots.len == 0) return 0;
    const players = opening.participants.len;
    const bonded = opening.params.bond_percent != 0;
    if (slots.len != players + @intFromBool(bonded))
        return scapp.reject("{d} outcome slots for {d} players: one each is needed{s}, or none", .{ slots.len, players, if (bonded) " and one for the bonds" else "" });
    if (bonded) try checkPool(slots[players], slots[0].asset, opening.participants);
    var sum: u256 = 0;
    for (slots[0..players], opening.participants, 0..) |slot, player, seat| {
        const payee = slot.payee() orelse return scapp.reject("slot {d} pays a channel: it must pay seat {d}", .{ seat, seat });
        if (!payee.eql(player)) return scapp.reject("slot {d} pays {f}: it must pay seat {d}, {f}", .{ seat, payee, seat, player });
        if (!slot.asset.eql(slots[0].asset)) return scapp.reject("slots are in two assets: one is needed", .{});
        if (slot.amount != slots[0].amount) return scapp.reject("stakes differ: {d} and {d}", .{ slots[0].amount, slot.amount });
        sum = std.math.add(u256, sum, slot.amount) catch return scapp.reject("stakes exceed 2^256-1 together", .{});
    }
    return sum;
}

/// Nobody who plays may gain by what lies there.
fn checkPool(pool: scapp.Slot, asset: scapp.Address, players: []const scapp.Address) scapp.Rejection!void {
    const payee = pool.payee() orelse return scapp.reject("the slot for the bonds pays a channel", .{});
    for (players) |player| {
        if (payee.eql(player)) return scapp.reject("the slot for the bonds pays a player, {f}", .{payee});
    }
    if (!pool.asset.eql(asset)) return scapp.reject("slots are in two assets: one is needed", .{});
    if (pool.amount != 0) return scapp.reject("the slot for the bonds begins with {d}: it must begin empty", .{pool.amount});
}

/// `amount * part / whole`, rounded down, without a product that exceeds 256 bits.
fn partOf(amount: u256, part: u256, whole: u256) u256 {
    return amount / whole * part + amount % whole * part / whole;
}

/// What everyone is owed if nothing more is ever signed: points won, and the pot and the prizes to come among all who
/// play (with nobody left playing, among all). Without bonds the pot is shared by those who have shown their card, as
/// soon as one has; with bonds it is these that nobody gets before the end.
fn settle(game: *const Game) void {
    const points: u256 = @intCast(@divExact(game.cards * (game.cards + 1), 2));
    var shares: [players_max]u256 = @splat(0);
    var scored: i16 = 0;
    var seat: usize = 0;
    var players = db.scan(Player, .{});
    while (players.next()) |player| : (seat += 1) {
        scored += player.score;
        shares[seat] = @intCast(shares_per_point * @as(i32, player.score));
    }
    const pot = game.pot;
    const coming = @as(i16, @intCast(points)) - scored - pot;
    share(game, &shares, pot, if (game.bond == 0 and game.phase == .reveal and anyRevealed(game)) .revealed else .playing);
    share(game, &shares, coming, .playing);

    var amounts: [players_max + 1]u256 = undefined;
    const count: usize = @intCast(game.players);
    const bonds = game.bond * count;
    var rest = game.stake - bonds;
    for (amounts[0..count], shares[0..count]) |*amount, part| {
        amount.* = partOf(game.stake - bonds, part, points * shares_per_point);
        rest -= amount.*;
    }
    amounts[0] += rest; // rounding: fewer units than players
    if (game.bond == 0) return scapp.setOutcome(amounts[0..count]);
    amounts[count] = bonds;
    if (game.phase == .over) giveBondsBack(bonds, amounts[0 .. count + 1]);
    scapp.setOutcome(amounts[0 .. count + 1]);
}

/// Who stayed gets the own bond and an equal part of those of who forfeited; with nobody left they stay where they are.
fn giveBondsBack(bonds: u256, amounts: []u256) void {
    const stayed = playing();
    if (stayed == 0) return;
    const pool = &amounts[amounts.len - 1];
    var players = db.scan(Player, .{});
    while (players.next()) |player| {
        if (player.status == .forfeited) continue;
        amounts[@intCast(player.seat)] += bonds / stayed;
        pool.* -= bonds / stayed;
    }
}

const Sharers = enum { playing, revealed };

/// Add equal parts of `points` to those who qualify, or to everybody when nobody does.
fn share(game: *const Game, shares: *[players_max]u256, points: i16, sharers: Sharers) void {
    var qualified: [players_max]bool = @splat(false);
    var count: u256 = 0;
    var players = db.scan(Player, .{});
    while (players.next()) |player| {
        const in = player.status != .forfeited and (sharers == .playing or hasMoved(game, player.seat));
        qualified[@intCast(player.seat)] = in;
        count += @intFromBool(in);
    }
    const everybody = count == 0;
    const divisor = if (everybody) @as(u256, @intCast(game.players)) else count;
    const part = @as(u256, @intCast(points)) * shares_per_point / divisor;
    for (0..@intCast(game.players)) |seat| if (everybody or qualified[seat]) {
        shares[seat] += part;
    };
}

fn anyRevealed(game: *const Game) bool {
    var found = false;
    var bids = db.scan(Bid, .{ .prefix = .{game.round} });
    while (bids.next()) |bid| if (bid.card != null) {
        found = true;
    };
    return found;
}
