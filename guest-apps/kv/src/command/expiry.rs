//! Commands on when keys expire.

use super::strings::{Time, absolute_ms};
use super::{Call, Refusal};
use crate::Memory;
use crate::store::Expiry;

/// When a new deadline is to replace an old one.
#[derive(Default)]
struct Conditions {
    /// Only if there is none.
    nx: bool,
    /// Only if there is one.
    xx: bool,
    /// Only if it is later.
    gt: bool,
    /// Only if it is earlier.
    lt: bool,
}

impl Conditions {
    fn parse<A: Memory>(call: &Call<'_, A>) -> Result<Self, Refusal> {
        let mut conditions = Self::default();
        for index in 3..call.args() {
            let option = call.arg(index);
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            *(if is("nx") {
                &mut conditions.nx
            } else if is("xx") {
                &mut conditions.xx
            } else if is("gt") {
                &mut conditions.gt
            } else if is("lt") {
                &mut conditions.lt
            } else {
                return Err(Refusal::UnsupportedOption(index));
            }) = true;
        }
        match conditions {
            Self { nx: true, xx, gt, lt } if xx || gt || lt => Err(Refusal::NxAndOthers),
            Self {
                gt: true, lt: true, ..
            } => Err(Refusal::GtAndLt),
            conditions => Ok(conditions),
        }
    }

    /// Whether `new_ms` may replace `old_ms`. Without a deadline a key lives for ever, which is later than any.
    fn allow(&self, old_ms: Option<u64>, new_ms: i64) -> bool {
        let old_ms = old_ms.map(|old_ms| i64::try_from(old_ms).unwrap_or(i64::MAX));
        !(self.nx && old_ms.is_some()
            || self.xx && old_ms.is_none()
            || self.gt && old_ms.is_none_or(|old_ms| new_ms <= old_ms)
            || self.lt && old_ms.is_some_and(|old_ms| new_ms >= old_ms))
    }
}

fn expire_at<A: Memory>(call: &mut Call<'_, A>, time: Time, command: &'static str) -> Result<(), Refusal> {
    let conditions = Conditions::parse(call)?;
    let given = call.integer_arg(2)?;
    let at_ms = absolute_ms(given, time, call.now_ms).ok_or(Refusal::InvalidExpiry(command))?;
    let Some(found) = call.find(call.arg(1)) else {
        return Ok(call.reply.integer(0)?);
    };
    if !conditions.allow(call.database.store.deadline_ms(found), at_ms) {
        return Ok(call.reply.integer(0)?);
    }
    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms > call.now_ms => call.database.store.expire(found, Expiry::At(at_ms))?,
        _ => call.database.store.remove(found),
    }
    call.changed();
    Ok(call.reply.integer(1)?)
}

pub(super) fn expire<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    expire_at(call, Time::Seconds, "expire")
}

pub(super) fn pexpire<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    expire_at(call, Time::Milliseconds, "pexpire")
}

pub(super) fn expireat<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    expire_at(call, Time::UnixSeconds, "expireat")
}

pub(super) fn pexpireat<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    expire_at(call, Time::UnixMilliseconds, "pexpireat")
}

/// Replies what `from` makes of the deadline and the time, both in milliseconds since 1970.
fn tell<A: Memory>(call: &mut Call<'_, A>, from: impl Fn(u64, u64) -> u64) -> Result<(), Refusal> {
    let found = call.look_up(call.arg(1));
    Ok(call
        .reply
        .integer(match found.map(|found| call.database.store.deadline_ms(found)) {
            None => -2,
            Some(None) => -1,
            Some(Some(at_ms)) => i64::try_from(from(at_ms, call.now_ms)).unwrap_or(i64::MAX),
        })?)
}

fn rounded_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

pub(super) fn ttl<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    tell(call, |at_ms, now_ms| {
        rounded_seconds(at_ms.saturating_sub(now_ms))
    })
}

pub(super) fn pttl<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    tell(call, u64::saturating_sub)
}

pub(super) fn expiretime<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    tell(call, |at_ms, _| rounded_seconds(at_ms))
}

pub(super) fn pexpiretime<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    tell(call, |at_ms, _| at_ms)
}

pub(super) fn persist<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let found = call.find(call.arg(1));
    let expiring = found.filter(|&found| call.database.store.deadline_ms(found).is_some());
    if let Some(found) = expiring {
        call.database.store.expire(found, Expiry::Never)?;
        call.changed();
    }
    Ok(call.reply.integer(i64::from(expiring.is_some()))?)
}
