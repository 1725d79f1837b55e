//! The probes of reducers/zig/conformance.zig in Rust: every import of `scapp_1` with values of the sender's choosing.
//! Not an app. Built to tests/golden/conformance-rust.wasm.
#![no_std]

use scapp::{
    app, emit, fields, log, messages, names, raw, reject, table, text, Address, Bytes, Bytes32, Context, Json, Kind, Level,
    Opening, Pack, Result, Scan, Text, Timestamp, Uuid, U256,
};

names! { enum Colour { Red = "red", Green = "green", Blue = "blue" } }
names! { enum Loudness { Err = "err", Warn = "warn", Info = "info", Debug = "debug" } }
names! {
    enum Import {
        Get = "get", Put = "put", Delete = "delete", Scan = "scan", Next = "next", Emit = "emit",
        SetOutcome = "set_outcome", Keccak256 = "keccak256",
    }
}

table! {
    /// One column of each type.
    struct Every = "every" {
        key { id: i64 }
        flag: bool,
        small: i16,
        medium: i32,
        amount: U256,
        word: u64,
        ratio: f64,
        title: Text,
        blob: Bytes,
        hash: Bytes32,
        owner: Address,
        uid: Uuid,
        at: Timestamp,
        doc: Json,
        colour: Colour,
        note: Option<Text>,
    }
    index EveryByTitle = "every_by_title" { title: Text, id: i64 }
    unique index EveryByNote = "every_by_note" { note: Option<Text> }
}

table! {
    struct Pair = "pair" history {
        key { left: i32, right: Text }
        value: i32,
    }
    index PairByValue = "pair_by_value" { value: i32 }
}

table! {
    /// What probes found out, one row per message.
    struct Found = "result" {
        key { sequence: i64 }
        text: Text,
    }
}

fields! { struct Params { greeting: Text = "hello" } }
fields! { struct Item { left: i32, right: Text, value: i32 } }

messages! {
    enum Message {
        Every("every") {
            id: i64, flag: bool, small: i16, medium: i32, amount: U256, word: u64, ratio: f64, title: Text, blob: Bytes,
            hash: Bytes32, owner: Address, uid: Uuid, at: Timestamp, doc: Json, colour: Colour, note: Option<Text>,
        },
        Copy("copy") { from: i64, to: i64 },
        Remove("remove") { id: i64 },
        PutPairs("put_pairs") { pairs: &'static [Item] },
        ScanPairs("scan_pairs") {
            left: Option<i32>, from: Option<i32>, to: Option<i32>, inclusive: bool = false, backwards: bool = false,
        },
        ScanValues("scan_values") { from: i32, to: i32, backwards: bool = false },
        ScanWhileDeleting("scan_while_deleting"),
        Pay("pay") { amounts: &'static [U256] },
        HashBoth("hash_both") { data: Bytes },
        Hide("hide") { salt: Bytes32, round: u64, value: Bytes },
        Speak("speak") { level: Loudness, text: Text },
        Announce("announce") { topic: Text, data: Bytes },
        AnnounceValues("announce_values") { a: i64, b: U256, c: Option<bool>, d: Text },
        RefuseButAccept("refuse_but_accept") { reason: Text },
        Move("move") { x: i32, y: i32 },
        Context("context"),
        Overflow("overflow") { by: i32 },
        Recurse("recurse") { depth: u32 },
        Devour("devour") { bytes: u32 },
        /// Calls an import with raw numbers: bad tables, pointers and lengths.
        Raw("raw") { import: Import, table: u32, ptr: u32, len: u32 },
    }
}

fn open(ctx: &Context, opening: Opening<Params>) -> Result {
    if opening.params.greeting.is_empty() {
        return reject!("greeting is empty");
    }
    let (participants, slots) = (opening.participants.len(), opening.slots.len());
    note(ctx, text!("{} {} participants {} slots", opening.params.greeting, participants, slots))
}

fn message(ctx: &Context, message: Message) -> Result {
    match message {
        Message::Every {
            id, flag, small, medium, amount, word, ratio, title, blob, hash, owner, uid, at, doc, colour, note,
        } => {
            Every { id, flag, small, medium, amount, word, ratio, title, blob, hash, owner, uid, at, doc, colour, note }.put();
            Ok(())
        }
        Message::Copy { from, to } => match Every::get(from) {
            None => reject!("no row {}", from),
            Some(row) => note(ctx, text!("replaced {}", Every { id: to, note: None, ..row }.put())),
        },
        Message::Remove { id } => note(ctx, text!("existed {}", Every::delete(id))),
        Message::PutPairs { pairs } => {
            for pair in pairs {
                Pair { left: pair.left, right: pair.right, value: pair.value }.put();
            }
            Ok(())
        }
        Message::ScanPairs { left, from, to, inclusive, backwards } => {
            let mut scan = Pair::scan();
            if let Some(left) = left {
                scan = scan.prefix((left,));
            }
            if let Some(from) = from {
                scan = scan.from((from,));
            }
            if let Some(to) = to {
                scan = if inclusive { scan.to_inclusive((to,)) } else { scan.to((to,)) };
            }
            list(ctx, turned(scan, backwards))
        }
        Message::ScanValues { from, to, backwards } => {
            list(ctx, turned(PairByValue::scan().from((from,)).to((to,)), backwards))
        }
        Message::ScanWhileDeleting => {
            for row in Pair::scan() {
                Pair::delete(row.left, row.right);
                Pair::delete(row.left + 1, row.right);
            }
            Ok(())
        }
        Message::Pay { amounts } => {
            scapp::set_outcome(amounts);
            Ok(())
        }
        Message::HashBoth { data } => note(ctx, text!("{} {}", scapp::keccak256(data.0), scapp::sha256(data.0))),
        Message::Hide { salt, round, value } => note(ctx, text!("{}", scapp::commitment(ctx, &salt, round, value.0))),
        Message::Speak { level, text } => {
            let level = match level {
                Loudness::Err => Level::Error,
                Loudness::Warn => Level::Warning,
                Loudness::Info => Level::Info,
                Loudness::Debug => Level::Debug,
            };
            log!(level, "{}", text);
            Ok(())
        }
        Message::Announce { topic, data } => {
            scapp::emit_raw(topic, data.0);
            Ok(())
        }
        Message::AnnounceValues { a, b, c, d } => {
            let list: [&dyn Pack; 2] = [&a, &d];
            emit!("values", { a: a, b: b, c: c, d: d, list: &list[..] });
            Ok(())
        }
        Message::RefuseButAccept { reason } => {
            let _: Result = reject!("{}", reason);
            Ok(())
        }
        Message::Move { x, y } => note(ctx, text!("{} {}", x, y)),
        Message::Context => describe(ctx),
        Message::Overflow { by } => note(ctx, text!("{}", i32::MAX + by)),
        Message::Recurse { depth } => note(ctx, text!("{}", deep(depth, &[depth + 1; 16]))),
        Message::Devour { bytes } => note(ctx, text!("{}", scapp::internal::alloc(bytes as usize).len())),
        Message::Raw { import, table, ptr, len } => {
            call(import, table, ptr, len);
            Ok(())
        }
    }
}

fn turned<T: scapp::Listed, Columns>(scan: Scan<T, Columns>, backwards: bool) -> Scan<T, Columns> {
    if backwards { scan.backwards() } else { scan }
}

fn list<Columns>(ctx: &Context, scan: Scan<Pair, Columns>) -> Result {
    let mut found = "";
    for row in scan {
        found = text!("{}{}{}={} ", found, row.left, row.right, row.value);
    }
    note(ctx, found)
}

fn tick(ctx: &Context) -> Result {
    describe(ctx)
}

fn describe(ctx: &Context) -> Result {
    let kind = if ctx.kind == Kind::Tick { "tick" } else { "message" };
    note(ctx, text!("{} {} {} {} {} {}", kind, ctx.author, ctx.address, ctx.channel_id, ctx.sequence, ctx.time_ms))
}

fn note(ctx: &Context, text: Text) -> Result {
    Found { sequence: ctx.sequence as i64, text }.put();
    Ok(())
}

/// Each level keeps 64 bytes of stack in use, because the level below reads them.
#[inline(never)]
fn deep(depth: u32, above: &[u32; 16]) -> u32 {
    let mut frame = [0; 16];
    for word in frame.iter_mut() {
        unsafe { core::ptr::write_volatile(word, depth) }
    }
    if depth == 0 {
        return above[3] - 1;
    }
    1 + deep(depth - 1, &frame) + above[7] - depth - 1
}

fn call(import: Import, table: u32, ptr: u32, len: u32) {
    let start = ptr as *mut u8;
    unsafe {
        match import {
            Import::Get => drop(raw::get(table, start, len, start, 0)),
            Import::Put => drop(raw::put(table, start, len)),
            Import::Delete => drop(raw::delete(table, start, len)),
            Import::Scan => drop(raw::scan(table, start, len, start, 0, ptr)),
            Import::Next => drop(raw::next(table, start, len)),
            Import::Emit => raw::emit(start, len, start, len),
            Import::SetOutcome => raw::set_outcome(start, len),
            Import::Keccak256 => raw::keccak256(start, len, start),
        }
    }
}

app! {
    name: "conformance", version: "1.0.0",
    tables: [Every, Pair, Found],
    params: Params, messages: Message,
    open: open, message: message, tick: tick,
}
