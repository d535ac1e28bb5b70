//! Commands on the connection itself.

use core::fmt;

use super::{CLIENT_NAME_LEN_MAX, Call, Refusal, Session, keep};
use crate::{Memory, REDIS_VERSION, number};

pub(super) fn ping<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    match call.args() {
        1 => call.reply.simple("PONG")?,
        2 => call.reply.bulk(call.arg(1))?,
        _ => return Err(Refusal::WrongArity("ping")),
    }
    Ok(())
}

pub(super) fn echo<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    Ok(call.reply.bulk(call.arg(1))?)
}

pub(super) fn quit<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    call.session.closing = true;
    Ok(call.reply.ok()?)
}

pub(super) fn reset<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    call.session.name.clear();
    Ok(call.reply.simple("RESET")?)
}

pub(super) fn select<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    match i32::try_from(call.integer_arg(1)?) {
        Ok(0) => Ok(call.reply.ok()?),
        Ok(_) => Err(Refusal::DatabaseIndex),
        Err(_) => Err(Refusal::NotASmallInteger),
    }
}

/// There is one user, `default`, who needs no password and may give any.
fn authenticate(user: &[u8]) -> Result<(), Refusal> {
    if user == b"default" {
        Ok(())
    } else {
        Err(Refusal::WrongPassword)
    }
}

pub(super) fn auth<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    match call.args() {
        2 => return Err(Refusal::NoPassword),
        3 => authenticate(call.arg(1))?,
        _ => return Err(Refusal::Syntax),
    }
    Ok(call.reply.ok()?)
}

pub(super) fn hello<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    if call.args() > 1 {
        let version = number::parse(call.arg(1)).ok_or(Refusal::ProtocolVersionNotAnInteger)?;
        if version != 2 {
            return Err(Refusal::ProtocolVersion);
        }
    }
    let mut at = 2;
    while at < call.args() {
        let following = call.args() - at - 1;
        if call.arg(at).eq_ignore_ascii_case(b"auth") && following >= 2 {
            authenticate(call.arg(at + 1))?;
            at += 3;
        } else if call.arg(at).eq_ignore_ascii_case(b"setname") && following >= 1 {
            set_name(call, at + 1)?;
            at += 2;
        } else {
            return Err(Refusal::HelloOption(at));
        }
    }
    let reply = &mut call.reply;
    reply.array(14)?;
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes())?;
        reply.bulk(value.as_bytes())?;
    }
    reply.bulk(b"proto")?;
    reply.integer(2)?;
    reply.bulk(b"id")?;
    reply.integer(i64::try_from(call.session.id).unwrap_or(i64::MAX))?;
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes())?;
        reply.bulk(value.as_bytes())?;
    }
    reply.bulk(b"modules")?;
    Ok(reply.array(0)?)
}

fn check_text(text: &[u8], what: &'static str) -> Result<(), Refusal> {
    if text.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Refusal::InvalidText(what));
    }
    if text.len() > CLIENT_NAME_LEN_MAX {
        return Err(Refusal::TextTooLong(what));
    }
    Ok(())
}

fn set_name<A: Memory>(call: &mut Call<'_, A>, index: usize) -> Result<(), Refusal> {
    let name = call.arg(index);
    check_text(name, "Client names")?;
    Ok(keep(&mut call.session.name, name)?)
}

pub(super) fn client_setname<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    set_name(call, 2)?;
    Ok(call.reply.ok()?)
}

pub(super) fn client_getname<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let name = &call.session.name;
    Ok(call.reply.bulk_or_null((!name.is_empty()).then_some(name))?)
}

pub(super) fn client_setinfo<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let (option, text) = (call.arg(2), call.arg(3));
    let (what, kept) = if option.eq_ignore_ascii_case(b"lib-name") {
        ("lib-name", &mut call.session.library_name)
    } else if option.eq_ignore_ascii_case(b"lib-ver") {
        ("lib-ver", &mut call.session.library_version)
    } else {
        return Err(Refusal::UnrecognizedOption(2));
    };
    check_text(text, what)?;
    keep(kept, text)?;
    Ok(call.reply.ok()?)
}

pub(super) fn client_id<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    Ok(call
        .reply
        .integer(i64::try_from(call.session.id).unwrap_or(i64::MAX))?)
}

/// The line that `CLIENT INFO` replies.
struct Description<'a, A: Memory> {
    session: &'a Session<A>,
    now_ms: u64,
}

impl<A: Memory> fmt::Display for Description<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.session;
        writeln!(
            f,
            "id={} addr={} name={} age={} flags=N db=0 lib-name={} lib-ver={} resp=2",
            session.id,
            session.address,
            Text(&session.name),
            self.now_ms.saturating_sub(session.connected_ms) / 1000,
            Text(&session.library_name),
            Text(&session.library_version),
        )
    }
}

/// Text that was checked to be visible characters.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.0).unwrap_or_default())
    }
}

pub(super) fn client_info<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    Ok(call.reply.bulk_text(Description {
        session: call.session,
        now_ms: call.now_ms,
    })?)
}
