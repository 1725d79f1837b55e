//! An order book for one pair of assets: limit orders, matched by price, then by time. Params: {"lot": amount of base in
//! one lot, "balances": [[owner, base, quote], …]}; a price is in units of quote for one lot, a quantity in lots, so
//! nothing is ever rounded.
//!
//! Money. With 2 slots for each participant (first all base slots in seat order, then all quote slots) the slots are the
//! balances and the outcome follows every trade: each owner is paid what it owns, open orders included, because an order
//! locks funds but moves none. Without slots `balances` are the start. A trade moves both assets in one message.
#![no_std]
#![forbid(unsafe_code)]

use scapp::{app, emit, fields, messages, names, reject, table, Address, Context, Opening, Result, Slot, Timestamp, U256};

const FILLS_MAX: i16 = 50;
const ORDERS_MAX: i64 = 200;

names! { enum Side { Buy = "buy", Sell = "sell" } }

table! {
    struct Market = "market" {
        key { id: i16 }
        base: Address,
        quote: Address,
        lot: U256,
        funded: bool,
        last_price: Option<U256>,
    }
}

table! {
    /// What somebody owns; `…_locked` of it stands in open orders.
    struct Account = "account" {
        key { owner: Address }
        seat: Option<i16>,
        base: U256,
        base_locked: U256,
        quote: U256,
        quote_locked: U256,
        orders: i64,
    }
    index AccountBySeat = "account_by_seat" { seat: Option<i16> }
}

table! {
    /// An open order; `id` is the sequence of the message that placed it. `rank` sorts the best price first: the price
    /// of a sell order, 2^256-1 less the price of a buy order.
    struct Order = "open_order" {
        key { id: i64 }
        owner: Address,
        side: Side,
        price: U256,
        quantity: U256,
        rank: U256,
        at: Timestamp,
    }
    index OrderByRank = "open_order_by_rank" { side: Side, rank: U256, id: i64 }
    index OrderByOwner = "open_order_by_owner" { owner: Address, id: i64 }
}

table! {
    struct Trade = "trade" {
        key { sequence: i64, number: i16 }
        maker_order: i64,
        buyer: Address,
        seller: Address,
        price: U256,
        quantity: U256,
        at: Timestamp,
    }
    index TradeByBuyer = "trade_by_buyer" { buyer: Address, sequence: i64 }
    index TradeBySeller = "trade_by_seller" { seller: Address, sequence: i64 }
}

fields! { struct Balance { owner: Address, base: U256, quote: U256 } }
fields! { struct Params { lot: U256, balances: &'static [Balance] = &[] } }

messages! {
    enum Message {
        /// `rest`: what is not filled at once stays in the book; otherwise it is dropped.
        Place("place") { side: Side, price: U256, quantity: U256, rest: bool = true },
        Cancel("cancel") { id: i64 },
    }
}

fn open(_: &Context, opening: Opening<Params>) -> Result {
    let params = &opening.params;
    if params.lot.is_zero() {
        return reject!("lot is 0: at least 1 is needed");
    }
    let funded = !opening.slots.is_empty();
    if funded {
        open_funded(&opening)?;
    }
    let (mut base_sum, mut quote_sum) = (U256::ZERO, U256::ZERO);
    for item in params.balances {
        if Account::get(item.owner).is_some() {
            return reject!("{} has two opening balances", item.owner);
        }
        base_sum = sum(base_sum, item.base)?;
        quote_sum = sum(quote_sum, item.quote)?;
        account(item.owner, None, item.base, item.quote).put();
    }
    let (base, quote) = match opening.slots {
        [] => (Address::ZERO, Address::ZERO),
        slots => (slots[0].asset, slots[slots.len() / 2].asset),
    };
    Market { id: 1, base, quote, lot: params.lot, funded, last_price: None }.put();
    Ok(())
}

fn account(owner: Address, seat: Option<i16>, base: U256, quote: U256) -> Account {
    Account { owner, seat, base, base_locked: U256::ZERO, quote, quote_locked: U256::ZERO, orders: 0 }
}

/// A market that could not pay is refused before anybody deposits.
fn open_funded(opening: &Opening<Params>) -> Result {
    let (slots, seats) = (opening.slots, opening.participants.len());
    if !opening.params.balances.is_empty() {
        return reject!("the slots are the opening balances: leave balances out");
    }
    if slots.len() != 2 * seats {
        return reject!("{} outcome slots: {} are needed, base and quote for each seat", slots.len(), 2 * seats);
    }
    if slots[0].asset == slots[seats].asset {
        return reject!("base and quote are both {}", slots[0].asset);
    }
    let (mut base_sum, mut quote_sum) = (U256::ZERO, U256::ZERO);
    for (seat, owner) in opening.participants.iter().enumerate() {
        let (base, quote) = (&slots[seat], &slots[seats + seat]);
        check_slot(base, slots[0].asset, *owner, seat)?;
        check_slot(quote, slots[seats].asset, *owner, seats + seat)?;
        base_sum = sum(base_sum, base.amount)?;
        quote_sum = sum(quote_sum, quote.amount)?;
        account(*owner, Some(seat as i16), base.amount, quote.amount).put();
    }
    Ok(())
}

fn check_slot(slot: &Slot, asset: Address, owner: Address, number: usize) -> Result {
    if slot.asset != asset {
        return reject!("slot {} is in {}, not {}", number, slot.asset, asset);
    }
    if slot.payee() != Some(owner) {
        return reject!("slot {} must pay {}", number, owner);
    }
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    match message {
        Message::Place { side, price, quantity, rest } => place(ctx, side, price, quantity, rest),
        Message::Cancel { id } => cancel(ctx, id),
    }
}

fn place(ctx: &Context, side: Side, price: U256, quantity: U256, rest: bool) -> Result {
    if price.is_zero() || quantity.is_zero() {
        return reject!("price {} and quantity {}: at least 1 each is needed", price, quantity);
    }
    let mut market = Market::get(1).expect("the opening wrote the market's row");
    let mut taker = match Account::get(ctx.address) {
        Some(account) => account,
        None => return reject!("{} has no account here", ctx.address),
    };
    lock(&mut taker, &market, side, price, quantity)?;
    let left = fill(ctx, &mut market, &mut taker, side, price, quantity)?;
    if rest && !left.is_zero() {
        if taker.orders >= ORDERS_MAX {
            return reject!("{} open orders: cancel one first", taker.orders);
        }
        taker.orders += 1;
        let rank = if side == Side::Sell { price } else { U256::MAX - price };
        let (id, at) = (ctx.sequence as i64, Timestamp::from_ms(ctx.time_ms));
        Order { id, owner: ctx.address, side, price, quantity: left, rank, at }.put();
    } else {
        unlock(&mut taker, &market, side, price, left);
    }
    taker.put();
    market.put();
    settle(&market);
    Ok(())
}

/// Take the whole order's funds out of what its owner can still use. An order that could not be paid is refused.
fn lock(owner: &mut Account, market: &Market, side: Side, price: U256, quantity: U256) -> Result {
    let (what, needed, free) = match side {
        Side::Sell => ("base", quantity.checked_mul(market.lot), owner.base - owner.base_locked),
        Side::Buy => ("quote", quantity.checked_mul(price), owner.quote - owner.quote_locked),
    };
    match needed {
        Some(needed) if needed <= free => match side {
            Side::Sell => owner.base_locked += needed,
            Side::Buy => owner.quote_locked += needed,
        },
        _ => return reject!("{} lots at {} need more {} than the {} that are free", quantity, price, what, free),
    }
    Ok(())
}

/// Give back what `lock` took for so many lots.
fn unlock(owner: &mut Account, market: &Market, side: Side, price: U256, quantity: U256) {
    match side {
        Side::Sell => owner.base_locked -= quantity * market.lot,
        Side::Buy => owner.quote_locked -= quantity * price,
    }
}

/// Trade with the best orders of the other side, at their prices, as far as the limit goes. Lots that are left.
fn fill(
    ctx: &Context, market: &mut Market, taker: &mut Account, side: Side, limit: U256, quantity: U256,
) -> Result<U256> {
    let other = if side == Side::Buy { Side::Sell } else { Side::Buy };
    let (mut left, mut number) = (quantity, 0);
    for mut order in OrderByRank::scan().prefix((other,)) {
        let fits = if side == Side::Buy { order.price <= limit } else { order.price >= limit };
        if left.is_zero() || !fits {
            break;
        }
        if order.owner == taker.owner {
            return reject!("this would trade with your own order {}: cancel it first", order.id);
        }
        if number == FILLS_MAX {
            return reject!("more than {} orders would be filled: place a smaller one", FILLS_MAX);
        }
        let lots = if order.quantity < left { order.quantity } else { left };
        let mut maker = Account::get(order.owner).expect("an order's owner has an account");
        unlock(&mut maker, market, other, order.price, lots);
        unlock(taker, market, side, limit, lots);
        let (base, quote) = (lots * market.lot, lots * order.price);
        let (buyer, seller) = if side == Side::Buy { (&mut *taker, &mut maker) } else { (&mut maker, &mut *taker) };
        seller.base -= base;
        buyer.base += base;
        buyer.quote -= quote;
        seller.quote += quote;
        Trade {
            sequence: ctx.sequence as i64, number, maker_order: order.id, buyer: buyer.owner, seller: seller.owner,
            price: order.price, quantity: lots, at: Timestamp::from_ms(ctx.time_ms),
        }.put();
        emit!("trade", { maker_order: order.id, buyer: buyer.owner, seller: seller.owner, price: order.price, quantity: lots });
        order.quantity -= lots;
        if order.quantity.is_zero() {
            Order::delete(order.id);
            maker.orders -= 1;
        } else {
            order.put();
        }
        maker.put();
        left -= lots;
        number += 1;
        market.last_price = Some(order.price);
    }
    Ok(left)
}

fn cancel(ctx: &Context, id: i64) -> Result {
    let market = Market::get(1).expect("the opening wrote the market's row");
    let order = match Order::get(id) {
        None => return reject!("there is no open order {}", id),
        Some(order) if order.owner != ctx.address => return reject!("order {} is not yours", id),
        Some(order) => order,
    };
    let mut owner = Account::get(ctx.address).expect("an order's owner has an account");
    unlock(&mut owner, &market, order.side, order.price, order.quantity);
    owner.orders -= 1;
    owner.put();
    Order::delete(id);
    Ok(())
}

/// Everybody is owed what it owns.
fn settle(market: &Market) {
    if !market.funded {
        return;
    }
    let (mut amounts, mut seats) = ([U256::ZERO; 512], 0);
    for account in AccountBySeat::scan() {
        amounts[seats] = account.base;
        amounts[256 + seats] = account.quote;
        seats += 1;
    }
    amounts.copy_within(256..256 + seats, seats);
    scapp::set_outcome(&amounts[..2 * seats]);
}

fn sum(a: U256, b: U256) -> Result<U256> {
    match a.checked_add(b) {
        Some(total) => Ok(total),
        None => reject!("{} and {} together exceed 2^256-1", a, b),
    }
}

app! {
    name: "orderbook", version: "1.0.0",
    tables: [Market, Account, Order, Trade],
    views: ["book" of Order { side, price, quantity }],
    params: Params, messages: Message,
    open: open, message: message,
}
