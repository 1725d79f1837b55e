//! Sorting by a group, the first eight bytes of a key, and the whole of it where those are equal.

const std = @import("std");
const state = @import("state.zig");

/// `start`: those bytes as a number. `value` says what it is.
pub const Item = struct { start: u64, value: u32, group: u8 = 0 };

/// Room for items in the arena of the batch.
pub fn items(count: usize) []Item {
    if (count == 0) return &.{}; // an empty arena has no address
    const many: [*]Item = @ptrFromInt(state.arena.alloc(@intCast(count * @sizeOf(Item))));
    return many[0..count];
}

/// The number for the beginning of a key.
pub inline fn startOf(key: []const u8) u64 {
    if (key.len >= 8) return std.mem.readInt(u64, key[0..8], .big);
    var start: u64 = 0;
    for (key) |byte| start = start << 8 | byte;
    return if (key.len == 0) 0 else start << @intCast(8 * (8 - key.len));
}

/// Sort; `before` compares the whole keys of two values.
pub fn sort(list: []Item, comptime before: fn (u32, u32) bool) void {
    const Order = struct {
        fn less(_: void, a: Item, b: Item) bool {
            if (a.group != b.group) return a.group < b.group;
            return if (a.start != b.start) a.start < b.start else before(a.value, b.value);
        }
    };
    if (list.len <= 24) return std.sort.insertion(Item, list, {}, Order.less);
    byStart(list);
    var first: usize = 0;
    for (1..list.len + 1) |i| {
        if (i < list.len and list[i].start == list[first].start and list[i].group == list[first].group) continue;
        if (i - first > 1) std.sort.heap(Item, list[first..i], {}, Order.less);
        first = i;
    }
}

/// From the last byte to the first, each time keeping the order so far; bytes that are equal everywhere cost nothing.
fn byStart(list: []Item) void {
    var counts: [9][256]u32 = @splat(@splat(0));
    for (list) |item| {
        inline for (0..9) |byte| counts[byte][byteOf(item, byte)] += 1;
    }
    var from = list;
    var to = items(list.len);
    inline for (0..9) |byte| {
        if (counts[byte][byteOf(list[0], byte)] != list.len) {
            var total: u32 = 0;
            for (&counts[byte]) |*count| {
                total += count.*;
                count.* = total - count.*;
            }
            for (from) |item| {
                const place = &counts[byte][byteOf(item, byte)];
                to[place.*] = item;
                place.* += 1;
            }
            const other = from;
            from = to;
            to = other;
        }
    }
    if (from.ptr != list.ptr) for (list, from) |*item, sorted| {
        item.* = sorted;
    };
}

inline fn byteOf(item: Item, comptime byte: u6) u8 {
    return if (byte == 8) item.group else @truncate(item.start >> (8 * byte));
}
