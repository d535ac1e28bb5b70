//! The experiments with `cptfork` alone: memory that no library manages, and children that only take their pages.
//!
//! One measurement is rounds of the same kind ([`rounds`](crate::rounds)) over one [`Memory`](memory::Memory), with a
//! [`Child`](child::Child) that is held back while the parent writes on.

pub(crate) mod child;
pub(crate) mod memory;
mod pipe;
mod policy;
mod released;
mod sizes;
mod snapshots;
mod subject;
mod tables;

use alloc::vec::Vec;

use bench_plan::experiment::Experiment;

use crate::library::{checkpoint, metadata, program, scattered};
use crate::{Context, refuse};

/// Runs those of `chosen` that are of this kind.
pub(crate) fn run(context: Context, chosen: &[Experiment]) {
    let of_size: Vec<Experiment> = chosen
        .iter()
        .copied()
        .filter(|experiment| experiment.dirty_percent().is_some())
        .collect();
    for experiment in chosen {
        log::info!("{experiment} begins");
        let result = match experiment {
            Experiment::Table31 => tables::forks(context),
            Experiment::Table32 => tables::writes(context),
            Experiment::Table33 => tables::entries(context),
            Experiment::Fig61 => {
                sizes::small(context);
                Ok(())
            }
            Experiment::Fig62 => {
                sizes::shares(context);
                Ok(())
            }
            Experiment::Size1 | Experiment::Size10 | Experiment::Size50 => {
                // All of them with the first.
                if of_size.first() == Some(experiment) {
                    sizes::large(context, &of_size);
                }
                Ok(())
            }
            Experiment::Snapshots => snapshots::run(context),
            Experiment::Released => released::run(context),
            Experiment::Policy => policy::run(context),
            Experiment::Checkpoint => {
                checkpoint::run(context);
                Ok(())
            }
            Experiment::Metadata => metadata::run(context),
            Experiment::Scattered => scattered::run(context),
            Experiment::Program => program::run(context),
            Experiment::Fig63
            | Experiment::Fig64
            | Experiment::Replication
            | Experiment::Latency
            | Experiment::MetadataNode => Ok(()),
        };
        if let Err(failure) = result {
            refuse(context.guest, experiment.name(), &failure);
        }
    }
}
