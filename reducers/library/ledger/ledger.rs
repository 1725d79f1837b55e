//! The token ledger of ledger.zig in Rust: same tables, same messages, same rows. The rules stand at the head of that file.
#![no_std]
#![forbid(unsafe_code)]

use scapp::{app, emit, fields, messages, reject, table, Address, Context, Opening, Result, Slot, Timestamp, U256};

table! {
    struct Account = "account" {
        key { owner: Address }
        balance: U256,
    }
    index AccountByBalance = "account_by_balance" { balance: U256 }
}

table! {
    /// One row for each change of a balance: `sender` None for a mint, `recipient` None for a burn.
    struct Transfer = "transfer" {
        key { sequence: i64 }
        sender: Option<Address>,
        recipient: Option<Address>,
        amount: U256,
        at: Timestamp,
    }
    index TransferBySender = "transfer_by_sender" { sender: Option<Address>, sequence: i64 }
    index TransferByRecipient = "transfer_by_recipient" { recipient: Option<Address>, sequence: i64 }
}

table! {
    /// The one row of what was agreed at the opening.
    struct Token = "token" {
        key { id: i16 }
        issuer: Option<Address>,
        supply: U256,
        backed: bool,
    }
}

table! {
    /// Who is paid by which slot, in slot order; only for a backed ledger.
    struct Payee = "payee" {
        key { slot: i16 }
        owner: Address,
    }
    unique index PayeeByOwner = "payee_by_owner" { owner: Address }
}

fields! { struct Balance { owner: Address, amount: U256 } }
fields! { struct Params { issuer: Option<Address>, balances: &'static [Balance] = &[] } }

messages! {
    enum Message {
        Transfer("transfer") { to: Address, amount: U256 },
        Mint("mint") { to: Address, amount: U256 },
        Burn("burn") { amount: U256 },
    }
}

fn open(_: &Context, opening: Opening<Params>) -> Result {
    let params = &opening.params;
    let mut supply = U256::ZERO;
    for item in params.balances {
        if Account::get(item.owner).is_some() {
            return reject!("{} has two opening balances", item.owner);
        }
        supply = sum(supply, item.amount)?;
        Account { owner: item.owner, balance: item.amount }.put();
    }
    let backed = is_backed(&opening);
    if backed && params.issuer.is_some() {
        return reject!("a ledger backed by a deposit cannot have an issuer");
    }
    for (index, slot) in opening.slots.iter().enumerate().filter(|_| backed) {
        let owner = slot.payee().unwrap_or(Address::ZERO);
        if params.balances.is_empty() {
            supply = sum(supply, slot.amount)?;
            Account { owner, balance: slot.amount }.put();
        }
        Payee { slot: index as i16, owner }.put();
    }
    Token { id: 1, issuer: params.issuer, supply, backed }.put();
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    match message {
        Message::Transfer { to, amount } => transfer(ctx, to, amount),
        Message::Mint { to, amount } => mint(ctx, to, amount),
        Message::Burn { amount } => burn(ctx, amount),
    }
}

fn token() -> Token {
    Token::get(1).expect("the opening wrote the token's row")
}

fn transfer(ctx: &Context, to: Address, amount: U256) -> Result {
    if to == ctx.address {
        return reject!("sender and recipient are both {}", to);
    }
    positive(amount)?;
    let backed = token().backed;
    if backed && Account::get(to).is_none() {
        return reject!("{} has no outcome slot: a backed ledger pays participants only", to);
    }
    withdraw(ctx.address, amount)?;
    deposit(to, amount)?;
    record(ctx, "transfer", Some(ctx.address), Some(to), amount);
    if backed {
        settle();
    }
    Ok(())
}

fn mint(ctx: &Context, to: Address, amount: U256) -> Result {
    let mut token = token();
    match token.issuer {
        None => return reject!("this ledger has no issuer, so nobody can mint"),
        Some(issuer) if issuer != ctx.address => return reject!("only the issuer {} can mint, not {}", issuer, ctx.address),
        Some(_) => positive(amount)?,
    }
    token.supply = sum(token.supply, amount)?;
    deposit(to, amount)?;
    token.put();
    record(ctx, "mint", None, Some(to), amount);
    Ok(())
}

fn burn(ctx: &Context, amount: U256) -> Result {
    let mut token = token();
    if token.backed {
        return reject!("a ledger backed by a deposit cannot burn");
    }
    positive(amount)?;
    withdraw(ctx.address, amount)?;
    token.supply -= amount;
    token.put();
    record(ctx, "burn", Some(ctx.address), None, amount);
    Ok(())
}

fn balance_of(owner: Address) -> U256 {
    Account::get(owner).map_or(U256::ZERO, |account| account.balance)
}

fn withdraw(owner: Address, amount: U256) -> Result {
    let balance = balance_of(owner);
    match balance.checked_sub(amount) {
        None => reject!("balance of {} is {}, {} are needed", owner, balance, amount),
        Some(balance) => {
            Account { owner, balance }.put();
            Ok(())
        }
    }
}

fn deposit(owner: Address, amount: U256) -> Result {
    Account { owner, balance: sum(balance_of(owner), amount)? }.put();
    Ok(())
}

fn record(ctx: &Context, topic: &str, sender: Option<Address>, recipient: Option<Address>, amount: U256) {
    Transfer { sequence: ctx.sequence as i64, sender, recipient, amount, at: Timestamp::from_ms(ctx.time_ms) }.put();
    emit!(topic, { sender: sender, recipient: recipient, amount: amount });
}

/// The outcome of a backed ledger: each slot pays its owner's balance.
fn settle() {
    let (mut amounts, mut count) = ([U256::ZERO; 255], 0);
    for payee in Payee::scan() {
        amounts[count] = balance_of(payee.owner);
        count += 1;
    }
    scapp::set_outcome(&amounts[..count]);
}

/// One asset, one slot for each participant and none for anybody else, and balances that say the same as the slots.
fn is_backed(opening: &Opening<Params>) -> bool {
    let (slots, balances) = (opening.slots, opening.params.balances.len());
    if slots.is_empty() || slots.len() != opening.participants.len() || slots.len() > 255 {
        return false;
    }
    let fits = |(index, slot): (usize, &Slot)| match slot.payee() {
        None => false,
        Some(owner) => {
            slot.asset == slots[0].asset
                && opening.participants.contains(&owner)
                && slots[..index].iter().all(|earlier| earlier.destination != slot.destination)
                && (balances == 0 || Account::get(owner).map(|account| account.balance) == Some(slot.amount))
        }
    };
    slots.iter().enumerate().all(fits) && (balances == 0 || balances == slots.len())
}

fn positive(amount: U256) -> Result {
    if amount.is_zero() {
        return reject!("amount is 0: at least 1 is needed");
    }
    Ok(())
}

fn sum(a: U256, b: U256) -> Result<U256> {
    match a.checked_add(b) {
        Some(total) => Ok(total),
        None => reject!("{} and {} together exceed 2^256-1", a, b),
    }
}

app! {
    name: "ledger", version: "1.0.0",
    tables: [Account, Transfer, Token, Payee],
    views: ["holder" of Account { owner, balance }],
    params: Params, messages: Message,
    open: open, message: message,
}
