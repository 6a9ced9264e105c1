//! Which faults come when: data, printed and read as JSON, or drawn from a seed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the pipeline under test stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// `millrace up`: broker, index and pipeline in one process.
    Embedded,
    /// Roles as processes of their own, on a real Kafka and OpenSearch.
    Real,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Real => "real",
        })
    }
}

/// A process of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything of the embedded target.
    Up,
    /// One of the two vectorizers of the real target.
    Vectorizer1,
    /// The other.
    Vectorizer2,
    /// What takes notices on the real target.
    Uploads,
    /// What takes behavior on the real target.
    Collector,
    /// One of the two joiners of the real target.
    Joiner1,
    /// The other.
    Joiner2,
    /// What keeps profiles on the real target.
    Profiles,
}

impl Role {
    /// As reports and log files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Vectorizer1 => "vectorizer_1",
            Self::Vectorizer2 => "vectorizer_2",
            Self::Uploads => "uploads",
            Self::Collector => "collector",
            Self::Joiner1 => "joiner_1",
            Self::Joiner2 => "joiner_2",
            Self::Profiles => "profiles",
        }
    }

    fn is_vectorizer(self) -> bool {
        matches!(self, Self::Vectorizer1 | Self::Vectorizer2)
    }
}

/// How the object store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageFault {
    /// Answers 503.
    Unavailable,
    /// Cuts the connection before the answer.
    HangUp,
    /// Cuts it in the middle of the body.
    Half,
    /// Answers after half a second.
    Slow,
}

/// How OpenSearch fails, as seen through the proxy in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchFault {
    /// The whole request is answered 429.
    TooManyRequests,
    /// Some items of a bulk are answered 429, the others are applied.
    ItemsRejected,
    /// 503 without reaching OpenSearch.
    Unavailable,
    /// A bulk of more than one document is answered 413.
    TooLarge,
    /// Writes are answered as on an index with the read-only block of a full disk.
    ReadOnly,
    /// The request is applied and its answer lost.
    LostResponse,
    /// The connection is cut before the request is applied.
    HangUp,
    /// The last item of a bulk is neither applied nor answered.
    FewerItems,
    /// The request is applied after half a second.
    Slow,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// `kill -9`; the process is started again at once.
    Kill {
        /// Which.
        role: Role,
    },
    /// `kill -9` of the embedded broker's process in the middle of an append to each partition: half a
    /// record batch stays behind the last one. Then it is started again.
    HalfAppend,
    /// `kill -9` of the embedded index's process in the middle of a commit: files stay that its meta file
    /// does not name, of any commit that may be next. Then it is started again.
    HalfCommit,
    /// SIGTERM: it must drain and leave with 0; then it is started again.
    Terminate {
        /// Which.
        role: Role,
    },
    /// SIGSTOP, then SIGCONT.
    Pause {
        /// Which.
        role: Role,
        /// How long it stands still.
        for_ms: u64,
    },
    /// A stranger joins the vectorizers' group, takes partitions, finishes nothing and leaves.
    Stranger {
        /// How long it stays.
        for_ms: u64,
    },
    /// No file of the process may grow beyond its present size, as on a full disk.
    FullDisk {
        /// Which.
        role: Role,
        /// How long.
        for_ms: u64,
    },
    /// `kill -9` of the broker, which is started again after a while.
    KillBroker {
        /// How long it stays away.
        down_ms: u64,
    },
    /// The broker's disk is full; then it is started again with room.
    BrokerFullDisk {
        /// How long.
        for_ms: u64,
    },
    /// The connection of one role to the broker is cut, all others keep theirs.
    CutOff {
        /// Which.
        role: Role,
        /// How long.
        for_ms: u64,
    },
    /// The store of the stateful consumers can't be reached by any of them.
    StateAway {
        /// How long.
        for_ms: u64,
    },
    /// Requests to the object store fail.
    Storage {
        /// How.
        fault: StorageFault,
        /// One request in so many.
        one_in: u32,
        /// How long.
        for_ms: u64,
    },
    /// Requests to OpenSearch fail.
    Search {
        /// How.
        fault: SearchFault,
        /// One request in so many.
        one_in: u32,
        /// How long.
        for_ms: u64,
    },
}

/// A fault and the pause before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Since the step before it began.
    pub after_ms: u64,
    /// What happens then.
    pub fault: Fault,
}

/// Faults in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What it is for.
    pub target: TargetKind,
    /// The faults.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// Draws faults for `duration_ms`. Equal arguments give equal schedules.
    #[must_use]
    pub fn draw(seed: u64, target: TargetKind, duration_ms: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5c4e_d01e);
        let mut steps = Vec::new();
        let mut at_ms = 0;
        loop {
            let after_ms = match target {
                TargetKind::Embedded => embedded_gap_ms(&mut rng),
                TargetKind::Real => rng.u64(400..3_000),
            };
            at_ms += after_ms;
            if at_ms >= duration_ms {
                return Self { target, steps };
            }
            let fault = match target {
                TargetKind::Embedded => embedded(&mut rng),
                TargetKind::Real => real(&mut rng),
            };
            steps.push(Step { after_ms, fault });
        }
    }

    /// How long it takes until the last fault begins.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.steps.iter().map(|step| step.after_ms).sum()
    }

    /// Whether a paused or cut-off vectorizer may outlive its group membership, so that two act
    /// for the same document for a moment.
    #[must_use]
    pub fn has_zombies(&self) -> bool {
        self.steps.iter().any(|step| match step.fault {
            Fault::Pause { role, .. } | Fault::CutOff { role, .. } => role.is_vectorizer(),
            _ => false,
        })
    }
}

/// Some kills must hit a process that has just begun to start, others one that is at work.
fn embedded_gap_ms(rng: &mut fastrand::Rng) -> u64 {
    match rng.u32(..10) {
        0..2 => rng.u64(30..500),
        2..8 => rng.u64(800..2_000),
        _ => rng.u64(2_000..4_000),
    }
}

fn embedded(rng: &mut fastrand::Rng) -> Fault {
    let role = Role::Up;
    match rng.u32(..100) {
        0..52 => Fault::Kill { role },
        52..53 => Fault::HalfAppend,
        53..54 => Fault::HalfCommit,
        54..60 => Fault::Terminate { role },
        60..63 => Fault::Pause {
            role,
            for_ms: rng.u64(200..2_000),
        },
        63..66 => Fault::Stranger {
            for_ms: rng.u64(500..3_000),
        },
        66..70 => Fault::FullDisk {
            role,
            for_ms: rng.u64(500..3_000),
        },
        _ => storage(rng),
    }
}

/// Who is paused and cut off from the broker: another member of the group goes on meanwhile.
const OVERTAKEN: &[Role] = &[Role::Vectorizer1, Role::Joiner1];

fn real(rng: &mut fastrand::Rng) -> Fault {
    match rng.u32(..100) {
        0..22 => Fault::Kill {
            role: *pick(
                rng,
                &[
                    Role::Vectorizer1,
                    Role::Vectorizer1,
                    Role::Vectorizer2,
                    Role::Uploads,
                    Role::Collector,
                    Role::Joiner1,
                    Role::Joiner2,
                    Role::Profiles,
                ],
            ),
        },
        22..28 => Fault::Terminate {
            role: *pick(
                rng,
                &[
                    Role::Vectorizer2,
                    Role::Uploads,
                    Role::Collector,
                    Role::Joiner2,
                    Role::Profiles,
                ],
            ),
        },
        // Beyond the session time of 6 s: whoever has the partitions meanwhile is overtaken by a
        // process that does not know it yet.
        28..31 => Fault::Pause {
            role: *pick(rng, OVERTAKEN),
            for_ms: rng.u64(7_000..9_000),
        },
        31..35 => Fault::Pause {
            role: *pick(rng, OVERTAKEN),
            for_ms: rng.u64(200..3_000),
        },
        35..39 => Fault::CutOff {
            role: *pick(rng, OVERTAKEN),
            for_ms: rng.u64(2_000..9_000),
        },
        39..41 => Fault::KillBroker {
            down_ms: rng.u64(0..4_000),
        },
        41..42 => Fault::BrokerFullDisk {
            for_ms: rng.u64(1_000..4_000),
        },
        42..45 => Fault::Stranger {
            for_ms: rng.u64(1_000..5_000),
        },
        45..48 => Fault::StateAway {
            for_ms: rng.u64(500..4_000),
        },
        48..62 => storage(rng),
        _ => Fault::Search {
            fault: *pick(
                rng,
                &[
                    SearchFault::TooManyRequests,
                    SearchFault::ItemsRejected,
                    SearchFault::Unavailable,
                    SearchFault::TooLarge,
                    SearchFault::ReadOnly,
                    SearchFault::LostResponse,
                    SearchFault::HangUp,
                    SearchFault::FewerItems,
                    SearchFault::Slow,
                ],
            ),
            one_in: rng.u32(1..4),
            for_ms: rng.u64(500..4_000),
        },
    }
}

fn storage(rng: &mut fastrand::Rng) -> Fault {
    Fault::Storage {
        fault: *pick(
            rng,
            &[
                StorageFault::Unavailable,
                StorageFault::HangUp,
                StorageFault::Half,
                StorageFault::Slow,
            ],
        ),
        one_in: rng.u32(1..5),
        for_ms: rng.u64(1_000..5_000),
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_schedule_and_json_keeps_it() {
        for target in [TargetKind::Embedded, TargetKind::Real] {
            let schedule = Schedule::draw(7, target, 60_000);
            assert_eq!(schedule, Schedule::draw(7, target, 60_000));
            assert_ne!(schedule, Schedule::draw(8, target, 60_000));
            assert!(schedule.steps.len() > 10);
            assert!(schedule.duration_ms() < 60_000);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        }
    }

    #[test]
    fn a_long_schedule_has_every_kind_of_fault() {
        let kinds = |target| -> std::collections::BTreeSet<String> {
            let schedule = Schedule::draw(1, target, 3_600_000);
            let kind = |step: &Step| {
                serde_json::to_value(&step.fault).unwrap()["kind"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            schedule.steps.iter().map(kind).collect()
        };
        assert_eq!(kinds(TargetKind::Embedded).len(), 8);
        assert_eq!(kinds(TargetKind::Real).len(), 10);
    }
}
