//! `INFO`.
//!
//! The fields are Redis's where the server has what they tell, with the values that say "not here" where
//! tools expect the field; `hotspare` is ours.

use core::fmt;

use super::{Call, Pair, Refusal};
use crate::{Memory, REDIS_VERSION};

/// Bytes as a person reads them: `1.50M`.
struct Human(usize);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("G", 30), ("M", 20), ("K", 10)];
        match units.into_iter().find(|&(_, shift)| self.0 >> shift > 0) {
            None => write!(f, "{}B", self.0),
            Some((unit, shift)) => {
                let hundredths = (self.0 as u128 * 100) >> shift;
                write!(f, "{}.{:02}{unit}", hundredths / 100, hundredths % 100)
            }
        }
    }
}

/// A section's name and what writes it.
struct Section {
    name: &'static str,
    write: fn(&Facts, &mut fmt::Formatter<'_>) -> fmt::Result,
}

/// Everything that the sections tell, taken at one moment.
struct Facts {
    pair: Pair,
    port: u16,
    now_ms: u64,
    uptime_s: u64,
    run_id: [u64; 2],
    clients: usize,
    clients_max: usize,
    used_bytes: usize,
    limit_bytes: usize,
    keys: usize,
    expiring: usize,
    expired: u64,
    statistics: super::Statistics,
}

const SECTIONS: [Section; 9] = [
    Section {
        name: "Server",
        write: server,
    },
    Section {
        name: "Clients",
        write: clients,
    },
    Section {
        name: "Memory",
        write: memory,
    },
    Section {
        name: "Persistence",
        write: persistence,
    },
    Section {
        name: "Stats",
        write: stats,
    },
    Section {
        name: "Replication",
        write: replication,
    },
    Section {
        name: "Cluster",
        write: cluster,
    },
    Section {
        name: "Hotspare",
        write: hotspare,
    },
    Section {
        name: "Keyspace",
        write: keyspace,
    },
];

/// The sections that were asked for.
struct Info<'a> {
    facts: Facts,
    wanted: &'a dyn Fn(&str) -> bool,
}

impl fmt::Display for Info<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for section in SECTIONS.iter().filter(|section| (self.wanted)(section.name)) {
            if !first {
                f.write_str("\r\n")?;
            }
            first = false;
            write!(f, "# {}\r\n", section.name)?;
            (section.write)(&self.facts, f)?;
        }
        Ok(())
    }
}

fn server(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "redis_version:{REDIS_VERSION}\r\n")?;
    write!(f, "hotspare_version:{}\r\n", env!("CARGO_PKG_VERSION"))?;
    f.write_str("redis_build_id:")?;
    for byte in facts.pair.build_id {
        write!(f, "{byte:02x}")?;
    }
    f.write_str("\r\nredis_mode:standalone\r\nos:Hotspare x86_64\r\narch_bits:64\r\n")?;
    write!(
        f,
        "run_id:{:016x}{:016x}00000000\r\n",
        facts.run_id[0], facts.run_id[1]
    )?;
    write!(f, "tcp_port:{}\r\n", facts.port)?;
    write!(f, "server_time_usec:{}\r\n", u128::from(facts.now_ms) * 1000)?;
    write!(f, "uptime_in_seconds:{}\r\n", facts.uptime_s)?;
    write!(f, "uptime_in_days:{}\r\n", facts.uptime_s / 86_400)
}

fn clients(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "connected_clients:{}\r\n", facts.clients)?;
    write!(f, "maxclients:{}\r\n", facts.clients_max)?;
    f.write_str("blocked_clients:0\r\n")
}

fn memory(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "used_memory:{}\r\n", facts.used_bytes)?;
    write!(f, "used_memory_human:{}\r\n", Human(facts.used_bytes))?;
    write!(f, "used_memory_dataset:{}\r\n", facts.used_bytes)?;
    write!(f, "maxmemory:{}\r\n", facts.limit_bytes)?;
    write!(f, "maxmemory_human:{}\r\n", Human(facts.limit_bytes))?;
    f.write_str("maxmemory_policy:noeviction\r\nmem_allocator:hs_malloc\r\n")
}

fn persistence(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("loading:0\r\n")?;
    write!(f, "rdb_changes_since_last_save:{}\r\n", facts.statistics.changes)?;
    f.write_str("rdb_bgsave_in_progress:0\r\naof_enabled:0\r\naof_rewrite_in_progress:0\r\n")
}

fn stats(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let statistics = &facts.statistics;
    for (field, value) in [
        ("total_connections_received", statistics.connections),
        ("total_commands_processed", statistics.commands),
        ("total_net_input_bytes", statistics.input_bytes),
        ("total_net_output_bytes", statistics.output_bytes),
        ("rejected_connections", statistics.rejected_connections),
        ("expired_keys", facts.expired),
        ("evicted_keys", 0),
        ("keyspace_hits", statistics.hits),
        ("keyspace_misses", statistics.misses),
        ("total_error_replies", statistics.errors),
    ] {
        write!(f, "{field}:{value}\r\n")?;
    }
    Ok(())
}

/// As a client sees it: it always speaks to a master, and the spare is no replica that could be read from.
fn replication(_: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("role:master\r\nconnected_slaves:0\r\n")
}

fn cluster(_: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("cluster_enabled:0\r\n")
}

fn hotspare(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let pair = &facts.pair;
    write!(f, "role:{}\r\nterm:{}\r\n", pair.role, pair.term)?;
    write!(f, "spare:{}\r\n", if pair.spare { "up" } else { "none" })?;
    for (field, value) in [
        ("checkpoints_taken", pair.status.taken),
        ("checkpoints_acked", pair.status.acked),
        ("checkpoints_full", pair.status.full),
        ("checkpoints_incremental", pair.status.incremental),
        ("checkpoints_copied", pair.status.copied),
        ("checkpoints_in_flight", pair.status.in_flight),
        ("checkpoint_bytes", pair.status.bytes),
        ("checkpoint_pause_p50_us", pair.status.pause_p50_us),
        ("checkpoint_pause_p99_us", pair.status.pause_p99_us),
        ("checkpoint_pause_max_us", pair.status.pause_max_us),
        ("checkpoint_lag_us", pair.status.lag_us),
    ] {
        write!(f, "{field}:{value}\r\n")?;
    }
    Ok(())
}

fn keyspace(facts: &Facts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if facts.keys > 0 {
        write!(
            f,
            "db0:keys={},expires={},avg_ttl=0\r\n",
            facts.keys, facts.expiring
        )?;
    }
    Ok(())
}

pub(super) fn info<A: Memory>(call: &mut Call<'_, A>) -> Result<(), Refusal> {
    let (database, request) = (&call.database, call.request);
    let facts = Facts {
        pair: call.surroundings.pair(),
        port: database.options.port,
        now_ms: call.now_ms,
        uptime_s: call.now_ms.saturating_sub(database.created_ms) / 1000,
        run_id: database.run_id,
        clients: database.clients,
        clients_max: database.clients_max,
        used_bytes: database.store.used_bytes(),
        limit_bytes: database.store.limit_bytes(),
        keys: database.store.len(),
        expiring: database.store.expiring(),
        expired: database.store.expired(),
        statistics: database.statistics,
    };
    let wanted = |name: &str| {
        request.len() == 1
            || request.args_from(1).any(|asked| {
                [name, "default", "all", "everything"]
                    .iter()
                    .any(|section| asked.eq_ignore_ascii_case(section.as_bytes()))
            })
    };
    Ok(call.reply.bulk_text(Info {
        facts,
        wanted: &wanted,
    })?)
}

#[cfg(test)]
mod tests {
    use super::Human;
    use alloc::string::ToString;

    #[test]
    fn bytes_are_rounded_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.50K"),
            (67_108_864, "64.00M"),
            (1 << 31, "2.00G"),
        ] {
            assert_eq!(Human(bytes).to_string(), text);
        }
    }
}
