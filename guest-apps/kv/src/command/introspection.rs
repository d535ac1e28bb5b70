//! Commands about commands and settings.

use core::fmt;

use super::refusal::UpperCase;
use super::table::{Command, Flags};
use super::{Call, Database, Refusal};
use crate::resp::{Full, Reply};
use crate::{BULK_LEN_MAX, Memory, glob};

/// A command that is nothing without a subcommand: its arity refuses every call that comes here.
pub(super) fn container<A: Memory>(_: &mut Call<'_, A>) -> Result<(), Refusal> {
    Err(Refusal::Syntax)
}

/// Redis's access categories, made from what the table holds.
fn categories<A: Memory>(command: &Command<A>) -> impl Iterator<Item = &'static str> + Clone {
    let flags = command.flags;
    let group = match command.group {
        super::Group::Connection => "@connection",
        super::Group::Generic => "@keyspace",
        super::Group::String => "@string",
        super::Group::Server if command.keys.first == 0 && flags.has(Flags::ADMIN) => "@admin",
        super::Group::Server => "@keyspace",
    };
    [
        (flags.has(Flags::WRITE), "@write"),
        (flags.has(Flags::READONLY), "@read"),
        (true, group),
        (true, if flags.has(Flags::FAST) { "@fast" } else { "@slow" }),
    ]
    .into_iter()
    .filter_map(|(applies, category)| applies.then_some(category))
}

fn simple_strings<A: Memory>(
    reply: &mut Reply<'_, A>,
    strings: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), Full> {
    reply.array(strings.clone().count())?;
    for string in strings {
        reply.simple(string)?;
    }
    Ok(())
}

/// Where keys are, the way that Redis 7 tells it.
fn key_specifications<A: Memory>(reply: &mut Reply<'_, A>, command: &Command<A>) -> Result<(), Full> {
    let keys = command.keys;
    if keys.first == 0 {
        return reply.array(0);
    }
    reply.array(1)?;
    reply.array(6)?;
    reply.bulk(b"flags")?;
    let written = command.flags.has(Flags::WRITE);
    simple_strings(
        reply,
        if written {
            ["RW", "update"]
        } else {
            ["RO", "access"]
        }
        .into_iter(),
    )?;
    reply.bulk(b"begin_search")?;
    reply.array(4)?;
    reply.bulk(b"type")?;
    reply.bulk(b"index")?;
    reply.bulk(b"spec")?;
    reply.array(2)?;
    reply.bulk(b"index")?;
    reply.integer(i64::from(keys.first))?;
    reply.bulk(b"find_keys")?;
    reply.array(4)?;
    reply.bulk(b"type")?;
    reply.bulk(b"range")?;
    reply.bulk(b"spec")?;
    reply.array(6)?;
    reply.bulk(b"lastkey")?;
    // Here counted from the first key, if not from the end.
    reply.integer(i64::from(if keys.last < 0 {
        keys.last
    } else {
        keys.last - keys.first
    }))?;
    reply.bulk(b"keystep")?;
    reply.integer(i64::from(keys.step))?;
    reply.bulk(b"limit")?;
    reply.integer(0)
}

fn describe<A: Memory>(reply: &mut Reply<'_, A>, command: &Command<A>) -> Result<(), Full> {
    reply.array(10)?;
    reply.bulk(command.name.as_bytes())?;
    reply.integer(i64::from(command.arity))?;
    simple_strings(reply, command.flags.names())?;
    reply.integer(i64::from(command.keys.first))?;
    reply.integer(i64::from(command.keys.last))?;
    reply.integer(i64::from(command.keys.step))?;
    simple_strings(reply, categories(command))?;
    reply.array(0)?;
    key_specifications(reply, command)?;
    reply.array(command.subcommands.len())?;
    for subcommand in command.subcommands {
        describe(reply, subcommand)?;
    }
    Ok(())
}

/// Finds `get` and `client|id`.
fn by_full_name<A: Memory>(name: &[u8]) -> Option<&'static Command<A>> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let command = Command::find(Command::ALL, parts.next()?)?;
    match parts.next() {
        None => Some(command),
        Some(subcommand) => Command::find(command.subcommands, subcommand),
    }
}

/// `COMMAND` too.
pub(super) fn command_info<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let reply = &mut call.reply;
    if call.request.len() <= 2 {
        reply.array(Command::<A>::ALL.len())?;
        for command in Command::ALL {
            describe::<A>(reply, command)?;
        }
        return Ok(());
    }
    reply.array(call.request.len() - 2)?;
    for name in call.request.args_from(2) {
        match by_full_name::<A>(name) {
            Some(command) => describe(reply, command)?,
            None => reply.null()?,
        }
    }
    Ok(())
}

pub(super) fn command_count<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    Ok(call.reply.count(Command::<A>::ALL.len())?)
}

fn document<A: Memory>(reply: &mut Reply<'_, A>, command: &Command<A>) -> Result<(), Full> {
    reply.bulk(command.name.as_bytes())?;
    reply.array(if command.subcommands.is_empty() { 6 } else { 8 })?;
    for (key, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
    ] {
        reply.bulk(key.as_bytes())?;
        reply.bulk(text.as_bytes())?;
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands")?;
        reply.array(2 * command.subcommands.len())?;
        for subcommand in command.subcommands {
            document(reply, subcommand)?;
        }
    }
    Ok(())
}

pub(super) fn command_docs<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let reply = &mut call.reply;
    if call.request.len() == 2 {
        reply.array(2 * Command::<A>::ALL.len())?;
        for command in Command::ALL {
            document::<A>(reply, command)?;
        }
        return Ok(());
    }
    let commands = || call.request.args_from(2).filter_map(by_full_name::<A>);
    reply.array(2 * commands().count())?;
    for command in commands() {
        document(reply, command)?;
    }
    Ok(())
}

pub(super) fn command_list<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    if call.args() > 2 {
        return Err(Refusal::Syntax);
    }
    let names = || {
        let with_subcommands = |command: &'static Command<A>| {
            core::iter::once(command.name).chain(command.subcommands.iter().map(|subcommand| subcommand.name))
        };
        Command::ALL.iter().flat_map(with_subcommands)
    };
    call.reply.array(names().count())?;
    for name in names() {
        call.reply.bulk(name.as_bytes())?;
    }
    Ok(())
}

fn help<A: Memory>(call: &mut Call<'_, A>, name: &str) -> Result<(), Refusal> {
    let Some(command) = Command::<A>::find(Command::ALL, name.as_bytes()) else {
        return Err(Refusal::UnknownCommand);
    };
    call.reply.array(1 + 2 * command.subcommands.len())?;
    let heading = "<subcommand> [<arg> [value] [opt] ...]. Subcommands are:";
    call.reply.simple(format_args!("{} {heading}", UpperCase(name)))?;
    for subcommand in command.subcommands {
        call.reply.simple(UpperCase(subcommand.own_name()))?;
        call.reply.simple(format_args!("    {}", subcommand.summary))?;
    }
    Ok(())
}

pub(super) fn client_help<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    help(call, "client")
}

pub(super) fn command_help<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    help(call, "command")
}

pub(super) fn config_help<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    help(call, "config")
}

/// A setting's value, as `CONFIG GET` replies it.
enum Value {
    Text(&'static str),
    Number(usize),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

fn settings<A: Memory>(database: &Database<A>) -> [(&'static str, Value); 11] {
    let options = &database.options;
    [
        ("appendonly", Value::Text("no")),
        ("bind", Value::Text("")),
        ("databases", Value::Number(1)),
        ("maxclients", Value::Number(database.clients_max)),
        ("maxmemory", Value::Number(options.memory_bytes())),
        ("maxmemory-policy", Value::Text("noeviction")),
        ("port", Value::Number(usize::from(options.port))),
        ("proto-max-bulk-len", Value::Number(BULK_LEN_MAX)),
        ("requirepass", Value::Text("")),
        ("save", Value::Text("")),
        ("timeout", Value::Number(0)),
    ]
}

pub(super) fn config_get<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let settings = settings(call.database);
    let request = call.request;
    let matching = || {
        settings.iter().filter_map(|(name, value)| {
            let asked = request
                .args_from(2)
                .find(|pattern| glob::matches(pattern, name.as_bytes(), true))?;
            // As Redis does: a name that was written out comes back as it was written.
            let literal = asked.eq_ignore_ascii_case(name.as_bytes());
            Some((if literal { asked } else { name.as_bytes() }, value))
        })
    };
    call.reply.array(2 * matching().count())?;
    for (name, value) in matching() {
        call.reply.bulk(name)?;
        call.reply.bulk_text(value)?;
    }
    Ok(())
}

/// Settings stand on the kernel's command line.
pub(super) fn config_set<A: Memory>(_: &mut Call<'_, A>) -> Result<(), Refusal> {
    Err(Refusal::UnknownSetting(2))
}
