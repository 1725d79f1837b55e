//! keccak256, one at a time or two side by side in the lanes of a vector, which takes little longer than one: nearly
//! all the time of a state root is spent here.

const memory = @import("memory.zig");

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

/// One lane, or the same lane of two states side by side.
inline fn rotl(x: anytype, comptime n: u6) @TypeOf(x) {
    if (n == 0) return x;
    const m: u6 = @intCast(64 - @as(u7, n));
    if (@TypeOf(x) == u64) return (x << n) | (x >> m);
    return (x << @splat(n)) | (x >> @splat(m));
}

/// A round from `a` to `b`: theta, then each row of the result from one diagonal of the state (rho, pi), then chi.
inline fn round(comptime Lane: type, a: *const [25]Lane, b: *[25]Lane, constant: u64) void {
    var c: [5]Lane = undefined;
    inline for (0..5) |x| c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
    var d: [5]Lane = undefined;
    inline for (0..5) |x| d[x] = c[(x + 4) % 5] ^ rotl(c[(x + 1) % 5], 1);
    inline for (0..5) |y| {
        var row: [5]Lane = undefined;
        inline for (0..5) |x| {
            const column = comptime source(x, y);
            row[x] = rotl(a[column + 5 * x] ^ d[column], rotations[column + 5 * x]);
        }
        inline for (0..5) |x| b[x + 5 * y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
    }
    b[0] ^= if (Lane == u64) constant else @splat(constant);
}

/// The column whose lane of row `x` goes to column `x` of row `y`.
fn source(x: usize, y: usize) usize {
    for (0..5) |column| if ((2 * column + 3 * x) % 5 == y) return column;
    unreachable;
}

fn permute(comptime Lane: type, state: *[25]Lane) void {
    var a = state.*;
    var b: [25]Lane = undefined;
    var i: u32 = 0;
    while (i < 24) : (i += 2) {
        round(Lane, &a, &b, round_constants[i]);
        round(Lane, &b, &a, round_constants[i + 1]);
    }
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
        inline for (0..rate / 8) |i| self.state[i] ^= memory.load(u64, block + 8 * i);
        permute(u64, &self.state);
    }
};

pub fn hash(data: []const u8, out: *Digest) void {
    var hasher: Hasher = .{};
    hasher.update(data);
    hasher.final(out);
}

const Two = @Vector(2, u64);
const end_of_padding: u64 = 0x80 << 56; // in lane 16, the last of the block

/// A message of up to 79 bytes, and one of up to 135, each with its padding but for the block's last bit.
pub const Short = Padded(10);
pub const Block = Padded(17);

fn Padded(comptime count: usize) type {
    return struct {
        bytes: [8 * lanes]u8 align(8),

        const lanes = count;
        const Self = @This();

        /// In up to two pieces.
        pub inline fn of(first: []const u8, second: []const u8) Self {
            var padded: Self = undefined;
            const words: *[lanes]u64 = @ptrCast(&padded.bytes);
            inline for (words) |*word| word.* = 0;
            memory.copy(&padded.bytes, first);
            memory.copy(padded.bytes[first.len..].ptr, second);
            padded.bytes[first.len + second.len] = 1;
            return padded;
        }

        /// Whether messages of this length fit.
        pub inline fn fits(length: usize) bool {
            return length < 8 * lanes;
        }

        inline fn lane(self: *const Self, comptime i: usize) u64 {
            return memory.load(u64, @as([*]const u8, &self.bytes) + 8 * i);
        }
    };
}

/// A tag byte and two words: a node or a leaf of the state tree. Its lanes are shifted together, not written and read.
pub const Pair = struct {
    tag: u8,
    left: *const Digest,
    right: *const Digest,

    const lanes = 9;

    inline fn word(self: *const Pair, comptime i: usize) u64 {
        return wordOf(if (i < 4) self.left else self.right, i % 4);
    }

    inline fn lane(self: *const Pair, comptime i: usize) u64 {
        if (i == 0) return self.tag | self.word(0) << 8;
        return self.word(i - 1) >> 56 | if (i == 8) 1 << 8 else self.word(i) << 8;
    }
};

/// Two words: a link of the event chain.
pub const Words = struct {
    left: *const Digest,
    right: *const Digest,

    const lanes = 9;

    inline fn lane(self: *const Words, comptime i: usize) u64 {
        return if (i == 8) 1 else wordOf(if (i < 4) self.left else self.right, i % 4);
    }
};

inline fn wordOf(digest: *const Digest, comptime i: usize) u64 {
    return memory.load(u64, @as([*]const u8, digest) + 8 * i);
}

/// Of one such message.
pub fn hashOne(message: anytype, out: *Digest) void {
    var state: [25]u64 = @splat(0);
    inline for (0..@TypeOf(message).lanes) |i| state[i] = message.lane(i);
    state[16] |= end_of_padding;
    permute(u64, &state);
    out.* = @bitCast(state[0..4].*);
}

/// Of two at once.
pub fn hashTwo(a: anytype, b: anytype, out_a: *Digest, out_b: *Digest) void {
    const count_a = @TypeOf(a).lanes;
    const count_b = @TypeOf(b).lanes;
    var state: [25]Two = @splat(@splat(0));
    inline for (0..@max(count_a, count_b)) |i| {
        state[i] = .{ if (i < count_a) a.lane(i) else 0, if (i < count_b) b.lane(i) else 0 };
    }
    state[16] |= @splat(end_of_padding);
    permute(Two, &state);
    inline for (0..4) |i| {
        out_a[8 * i ..][0..8].* = @bitCast(state[i][0]);
        out_b[8 * i ..][0..8].* = @bitCast(state[i][1]);
    }
}
