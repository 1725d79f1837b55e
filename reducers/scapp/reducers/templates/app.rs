//! NAME: anybody adds points to a name, up to a limit agreed when the channel opens. Start from here.
#![no_std]
#![forbid(unsafe_code)]

use scapp::{app, emit, fields, messages, reject, table, Address, Context, Opening, Result, Text};

table! {
    struct Score = "score" {
        key { who: Text }
        points: i64,
        last_by: Address,
    }
}

table! {
    struct Rule = "rule" {
        key { id: i16 }
        most: i64,
    }
}

fields! { struct Params { most: i64 = 10 } }

messages! {
    enum Message {
        Add("add") { who: Text, points: i64 = 1 },
        Clear("clear") { who: Text },
    }
}

fn open(_: &Context, opening: Opening<Params>) -> Result {
    Rule { id: 1, most: opening.params.most }.put();
    Ok(())
}

fn message(ctx: &Context, message: Message) -> Result {
    match message {
        Message::Add { who, points } => add(ctx, who, points),
        Message::Clear { who } if !Score::delete(who) => reject!("nobody is called '{}'", who),
        Message::Clear { .. } => Ok(()),
    }
}

fn add(ctx: &Context, who: Text, points: i64) -> Result {
    let most = Rule::get(1).map_or(0, |rule| rule.most);
    if points < 1 || points > most {
        return reject!("points is {}: allowed are 1 to {}", points, most);
    }
    let before = Score::get(who).map_or(0, |score| score.points);
    Score { who, points: before + points, last_by: ctx.address }.put();
    emit!("added", { who: who, points: points });
    Ok(())
}

app! {
    name: "NAME", version: "0.1.0",
    tables: [Score, Rule],
    params: Params, messages: Message,
    open: open, message: message,
}
