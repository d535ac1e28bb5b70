//! All commands, and what `COMMAND` tells of them.

use super::{Call, Refusal, connection, expiry, info, introspection, keyspace, strings};
use crate::Memory;

/// What a command does, as Redis's flags say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u8);

impl Flags {
    /// Changes the data.
    pub const WRITE: Flags = Flags(1);
    /// Reads the data only.
    pub const READONLY: Flags = Flags(2);
    /// Is refused when memory is full.
    pub const DENYOOM: Flags = Flags(4);
    /// Takes a time that does not grow with the data.
    pub const FAST: Flags = Flags(8);
    /// Concerns the server.
    pub const ADMIN: Flags = Flags(16);
    /// May be sent before `AUTH`.
    pub const NO_AUTH: Flags = Flags(32);
    /// None of these.
    pub const NONE: Flags = Flags(0);

    /// Both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are here.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names, as `COMMAND` replies them.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::FAST, "fast"),
        ]
        .into_iter()
        .filter_map(move |(flag, name)| self.has(flag).then_some(name))
    }
}

/// What a command is about, as Redis groups them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// The connection.
    Connection,
    /// Keys, whatever their value.
    Generic,
    /// The server.
    Server,
    /// Values.
    String,
}

impl Group {
    /// Its name, as `COMMAND DOCS` replies it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Server => "server",
            Group::String => "string",
        }
    }
}

/// Which arguments are keys: from `first` to `last`, counted from the end if negative, each `step`-th.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// Index of the first; 0 if there are none.
    pub first: i8,
    /// Index of the last.
    pub last: i8,
    /// Distance from one to the next.
    pub step: i8,
}

const NO_KEYS: Keys = Keys {
    first: 0,
    last: 0,
    step: 0,
};
const ONE_KEY: Keys = Keys {
    first: 1,
    last: 1,
    step: 1,
};
const ALL_KEYS: Keys = Keys {
    first: 1,
    last: -1,
    step: 1,
};
const PAIRS: Keys = Keys {
    first: 1,
    last: -1,
    step: 2,
};

const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);
const READ: Flags = Flags::READONLY.and(Flags::FAST);
const TALK: Flags = Flags::FAST;
const GREET: Flags = Flags::FAST.and(Flags::NO_AUTH);

/// A command.
pub struct Command<A: Memory> {
    /// Its name in small letters; a subcommand's begins with that of its command: `client|id`.
    pub name: &'static str,
    /// Number of arguments, the names included; the least number if negative.
    pub arity: i8,
    /// What it does.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// What it is about.
    pub group: Group,
    /// The release of Redis that had it first.
    pub since: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Its subcommands, sorted by name.
    pub subcommands: &'static [Command<A>],
    pub(super) run: fn(&mut Call<'_, A>) -> Result<(), Refusal>,
}

impl<A: Memory> Command<A> {
    /// Whether it is about a connection, and means nothing without one.
    pub(super) fn needs_connection(&self) -> bool {
        self.group == Group::Connection && !["ping", "echo"].contains(&self.name)
    }

    const fn new(
        name: &'static str,
        arity: i8,
        (flags, keys, group): (Flags, Keys, Group),
        since: &'static str,
        summary: &'static str,
        run: fn(&mut Call<'_, A>) -> Result<(), Refusal>,
    ) -> Self {
        Self {
            name,
            arity,
            flags,
            keys,
            group,
            since,
            summary,
            subcommands: &[],
            run,
        }
    }

    const fn with(mut self, subcommands: &'static [Self]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// The name without that of the command it belongs to.
    pub fn own_name(&self) -> &'static str {
        self.name
            .split_once('|')
            .map_or(self.name, |(_, own_name)| own_name)
    }

    /// Whether it takes `args` arguments, the names included.
    pub fn takes(&self, args: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            args >= least
        } else {
            args == least
        }
    }

    /// The command called `name`, in letters of any case, out of `commands`, which are sorted.
    pub fn find(commands: &'static [Self], name: &[u8]) -> Option<&'static Self> {
        let lower = || name.iter().map(u8::to_ascii_lowercase);
        let found = commands.binary_search_by(|command| command.own_name().bytes().cmp(lower()));
        Some(&commands[found.ok()?])
    }

    #[rustfmt::skip]
    const CLIENT: &'static [Self] = &[
        Self::new("client|getname", 2, (TALK, NO_KEYS, Group::Connection), "2.6.9", "Get the current connection name", connection::client_getname),
        Self::new("client|help", 2, (TALK, NO_KEYS, Group::Connection), "5.0.0", "Show helpful text about the different subcommands", introspection::client_help),
        Self::new("client|id", 2, (TALK, NO_KEYS, Group::Connection), "5.0.0", "Returns the client ID for the current connection", connection::client_id),
        Self::new("client|info", 2, (TALK, NO_KEYS, Group::Connection), "6.2.0", "Returns information about the current client connection.", connection::client_info),
        Self::new("client|setinfo", 4, (TALK, NO_KEYS, Group::Connection), "7.2.0", "Sets information specific to the client or connection.", connection::client_setinfo),
        Self::new("client|setname", 3, (TALK, NO_KEYS, Group::Connection), "2.6.9", "Set the current connection name", connection::client_setname),
    ];

    #[rustfmt::skip]
    const COMMAND: &'static [Self] = &[
        Self::new("command|count", 2, (TALK, NO_KEYS, Group::Server), "2.8.13", "Get total number of Redis commands", introspection::command_count),
        Self::new("command|docs", -2, (TALK, NO_KEYS, Group::Server), "7.0.0", "Get array of specific Redis command documentation", introspection::command_docs),
        Self::new("command|help", 2, (TALK, NO_KEYS, Group::Server), "5.0.0", "Show helpful text about the different subcommands", introspection::command_help),
        Self::new("command|info", -2, (TALK, NO_KEYS, Group::Server), "2.8.13", "Get array of specific Redis command details, or all when no argument is given.", introspection::command_info),
        Self::new("command|list", -2, (TALK, NO_KEYS, Group::Server), "7.0.0", "Get an array of Redis command names", introspection::command_list),
    ];

    #[rustfmt::skip]
    const CONFIG: &'static [Self] = &[
        Self::new("config|get", -3, (Flags::ADMIN, NO_KEYS, Group::Server), "2.0.0", "Get the values of configuration parameters", introspection::config_get),
        Self::new("config|help", 2, (TALK, NO_KEYS, Group::Server), "5.0.0", "Show helpful text about the different subcommands", introspection::config_help),
        Self::new("config|set", -4, (Flags::ADMIN, NO_KEYS, Group::Server), "2.0.0", "Set configuration parameters to the given values", introspection::config_set),
    ];

    /// All of them, sorted by name.
    #[rustfmt::skip]
    pub const ALL: &'static [Self] = &[
        Self::new("append", 3, (GROW_FAST, ONE_KEY, Group::String), "2.0.0", "Append a value to a key", strings::append),
        Self::new("auth", -2, (GREET, NO_KEYS, Group::Connection), "1.0.0", "Authenticate to the server", connection::auth),
        Self::new("client", -2, (Flags::NONE, NO_KEYS, Group::Connection), "2.4.0", "A container for client connection commands", introspection::container).with(Self::CLIENT),
        Self::new("command", -1, (Flags::NONE, NO_KEYS, Group::Server), "2.8.13", "Get array of Redis command details", introspection::command_info).with(Self::COMMAND),
        Self::new("config", -2, (Flags::NONE, NO_KEYS, Group::Server), "2.0.0", "A container for server configuration commands", introspection::container).with(Self::CONFIG),
        Self::new("dbsize", 1, (READ, NO_KEYS, Group::Server), "1.0.0", "Return the number of keys in the selected database", keyspace::dbsize),
        Self::new("decr", 2, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Decrement the integer value of a key by one", strings::decr),
        Self::new("decrby", 3, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Decrement the integer value of a key by the given number", strings::decrby),
        Self::new("del", -2, (Flags::WRITE, ALL_KEYS, Group::Generic), "1.0.0", "Delete a key", keyspace::del),
        Self::new("echo", 2, (TALK, NO_KEYS, Group::Connection), "1.0.0", "Echo the given string", connection::echo),
        Self::new("exists", -2, (READ, ALL_KEYS, Group::Generic), "1.0.0", "Determine if a key exists", keyspace::exists),
        Self::new("expire", -3, (WRITE, ONE_KEY, Group::Generic), "1.0.0", "Set a key's time to live in seconds", expiry::expire),
        Self::new("expireat", -3, (WRITE, ONE_KEY, Group::Generic), "1.2.0", "Set the expiration for a key as a UNIX timestamp", expiry::expireat),
        Self::new("expiretime", 2, (READ, ONE_KEY, Group::Generic), "7.0.0", "Get the expiration Unix timestamp for a key", expiry::expiretime),
        Self::new("flushall", -1, (Flags::WRITE, NO_KEYS, Group::Server), "1.0.0", "Remove all keys from all databases", keyspace::flush),
        Self::new("flushdb", -1, (Flags::WRITE, NO_KEYS, Group::Server), "1.0.0", "Remove all keys from the current database", keyspace::flush),
        Self::new("get", 2, (READ, ONE_KEY, Group::String), "1.0.0", "Get the value of a key", strings::get),
        Self::new("getdel", 2, (WRITE, ONE_KEY, Group::String), "6.2.0", "Get the value of a key and delete the key", strings::getdel),
        Self::new("getset", 3, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Set the string value of a key and return its old value", strings::getset),
        Self::new("hello", -1, (GREET, NO_KEYS, Group::Connection), "6.0.0", "Handshake with Redis", connection::hello),
        Self::new("incr", 2, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Increment the integer value of a key by one", strings::incr),
        Self::new("incrby", 3, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Increment the integer value of a key by the given amount", strings::incrby),
        Self::new("info", -1, (Flags::NONE, NO_KEYS, Group::Server), "1.0.0", "Get information and statistics about the server", info::info),
        Self::new("keys", 2, (Flags::READONLY, NO_KEYS, Group::Generic), "1.0.0", "Find all keys matching the given pattern", keyspace::keys),
        Self::new("mget", -2, (READ, ALL_KEYS, Group::String), "1.0.0", "Get the values of all the given keys", strings::mget),
        Self::new("mset", -3, (GROW, PAIRS, Group::String), "1.0.1", "Set multiple keys to multiple values", strings::mset),
        Self::new("msetnx", -3, (GROW, PAIRS, Group::String), "1.0.1", "Set multiple keys to multiple values, only if none of the keys exist", strings::msetnx),
        Self::new("persist", 2, (WRITE, ONE_KEY, Group::Generic), "2.2.0", "Remove the expiration from a key", expiry::persist),
        Self::new("pexpire", -3, (WRITE, ONE_KEY, Group::Generic), "2.6.0", "Set a key's time to live in milliseconds", expiry::pexpire),
        Self::new("pexpireat", -3, (WRITE, ONE_KEY, Group::Generic), "2.6.0", "Set the expiration for a key as a UNIX timestamp specified in milliseconds", expiry::pexpireat),
        Self::new("pexpiretime", 2, (READ, ONE_KEY, Group::Generic), "7.0.0", "Get the expiration Unix timestamp for a key in milliseconds", expiry::pexpiretime),
        Self::new("ping", -1, (TALK, NO_KEYS, Group::Connection), "1.0.0", "Ping the server", connection::ping),
        Self::new("psetex", 4, (GROW, ONE_KEY, Group::String), "2.6.0", "Set the value and expiration in milliseconds of a key", strings::psetex),
        Self::new("pttl", 2, (READ, ONE_KEY, Group::Generic), "2.6.0", "Get the time to live for a key in milliseconds", expiry::pttl),
        Self::new("quit", -1, (GREET, NO_KEYS, Group::Connection), "1.0.0", "Close the connection", connection::quit),
        Self::new("reset", 1, (GREET, NO_KEYS, Group::Connection), "6.2.0", "Reset the connection", connection::reset),
        Self::new("scan", -2, (Flags::READONLY, NO_KEYS, Group::Generic), "2.8.0", "Incrementally iterate the keys space", keyspace::scan),
        Self::new("select", 2, (TALK, NO_KEYS, Group::Connection), "1.0.0", "Change the selected database for the current connection", connection::select),
        Self::new("set", -3, (GROW, ONE_KEY, Group::String), "1.0.0", "Set the string value of a key", strings::set),
        Self::new("setex", 4, (GROW, ONE_KEY, Group::String), "2.0.0", "Set the value and expiration of a key", strings::setex),
        Self::new("setnx", 3, (GROW_FAST, ONE_KEY, Group::String), "1.0.0", "Set the value of a key, only if the key does not exist", strings::setnx),
        Self::new("strlen", 2, (READ, ONE_KEY, Group::String), "2.2.0", "Get the length of the value stored in a key", strings::strlen),
        Self::new("ttl", 2, (READ, ONE_KEY, Group::Generic), "1.0.0", "Get the time to live for a key in seconds", expiry::ttl),
        Self::new("type", 2, (READ, ONE_KEY, Group::Generic), "1.0.0", "Determine the type stored at key", keyspace::type_of),
        Self::new("unlink", -2, (WRITE, ALL_KEYS, Group::Generic), "4.0.0", "Delete a key", keyspace::del),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use allocator_api2::alloc::Global;

    #[test]
    fn every_command_can_be_found() {
        let lists = [
            Command::<Global>::ALL,
            Command::CLIENT,
            Command::COMMAND,
            Command::CONFIG,
        ];
        for command in lists.into_iter().flatten() {
            let list = lists
                .into_iter()
                .find(|list| list.iter().any(|other| other.name == command.name))
                .unwrap();
            for name in [
                command.own_name().to_ascii_uppercase(),
                command.own_name().to_ascii_lowercase(),
            ] {
                assert_eq!(Command::find(list, name.as_bytes()).unwrap().name, command.name);
            }
        }
        assert!(Command::<Global>::find(Command::ALL, b"client|id").is_none());
        assert!(Command::<Global>::find(Command::ALL, b"").is_none());
    }

    #[test]
    fn arity_counts_the_name() {
        let get = Command::<Global>::find(Command::ALL, b"get").unwrap();
        let set = Command::<Global>::find(Command::ALL, b"SET").unwrap();
        assert!(get.takes(2) && !get.takes(1) && !get.takes(3));
        assert!(set.takes(3) && set.takes(9) && !set.takes(2));
    }
}
