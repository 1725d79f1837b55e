"""The TypeScript client of an app: interfaces and functions without imports, clean under `tsc --strict`."""

from __future__ import annotations

import json

from scapp.reducers.codegen.names import type_names
from scapp.reducers.manifest import Column, Manifest, Message, Table

_TYPES = {
    "bool": "boolean", "int2": "number", "int4": "number", "int8": "bigint", "numeric": "bigint", "float8": "number",
    "text": "string", "bytea": "Hex", "bytes32": "Hex", "address": "Hex", "uuid": "string", "timestamptz": "string",
    "json": "unknown",
}  # fmt: skip
_READERS = {
    "bool": "asBoolean", "int2": "asNumber", "int4": "asNumber", "int8": "asBigInt", "numeric": "asBigInt",
    "float8": "asNumber", "text": "asText", "bytea": "asHex", "bytes32": "asHex", "address": "asHex", "uuid": "asText",
    "timestamptz": "asText", "json": "value",
}  # fmt: skip
_FIELD_TYPES = {
    "bool": "boolean", "int": "number | bigint", "float": "number", "text": "string", "bytes": "Hex | Uint8Array",
    "array": "readonly unknown[]", "map": "Readonly<Record<string, unknown>>", "any": "unknown",
}  # fmt: skip
_HEAD = """
export type Hex = `0x${string}`;

/** Column names to values, as the node shows them. */
export type RowObject = Readonly<Record<string, unknown>>;

/** A row is not one of this app's; the text names the column. */
export class DecodeError extends Error {}

function value(row: RowObject, column: string): unknown {
  if (!Object.prototype.hasOwnProperty.call(row, column)) {
    throw new DecodeError(`the row has no column ${column}; it has ${Object.keys(row).join(", ")}`);
  }
  return row[column];
}

function wrong(row: RowObject, column: string, expected: string): DecodeError {
  return new DecodeError(`${column} is ${String(row[column])}; ${expected} is expected`);
}
"""
_HELPERS = {
    "asBoolean": """
function asBoolean(row: RowObject, column: string): boolean {
  const found = value(row, column);
  if (typeof found !== "boolean") throw wrong(row, column, "a boolean");
  return found;
}
""",
    "asNumber": """
function asNumber(row: RowObject, column: string): number {
  const found = value(row, column);
  if (typeof found === "number") return found;
  if (found === "NaN" || found === "Infinity" || found === "-Infinity") return Number(found);
  throw wrong(row, column, "a number");
}
""",
    "asBigInt": """
function asBigInt(row: RowObject, column: string): bigint {
  const found = value(row, column);
  if (typeof found === "bigint") return found;
  if (typeof found === "string" && /^-?[0-9]+$/.test(found)) return BigInt(found);
  // Beyond 2^53 a parser of JSON has rounded already: ask for `column::text`.
  if (typeof found === "number" && Number.isSafeInteger(found)) return BigInt(found);
  throw wrong(row, column, "a whole number that JSON did not round");
}
""",
    "asText": """
function asText(row: RowObject, column: string): string {
  const found = value(row, column);
  if (typeof found !== "string") throw wrong(row, column, "text");
  return found;
}
""",
    "asHex": """
function asHex(row: RowObject, column: string): Hex {
  const found = value(row, column);
  if (typeof found !== "string" || !/^0x([0-9a-f]{2})*$/i.test(found)) throw wrong(row, column, "0x and digits");
  return found as Hex;
}
""",
    "sendable": """
/** As the API takes it: bytes as %s, whole numbers beyond 2^53 as text. */
function sendable(given: unknown): unknown {
  if (given instanceof Uint8Array) {
    const digits = Array.from(given, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return %s;
  }
  if (typeof given === "bigint") {
    const number = Number(given);
    return Number.isSafeInteger(number) ? number : given.toString();
  }
  if (Array.isArray(given)) return given.map(sendable);
  if (typeof given === "object" && given !== null) {
    return Object.fromEntries(Object.entries(given).map(([key, item]) => [key, sendable(item)]));
  }
  return given;
}
""",
    "bytesOf": """
function bytesOf(given: Hex | Uint8Array): Uint8Array {
  if (given instanceof Uint8Array) return given;
  if (!/^0x([0-9a-f]{2})*$/i.test(given)) throw new RangeError(`${given} is not 0x and pairs of digits`);
  return Uint8Array.from(given.slice(2).match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
""",
}


def typescript_client(manifest: Manifest, reducer: str) -> str:
    """One module; `reducer` is the hash of the reducer's bytes, `0x…`."""
    messages = () if manifest.encoding == "raw" else manifest.messages
    tables = type_names(table.name for table in manifest.tables)
    words = type_names(message.name for message in messages)
    body = [_table(table, tables[table.name]) for table in manifest.tables]
    body += [_message(message, words[message.name]) for message in messages]
    text = "\n".join(body)
    hex_form = (
        ('`{"$hex": …}`', "{ $hex: `0x${digits}` }") if manifest.encoding == "msgpack" else ("`0x…`", "`0x${digits}`")
    )
    helpers = [code % hex_form if name == "sendable" else code for name, code in _HELPERS.items() if f"{name}(" in text]
    constants = {"APP": manifest.name, "VERSION": manifest.version, "REDUCER": reducer}
    head = (
        f"// Typed client of the app {manifest.name} {manifest.version}. Generated by `scapp codegen`; do not edit.\n\n"
    )
    head += "".join(f"export const {name} = {_quoted(text)};\n" for name, text in constants.items())
    return "\n".join(section.strip("\n") + "\n" for section in (head, _HEAD, *body, *helpers))


def _table(table: Table, word: str) -> str:
    decoded = "".join(f"    {c.name}: {_decoded(c)},\n" for c in table.columns)
    of_row = ", ".join(f"{c.name}: row.{c.name}" for c in table.key_columns)
    shown = ", ".join(_shown(c) for c in table.key_columns)
    return f"""
/** Primary key of table {table.name}. */
export interface {word}Key {{
{_properties(table.key_columns)}}}

/** Row of table {table.name}. */
export interface {word}Row {{
{_properties(table.columns)}}}

/** From column names to values as the node shows them. Throws DecodeError. */
export function decode{word}(row: RowObject): {word}Row {{
  return {{
{decoded}  }};
}}

export function keyOf{word}(row: {word}Row): {word}Key {{
  return {{ {of_row} }};
}}

/** As the node takes a key, for instance for a proof. */
export function valuesOf{word}Key(key: {word}Key): unknown[] {{
  return [{shown}];
}}
"""


def _properties(columns: tuple[Column, ...]) -> str:
    return "".join(f"  readonly {c.name}: {_TYPES[c.type]}{' | null' * c.nullable};\n" for c in columns)


def _decoded(column: Column) -> str:
    call = f"{_READERS[column.type]}(row, {_quoted(column.name)})"
    if not column.nullable or column.type == "json":
        return call
    return f"value(row, {_quoted(column.name)}) === null ? null : {call}"


def _shown(column: Column) -> str:
    """Key values that JSON could round go as text."""
    return f"key.{column.name}.toString()" if _TYPES[column.type] == "bigint" else f"key.{column.name}"


def _message(message: Message, word: str) -> str:
    text = " ".join(f"Message {message.name}, to be sent. {message.description}".replace("*/", "* /").split())
    given = "; ".join(f"{f.name}: {_FIELD_TYPES[f.type]}" for f in message.fields)
    body = ", ".join(f"{f.name}: {_sent(f.name, f.type)}" for f in message.fields)
    return f"""
/** {text} */
export function make{word}({f"fields: {{ {given} }}" if given else ""}): unknown {{
  return {{ {message.name}: {f"{{ {body} }}" if body else "{}"} }};
}}
"""


def _sent(name: str, type_: str) -> str:
    return f"sendable(bytesOf(fields.{name}))" if type_ == "bytes" else f"sendable(fields.{name})"


def _quoted(text: str) -> str:
    return json.dumps(text)
