//! The values that tables and messages are made of, and which column type each Zig type stands for.

const std = @import("std");

/// `size` raw bytes; distinct types, so that an address cannot be passed for a hash.
fn Fixed(comptime size: usize, comptime column: []const u8) type {
    return struct {
        bytes: [size]u8,

        pub const scapp_column = column;
        pub const byte_count = size;
        pub const zero: @This() = .{ .bytes = @splat(0) };

        pub fn of(slice: []const u8) @This() {
            return .{ .bytes = slice[0..size].* };
        }

        pub fn eql(a: @This(), b: @This()) bool {
            return std.mem.eql(u8, &a.bytes, &b.bytes);
        }

        pub fn format(self: @This(), writer: *std.Io.Writer) std.Io.Writer.Error!void {
            try writer.writeAll("0x");
            for (self.bytes) |byte| try writer.print("{x:0>2}", .{byte});
        }
    };
}

pub const Address = Fixed(20, "address");
pub const Bytes32 = Fixed(32, "bytes32");
pub const Uuid = Fixed(16, "uuid");

/// Any bytes: column type bytea.
pub const Bytes = struct {
    data: []const u8,
    pub const scapp_column = "bytea";
};

/// JSON text, kept verbatim: column type json.
pub const Json = struct {
    text: []const u8,
    pub const scapp_column = "json";
};

/// A moment: column type timestamptz.
pub const Timestamp = struct {
    /// Microseconds since 2000-01-01 00:00 UTC, as PostgreSQL counts.
    micros: i64,

    pub const scapp_column = "timestamptz";
    const epoch_ms = 946_684_800_000;

    /// From milliseconds since 1970, as entries carry them.
    pub fn fromMs(ms: u64) Timestamp {
        return .{ .micros = (@as(i64, @intCast(ms)) - epoch_ms) * 1000 };
    }

    pub fn toMs(self: Timestamp) u64 {
        return @intCast(@divFloor(self.micros, 1000) + epoch_ms);
    }
};

/// True for the struct types above: one column or one value, never a group of fields.
pub fn isScalarStruct(comptime T: type) bool {
    return @typeInfo(T) == .@"struct" and @hasDecl(T, "scapp_column");
}

/// PostgreSQL column type of a Zig type; a compile error that names what is allowed for anything else.
pub fn columnType(comptime T: type) []const u8 {
    if (isScalarStruct(T)) return T.scapp_column;
    if (T == []const u8) return "text";
    return switch (@typeInfo(T)) {
        .optional => |optional| columnType(optional.child),
        .bool => "bool",
        .@"enum" => "text",
        .int => switch (T) {
            i16 => "int2",
            i32 => "int4",
            i64 => "int8",
            u64, u128, u256 => "numeric",
            else => unsupported(T),
        },
        .float => if (T == f64) "float8" else unsupported(T),
        else => unsupported(T),
    };
}

fn unsupported(comptime T: type) noreturn {
    @compileError("no column type for " ++ @typeName(T) ++ ": allowed are bool, i16, i32, i64, u64, u128, u256, f64, " ++
        "[]const u8 (text), enums (text), Address, Bytes32, Uuid, Bytes, Json, Timestamp, and ?T of each");
}
