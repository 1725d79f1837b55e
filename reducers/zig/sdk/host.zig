//! Everything a message can do besides tables: reject, emit, log, pay, hash; and who said what when.

const std = @import("std");
const abi = @import("abi.zig");
const memory = @import("memory.zig");
const msgpack = @import("msgpack.zig");
const types = @import("types.zig");

pub const Rejection = error{Rejected};

/// Refuse the message with a reason for its author: `return scapp.reject("balance is {d}", .{balance});`
pub fn reject(comptime template: []const u8, args: anytype) Rejection {
    const reason = memory.format(template, args);
    abi.reject(reason.ptr, reason.len);
    return error.Rejected;
}

pub const Level = enum(u32) { err = 0, warn = 1, info = 2, debug = 3 };

/// A line of diagnostics; never part of state.
pub fn log(level: Level, comptime template: []const u8, args: anytype) void {
    const text = memory.format(template, args);
    abi.log(@backingInt(level), text.ptr, text.len);
}

/// An app event; `value` travels as MessagePack (structs as maps, so it shows as JSON).
pub fn emit(topic: []const u8, value: anytype) void {
    emitRaw(topic, msgpack.encode(value));
}

/// An app event with bytes of your own format.
pub fn emitRaw(topic: []const u8, data: []const u8) void {
    abi.emit(topic.ptr, topic.len, data.ptr, data.len);
}

/// What each outcome slot gets from now on; traps unless there is one amount per slot and each asset's sum stays.
pub fn setOutcome(amounts: []const u256) void {
    const bytes = memory.alloc(u8, 32 * amounts.len);
    for (amounts, 0..) |amount, index| std.mem.writeInt(u256, bytes[32 * index ..][0..32], amount, .big);
    abi.set_outcome(bytes.ptr, bytes.len);
}

pub fn keccak256(data: []const u8) types.Bytes32 {
    var digest: types.Bytes32 = undefined;
    abi.keccak256(data.ptr, data.len, &digest.bytes);
    return digest;
}

pub fn sha256(data: []const u8) types.Bytes32 {
    var digest: types.Bytes32 = undefined;
    abi.sha256(data.ptr, data.len, &digest.bytes);
    return digest;
}

pub const Kind = enum(u8) { open = 0, message = 1, tick = 2, close = 3, _ };

/// Who sent the entry, where and when.
pub const Context = struct {
    kind: Kind,
    /// Index among the channel's participants.
    author: u8,
    address: types.Address,
    channel_id: types.Bytes32,
    /// Position in the channel's log; the opening is 0.
    sequence: u64,
    /// Milliseconds since 1970 UTC; never decreases along the log.
    time_ms: u64,

    /// From the header of a message buffer.
    pub fn of(buffer: []const u8) Context {
        return .{
            .kind = @fromBackingInt(@intCast(buffer[0])),
            .author = buffer[1],
            .address = .of(buffer[24..44]),
            .channel_id = .of(buffer[44..76]),
            .sequence = std.mem.readInt(u64, buffer[8..16], .little),
            .time_ms = std.mem.readInt(u64, buffer[16..24], .little),
        };
    }
};

/// What hides `value` until its author reveals value and salt: keccak256(salt || channel id || author address ||
/// round u64 big-endian || value). Channel, author and round are inside, so nobody can repeat another's commitment.
pub fn commitment(ctx: *const Context, salt: types.Bytes32, round: u64, value: []const u8) types.Bytes32 {
    const data = memory.alloc(u8, 32 + 32 + 20 + 8 + value.len);
    @memcpy(data[0..32], &salt.bytes);
    @memcpy(data[32..64], &ctx.channel_id.bytes);
    @memcpy(data[64..84], &ctx.address.bytes);
    std.mem.writeInt(u64, data[84..92], round, .big);
    @memcpy(data[92..], value);
    return keccak256(data);
}
