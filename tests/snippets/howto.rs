//! The Rust of docs/howto in one reducer, so that a compiler has seen it.
#![no_std]
#![forbid(unsafe_code)]

use scapp::{app, messages, reject, table, Address, Context, NoParams, Opening, Result, Text, U256};

table! { struct Account = "account" history { key { owner: Address } balance: U256 } }
table! {
    struct Offer = "offer" { key { id: i64 } side: Text, price: U256 }
    index ByPrice = "by_price" { side: Text, price: U256 }
}

messages! { enum Message { Buy("buy") { most: U256 } } }

fn open(_: &Context, _: Opening<NoParams>) -> Result {
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    let Message::Buy { most } = message;
    match ByPrice::scan().prefix(("sell",)).first() {
        Some(best) if best.price <= most => {
            Account { owner: ctx.address, balance: best.price }.put();
            Ok(())
        }
        _ => reject!("no offer up to {}", most),
    }
}

app! {
    name: "howto", version: "1.0.0",
    tables: [Account, Offer],
    params: NoParams, messages: Message,
    open: open, message: message,
}
