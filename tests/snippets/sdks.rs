//! The Rust of docs/reference/sdks.md in one reducer, so that a compiler has seen it.
#![no_std]
#![forbid(unsafe_code)]

use scapp::{
    app, commitment, emit, emit_raw, fields, keccak256, log, messages, names, reject, set_outcome, sha256, table, text, Address, Bytes,
    Bytes32, Context, Json, Level, Opening, Result, Text, Timestamp, Uuid, U256,
};

names! { enum Colour { Red = "red" } }
fields! { struct Item { x: i32 } }
fields! { struct Params { most: i64 = 10 } }
messages! { enum Message { Add("add") { who: Text, points: i64 = 1 } } }

table! {
    struct Holding = "holding" { key { owner: Address } balance: U256, items: i64 }
    index ByBalance = "by_balance" { balance: U256 }
    unique index ByItems = "by_items" { items: i64 }
}
table! { struct Account = "account" { key { owner: Address } balance: U256 } }
table! {
    struct Pair = "pair" { key { left: i32, right: Text } value: i32 }
    index ByValue = "by_value" { value: i32 }
}
table! {
    struct Every = "every" {
        key { id: i16 }
        flag: bool, word: u64, ratio: f64, colour: Colour, blob: Bytes, doc: Json, hash: Bytes32, uid: Uuid, at: Timestamp,
        note: Option<Text>,
    }
}

fn open(_: &Context, opening: Opening<Params>) -> Result {
    let amounts = [U256::from(1u64), U256::from(2u64)];
    let x = opening.slots.len();
    if x != amounts.len() {
        return reject!("{}", x);
    }
    set_outcome(&amounts);
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    let Message::Add { who, points } = message;
    check(who)?;
    let o = ctx.address;
    let before = Account::get(o).map_or(U256::ZERO, |account| account.balance);
    let x = match before.checked_add(U256::from(points as u64)) {
        Some(sum) => (sum * sum - sum) / sum % sum + sum,
        None => return reject!("{} is the most", before),
    };
    Account { owner: o, balance: x }.put();
    if x.is_zero() {
        Account::delete(o);
    }
    emit!("t", { a: x });
    emit_raw("raw", who.as_bytes());
    log!(Level::Info, "{} has {}", o, x);
    scan(who, &[Item { x: 1 }]);
    Ok(())
}

fn check(who: Text) -> Result {
    if who.is_empty() { reject!("{}", who) } else { Ok(()) }
}

fn scan(x: Text, items: &'static [Item]) {
    let mut sum: i32 = items.iter().map(|item| item.x).sum();
    let right = x;
    let x = right.len() as i32;
    for row in Pair::scan().prefix((x,)) {
        sum += row.value;
    }
    for row in ByValue::scan() {
        sum -= row.value;
    }
    if let Some(row) = Pair::scan().first() {
        Pair { left: row.left, right: text!("{} {}", right, sum), value: row.value }.put();
    }
}

fn tick(ctx: &Context) -> Result {
    match Every::get(1) {
        None => reject!("{}", ctx.time_ms),
        Some(row) => {
            let hash = commitment(ctx, &keccak256(row.blob.0), 0, &sha256(row.blob.0).0);
            Every { hash, note: None, ..row }.put();
            Ok(())
        }
    }
}

app! {
    name: "name", version: "1.0.0",
    tables: [Holding, Account, Pair, Every],
    views: ["holder" of Account { owner }],
    params: Params, messages: Message,
    open: open, message: message, tick: tick,
}
