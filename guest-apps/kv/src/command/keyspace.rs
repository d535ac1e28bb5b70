//! Commands on keys, whatever their value.

use super::{Call, Refusal};
use crate::{Memory, glob};

pub(super) fn del<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let mut count = 0;
    for index in 1..call.args() {
        if let Some(found) = call.find(call.arg(index)) {
            call.database.store.remove(found);
            call.changed();
            count += 1;
        }
    }
    Ok(call.reply.count(count)?)
}

pub(super) fn exists<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let count = (1..call.args())
        .filter(|&index| call.look_up(call.arg(index)).is_some())
        .count();
    Ok(call.reply.count(count)?)
}

pub(super) fn type_of<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let found = call.look_up(call.arg(1));
    Ok(call
        .reply
        .simple(if found.is_some() { "string" } else { "none" })?)
}

/// Replies the keys of a step of a walk that are `wanted`. They are counted first: nothing is gathered.
fn walk<A: Memory>(
    call: &mut Call<'_, A>,
    cursor: u64,
    count: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<(), Refusal> {
    let (store, reply, now_ms) = (&call.database.store, &mut call.reply, call.now_ms);
    let mut matching = 0;
    store.scan(cursor, count, now_ms, |key| matching += usize::from(wanted(key)));
    reply.array(matching)?;
    let mut result = Ok(());
    store.scan(cursor, count, now_ms, |key| {
        if result.is_ok() && wanted(key) {
            result = reply.bulk(key);
        }
    });
    Ok(result?)
}

pub(super) fn keys<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let pattern = call.arg(1);
    walk(call, 0, usize::MAX, |key| glob::matches(pattern, key, false))
}

/// Reads a cursor as C's `strtoul` does: a sign is allowed.
fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && !text.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

pub(super) fn scan<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let cursor = cursor(call.arg(1)).ok_or(Refusal::InvalidCursor)?;
    let mut count = 10;
    let mut pattern = None;
    let mut of_type = true;
    for index in (2..call.args()).step_by(2) {
        let is = |word: &str| call.arg(index).eq_ignore_ascii_case(word.as_bytes());
        if index + 1 == call.args() {
            return Err(Refusal::Syntax);
        }
        if is("count") {
            count = usize::try_from(call.integer_arg(index + 1)?).unwrap_or(0);
            if count == 0 {
                return Err(Refusal::Syntax);
            }
        } else if is("match") {
            pattern = Some(call.arg(index + 1));
        } else if is("type") {
            of_type = call.arg(index + 1).eq_ignore_ascii_case(b"string");
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let next = call.database.store.scan(cursor, count, call.now_ms, |_| {});
    call.reply.array(2)?;
    call.reply.bulk_text(next)?;
    walk(call, cursor, count, |key| {
        of_type && pattern.is_none_or(|pattern| glob::matches(pattern, key, false))
    })
}

pub(super) fn dbsize<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    Ok(call.reply.count(call.database.store.len())?)
}

pub(super) fn flush<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let known = match call.args() {
        1 => true,
        2 => [b"sync".as_slice(), b"async"]
            .iter()
            .any(|word| call.arg(1).eq_ignore_ascii_case(word)),
        _ => false,
    };
    if !known {
        return Err(Refusal::Syntax);
    }
    call.database.store.clear();
    call.changed();
    Ok(call.reply.ok()?)
}
