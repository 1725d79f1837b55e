// scapp: write reducers in AssemblyScript. A reducer is one file that declares its rows (`Row`), messages and params
// (`Struct`) and exports `app(): App`; `scapp build` compiles it. Reference: docs/reference/sdks.md; the calls
// underneath: docs/reference/abi.md.
//
// Memory is an arena that is emptied before each message: nothing outlives it, and what is in a global is lost or, worse,
// is not. Keep state in tables alone.

export { App, Opening, Slot } from "./assembly/app";
export { Address, Bytes, Bytes32, Uuid, keccak256, sha256 } from "./assembly/bytes";
export { add, multiply, subtract } from "./assembly/checked";
export { Fields } from "./assembly/fields";
export { Context, Level, OK, Packed, REJECTED, commitment, emit, emitRaw, log, reject, setOutcome } from "./assembly/host";
export { Box, Indexes, Row, Struct } from "./assembly/row";
export { Scan, get, put, remove, scan } from "./assembly/table";
export { U256 } from "./assembly/u256";
