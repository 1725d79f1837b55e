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

table! {
    /// The one row of a backed ledger that may grow: by how much, and what its depositor has not claimed yet.
    struct Room = "room" {
        key { id: i16 }
        headroom: U256,
        pending: U256,
        depositor: Option<Address>,
    }
}

fields! { struct Balance { owner: Address, amount: U256 } }
fields! { struct Params { issuer: Option<Address>, balances: &'static [Balance] = &[] } }

messages! {
    enum Message {
        Transfer("transfer") { to: Address, amount: U256 },
        Mint("mint") { to: Address, amount: U256 },
        Burn("burn") { amount: U256 },
        TopUp("top_up") { amount: U256 },
        Claim("claim") { amount: U256 },
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
    let (count, named) = (opening.participants.len(), pays_participants(&opening));
    for (index, slot) in opening.slots.iter().enumerate().take(count).filter(|_| backed) {
        let owner = owner_of(&opening, index, named);
        if params.balances.is_empty() {
            supply = sum(supply, slot.amount)?;
            Account { owner, balance: slot.amount }.put();
        }
        Payee { slot: index as i16, owner }.put();
    }
    if backed && opening.slots.len() > count {
        Room { id: 1, headroom: opening.slots[2 * count].amount, pending: U256::ZERO, depositor: None }.put();
    }
    Token { id: 1, issuer: params.issuer, supply, backed }.put();
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    match message {
        Message::Transfer { to, amount } => transfer(ctx, to, amount),
        Message::Mint { to, amount } => mint(ctx, to, amount),
        Message::Burn { amount } => burn(ctx, amount),
        Message::TopUp { amount } => top_up(ctx, amount),
        Message::Claim { amount } => claim(ctx, amount),
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

fn room() -> Result<Room> {
    match Room::get(1) {
        Some(room) => Ok(room),
        None => reject!("this ledger has no room for top-ups"),
    }
}

fn top_up(ctx: &Context, amount: U256) -> Result {
    positive(amount)?;
    let mut room = room()?;
    if !room.pending.is_zero() {
        return reject!("a top-up of {} is not claimed yet", room.pending);
    }
    match room.headroom.checked_sub(amount) {
        None => return reject!("headroom is {}, {} are needed", room.headroom, amount),
        Some(left) => room.headroom = left,
    }
    room.pending = amount;
    room.depositor = Some(ctx.address);
    room.put();
    settle();
    Ok(())
}

fn claim(ctx: &Context, amount: U256) -> Result {
    positive(amount)?;
    let mut room = room()?;
    match room.pending.checked_sub(amount) {
        None => return reject!("the top-up to claim is {}, {} are needed", room.pending, amount),
        Some(left) => room.pending = left,
    }
    room.put();
    let mut token = token();
    token.supply = sum(token.supply, amount)?;
    token.put();
    let depositor = room.depositor.expect("what is pending has a depositor");
    deposit(depositor, amount)?;
    record(ctx, "top_up", None, Some(depositor), amount);
    settle();
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

/// The outcome of a backed ledger: each slot pays its owner's balance, then what is not claimed, then the headroom.
fn settle() {
    let (mut amounts, mut count, mut depositor) = ([U256::ZERO; 256], 0, 0);
    let room = Room::get(1);
    let owner = room.as_ref().and_then(|room| room.depositor);
    for payee in Payee::scan() {
        amounts[count] = balance_of(payee.owner);
        if owner == Some(payee.owner) {
            depositor = count;
        }
        count += 1;
    }
    if let Some(room) = room {
        amounts[count + depositor] = room.pending;
        amounts[2 * count] = room.headroom;
        count = 2 * count + 1;
    }
    scapp::set_outcome(&amounts[..count]);
}

/// One asset, one slot for each participant and none for anybody else but room, and balances that say the same.
fn is_backed(opening: &Opening<Params>) -> bool {
    let (slots, balances, count) = (opening.slots, opening.params.balances.len(), opening.participants.len());
    if slots.is_empty() || slots.len() > 256 || (slots.len() != count && !is_room(opening)) {
        return false;
    }
    let named = pays_participants(opening);
    let says_the_same = |index: usize| {
        let owner = owner_of(opening, index, named);
        Account::get(owner).map(|account| account.balance) == Some(slots[index].amount)
    };
    slots.iter().all(|slot: &Slot| slot.payee().is_some() && slot.asset == slots[0].asset)
        && (balances == 0 || (balances == count && (0..count).all(says_the_same)))
}

/// Are the slots after the participants' room for top-ups?
fn is_room(opening: &Opening<Params>) -> bool {
    let (slots, count) = (opening.slots, opening.participants.len());
    slots.len() == 2 * count + 1
        && !slots[2 * count].amount.is_zero()
        && slots[..count]
            .iter()
            .zip(&slots[count..])
            .all(|(first, reserve)| reserve.amount.is_zero() && reserve.destination == first.destination)
        && slots[2 * count].destination == slots[0].destination
}

/// Is there a slot for each participant, and does each pay another one?
fn pays_participants(opening: &Opening<Params>) -> bool {
    let slots = opening.slots;
    let pays = |(index, slot): (usize, &Slot)| {
        slot.payee().map_or(false, |owner| opening.participants.contains(&owner))
            && slots[..index].iter().all(|earlier| earlier.destination != slot.destination)
    };
    slots.len() == opening.participants.len() && slots.iter().enumerate().all(pays)
}

fn owner_of(opening: &Opening<Params>, index: usize, named: bool) -> Address {
    let paid = if named { opening.slots[index].payee() } else { None };
    paid.unwrap_or(opening.participants[index])
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
    name: "ledger", version: "1.1.0",
    tables: [Account, Transfer, Token, Payee, Room],
    views: ["holder" of Account { owner, balance }],
    params: Params, messages: Message,
    open: open, message: message,
}
