//! scapp: write reducers in Zig. A reducer is one file with these public declarations (docs/reference/zig-sdk.md):
//! `name`, `version`, `db` (a `Database` of tables), `Message` (a tagged union), `open`, `message` and, when wanted,
//! `tick`, `Params`, `views`. `scapp.reducers.build` compiles it; `entry.zig` turns it into a module.

const host = @import("host.zig");
const memory = @import("memory.zig");
const message = @import("message.zig");
const table = @import("table.zig");
const types = @import("types.zig");

pub const Address = types.Address;
pub const Bytes32 = types.Bytes32;
pub const Uuid = types.Uuid;
pub const Bytes = types.Bytes;
pub const Json = types.Json;
pub const Timestamp = types.Timestamp;

pub const Database = table.Database;
pub const Rows = table.Rows;

pub const Context = host.Context;
pub const Rejection = host.Rejection;
pub const reject = host.reject;
pub const log = host.log;
pub const emit = host.emit;
pub const emitRaw = host.emitRaw;
pub const setOutcome = host.setOutcome;
pub const keccak256 = host.keccak256;
pub const sha256 = host.sha256;
pub const commitment = host.commitment;

pub const Opening = message.Opening;
pub const Slot = message.Slot;
/// Params of an app that declares none.
pub const NoParams = struct {};
pub const decode = message.decode;

/// Memory that lives until the message ends.
pub const alloc = memory.alloc;
pub const format = memory.format;

/// For `entry.zig` alone.
pub const internal = struct {
    pub const abi = @import("abi.zig");
    pub const manifest = @import("manifest.zig");
    pub const memory = @import("memory.zig");
};
