//! keccak256, unrolled: nearly all the time of a state root is spent here.

const memory = @import("memory.zig");
const record = @import("record.zig");

pub const Digest = [32]u8;

const rate = 136;

const round_constants = [24]u64{
    0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000,
    0x000000000000808b, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
    0x000000000000008a, 0x0000000000000088, 0x0000000080008009, 0x000000008000000a,
    0x000000008000808b, 0x800000000000008b, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};
const rotations = [25]u6{ 0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14 };

inline fn rotl(x: u64, comptime n: u6) u64 {
    return if (n == 0) x else (x << n) | (x >> @intCast(64 - @as(u7, n)));
}

inline fn permuteRound(a: *[25]u64, constant: u64) void {
    var c: [5]u64 = undefined;
    inline for (0..5) |x| c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
    var b: [25]u64 = undefined;
    inline for (0..5) |x| {
        const d = c[(x + 4) % 5] ^ rotl(c[(x + 1) % 5], 1);
        inline for (0..5) |y| {
            const from = x + 5 * y;
            const to = y + 5 * ((2 * x + 3 * y) % 5);
            b[to] = rotl(a[from] ^ d, rotations[from]);
        }
    }
    inline for (0..5) |y| {
        inline for (0..5) |x| a[x + 5 * y] = b[x + 5 * y] ^ (~b[(x + 1) % 5 + 5 * y] & b[(x + 2) % 5 + 5 * y]);
    }
    a[0] ^= constant;
}

fn permute(state: *[25]u64) void {
    var a = state.*;
    for (round_constants) |constant| permuteRound(&a, constant);
    state.* = a;
}

/// Hash bytes that come in pieces.
pub const Hasher = struct {
    state: [25]u64 = @splat(0),
    buffer: [rate]u8 = undefined,
    filled: u32 = 0,

    pub fn update(self: *Hasher, data: []const u8) void {
        var rest = data;
        if (self.filled > 0) {
            const room = @min(rate - self.filled, rest.len);
            @memcpy(self.buffer[self.filled..][0..room], rest[0..room]);
            self.filled += @intCast(room);
            rest = rest[room..];
            if (self.filled < rate) return;
            self.absorb(&self.buffer);
            self.filled = 0;
        }
        while (rest.len >= rate) {
            self.absorb(rest.ptr);
            rest = rest[rate..];
        }
        @memcpy(self.buffer[0..rest.len], rest);
        self.filled = @intCast(rest.len);
    }

    pub fn final(self: *Hasher, out: *Digest) void {
        @memset(self.buffer[self.filled..], 0);
        self.buffer[self.filled] = 1;
        self.buffer[rate - 1] |= 0x80;
        self.absorb(&self.buffer);
        out.* = @bitCast(self.state[0..4].*);
    }

    inline fn absorb(self: *Hasher, block: [*]const u8) void {
        inline for (0..rate / 8) |i| self.state[i] ^= record.load64(block + 8 * i);
        permute(&self.state);
    }
};

pub fn hash(data: []const u8, out: *Digest) void {
    var hasher: Hasher = .{};
    hasher.update(data);
    hasher.final(out);
}

/// Of a tag byte and two words, in one block: inner nodes and leaves of the state tree.
pub fn hashPair(tag: u8, left: *const Digest, right: *const Digest, out: *Digest) void {
    var block: [72]u8 = undefined;
    block[0] = tag;
    @memcpy(block[1..33], left);
    @memcpy(block[33..65], right);
    block[65] = 1;
    @memset(block[66..], 0);
    var state: [25]u64 = @splat(0);
    inline for (0..9) |i| state[i] = record.load64(@as([*]const u8, &block) + 8 * i);
    state[16] = 0x80 << 56;
    permute(&state);
    out.* = @bitCast(state[0..4].*);
}

/// Of two words: a step of the event chain.
pub fn hashWords(left: *const Digest, right: *const Digest, out: *Digest) void {
    var state: [25]u64 = @splat(0);
    inline for (0..4) |i| {
        state[i] = record.load64(@as([*]const u8, left) + 8 * i);
        state[4 + i] = record.load64(@as([*]const u8, right) + 8 * i);
    }
    state[8] = 1;
    state[16] = 0x80 << 56;
    permute(&state);
    out.* = @bitCast(state[0..4].*);
}
