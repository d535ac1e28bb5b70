//! Commands on values.

use super::{Call, Refusal};
use crate::Memory;
use crate::number::{self, Decimal};
use crate::store::Expiry;

/// The unit and origin of a time that a command was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Time {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// What stands behind the value in `SET`.
struct SetOptions {
    condition: Condition,
    get: bool,
    keep_expiry: bool,
    /// Kind of time, and where its number stands.
    expiry: Option<(Time, usize)>,
}

impl SetOptions {
    fn parse<A: Memory>(call: &Call<'_, A>) -> Result<Self, Refusal> {
        let mut options = Self {
            condition: Condition::Always,
            get: false,
            keep_expiry: false,
            expiry: None,
        };
        let mut at = 3;
        while at < call.args() {
            let is = |word: &str| call.arg(at).eq_ignore_ascii_case(word.as_bytes());
            let time = [
                ("ex", Time::Seconds),
                ("px", Time::Milliseconds),
                ("exat", Time::UnixSeconds),
                ("pxat", Time::UnixMilliseconds),
            ]
            .into_iter()
            .find_map(|(word, time)| is(word).then_some(time));
            if let Some(time) = time {
                let other = options.expiry.is_some_and(|(earlier, _)| earlier != time);
                if options.keep_expiry || other || at + 1 == call.args() {
                    return Err(Refusal::Syntax);
                }
                options.expiry = Some((time, at + 1));
                at += 2;
                continue;
            }
            if is("nx") && options.condition != Condition::IfPresent {
                options.condition = Condition::IfAbsent;
            } else if is("xx") && options.condition != Condition::IfAbsent {
                options.condition = Condition::IfPresent;
            } else if is("get") {
                options.get = true;
            } else if is("keepttl") && options.expiry.is_none() {
                options.keep_expiry = true;
            } else {
                return Err(Refusal::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}

/// When something that was given in `time` expires. `command` is named in the refusal.
fn deadline<A: Memory>(
    call: &Call<'_, A>,
    time: Time,
    index: usize,
    command: &'static str,
) -> Result<Expiry, Refusal> {
    let given = call.integer_arg(index)?;
    if given <= 0 {
        return Err(Refusal::InvalidExpiry(command));
    }
    let at_ms = absolute_ms(given, time, call.now_ms).ok_or(Refusal::InvalidExpiry(command))?;
    Ok(Expiry::At(at_ms as u64))
}

/// The moment in milliseconds since 1970 that `given` means, if it can be written so.
pub(super) fn absolute_ms(given: i64, time: Time, now_ms: u64) -> Option<i64> {
    let ms = match time {
        Time::Seconds | Time::UnixSeconds => given.checked_mul(1000)?,
        Time::Milliseconds | Time::UnixMilliseconds => given,
    };
    match time {
        Time::Seconds | Time::Milliseconds => ms.checked_add(i64::try_from(now_ms).ok()?),
        Time::UnixSeconds | Time::UnixMilliseconds => Some(ms),
    }
}

/// Stores the argument at `index` under the key, which is the first argument.
fn store<A: Memory>(call: &mut Call<'_, A>, index: usize, expiry: Expiry) -> Result<(), Refusal> {
    let (key, value) = (call.arg(1), call.arg(index));
    let store = &mut call.database.store;
    if call.request.is_large(index) {
        let found = store.make_room(key, value.len(), expiry, call.now_ms)?;
        call.adoption = Some((found, index));
    } else {
        store.set(key, value, expiry, call.now_ms)?;
    }
    call.changed();
    Ok(())
}

pub(super) fn set<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let options = SetOptions::parse(call)?;
    let expiry = match options.expiry {
        Some((time, index)) => deadline(call, time, index, "set")?,
        None if options.keep_expiry => Expiry::Keep,
        None => Expiry::Never,
    };
    let key = call.arg(1);
    let found = if options.get {
        call.look_up(key)
    } else {
        call.find(key)
    };
    if options.get {
        call.reply_value(found)?;
    }
    let wanted = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => found.is_none(),
        Condition::IfPresent => found.is_some(),
    };
    if wanted {
        store(call, 2, expiry)?;
    }
    match (options.get, wanted) {
        (true, _) => {}
        (false, true) => call.reply.ok()?,
        (false, false) => call.reply.null()?,
    }
    Ok(())
}

pub(super) fn setnx<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let absent = call.find(call.arg(1)).is_none();
    if absent {
        store(call, 2, Expiry::Never)?;
    }
    Ok(call.reply.integer(i64::from(absent))?)
}

fn set_for<A: Memory>(call: &mut Call<'_, A>, time: Time, command: &'static str) -> Result<(), Refusal> {
    let expiry = deadline(call, time, 2, command)?;
    store(call, 3, expiry)?;
    Ok(call.reply.ok()?)
}

pub(super) fn setex<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    set_for(call, Time::Seconds, "setex")
}

pub(super) fn psetex<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    set_for(call, Time::Milliseconds, "psetex")
}

pub(super) fn get<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let found = call.look_up(call.arg(1));
    Ok(call.reply_value(found)?)
}

pub(super) fn getset<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    get(call)?;
    store(call, 2, Expiry::Never)
}

pub(super) fn getdel<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let found = call.look_up(call.arg(1));
    call.reply_value(found)?;
    if let Some(found) = found {
        call.database.store.remove(found);
        call.changed();
    }
    Ok(())
}

pub(super) fn mget<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    call.reply.array(call.args() - 1)?;
    for index in 1..call.args() {
        let found = call.look_up(call.arg(index));
        call.reply_value(found)?;
    }
    Ok(())
}

fn pairs<A: Memory>(call: &Call<'_, A>, command: &'static str) -> Result<usize, Refusal> {
    if call.args().is_multiple_of(2) {
        return Err(Refusal::WrongArity(command));
    }
    Ok(call.args() / 2)
}

fn store_pairs<A: Memory>(call: &mut Call<'_, A>, count: usize) -> Result<(), Refusal> {
    let request = call.request;
    let pairs = (0..count).map(|pair| (request.arg(2 * pair + 1), request.arg(2 * pair + 2)));
    call.database.store.set_all(pairs, call.now_ms)?;
    call.changed();
    Ok(())
}

pub(super) fn mset<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let count = pairs(call, "mset")?;
    store_pairs(call, count)?;
    Ok(call.reply.ok()?)
}

pub(super) fn msetnx<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let count = pairs(call, "msetnx")?;
    let all_absent = (0..count).all(|pair| call.find(call.arg(2 * pair + 1)).is_none());
    if all_absent {
        store_pairs(call, count)?;
    }
    Ok(call.reply.integer(i64::from(all_absent))?)
}

fn add<A: Memory>(call: &mut Call<'_, A>, amount: i64) -> Result<(), Refusal> {
    let key = call.arg(1);
    let before = match call.find(key) {
        Some(found) => number::parse(call.database.store.value(found)).ok_or(Refusal::NotAnInteger)?,
        None => 0,
    };
    let after = before.checked_add(amount).ok_or(Refusal::Overflow)?;
    let text = Decimal::new(after);
    call.database
        .store
        .set(key, text.as_bytes(), Expiry::Keep, call.now_ms)?;
    call.changed();
    Ok(call.reply.integer(after)?)
}

pub(super) fn incr<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    add(call, 1)
}

pub(super) fn decr<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    add(call, -1)
}

pub(super) fn incrby<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let amount = call.integer_arg(2)?;
    add(call, amount)
}

pub(super) fn decrby<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let amount = call.integer_arg(2)?;
    add(call, amount.checked_neg().ok_or(Refusal::DecrementOverflow)?)
}

pub(super) fn append<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let len = call
        .database
        .store
        .append(call.arg(1), call.arg(2), call.now_ms)?;
    call.changed();
    Ok(call.reply.count(len)?)
}

pub(super) fn strlen<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let found = call.look_up(call.arg(1));
    let len = found.map_or(0, |found| call.database.store.value(found).len());
    Ok(call.reply.count(len)?)
}
