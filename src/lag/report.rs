//! What one look at the groups comes to.

use std::collections::BTreeMap;

use millrace_kafka::{GroupLags, LagHistory, LagStatus, PartitionLag};
use serde::Serialize;

use crate::output::{printable, table};

/// All partitions of all groups that were looked at.
#[derive(Debug, Serialize)]
pub struct Report {
    /// By group, topic and number.
    pub partitions: Vec<Partition>,
    /// By name.
    pub groups: Vec<Group>,
}

/// A partition of a group.
#[derive(Debug, Serialize)]
pub struct Partition {
    /// The group.
    pub group: String,
    /// The topic's full name.
    pub topic: String,
    /// The number.
    pub partition: i32,
    /// The offset that the group resumes from.
    pub current_offset: i64,
    /// The offset that the next record gets.
    pub end_offset: i64,
    /// Records between the two.
    pub lag: i64,
    /// Age of the next unread record; 0 where there is none, absent where it could not be read.
    pub lag_seconds: Option<f64>,
    /// Offsets that the group goes on by a second; 0 after one look.
    pub rate_per_second: f64,
    /// Until nothing is left at the present rates; absent where it never ends.
    pub eta_seconds: Option<f64>,
    /// Who has the partition.
    pub member: Option<String>,
    /// What it calls itself.
    pub client_id: Option<String>,
    /// Where it is.
    pub host: Option<String>,
    /// Whether its member fetched no more when it last committed, having as much in hand as it may. Absent
    /// where nobody has the partition or nothing was committed, and where the member is none of ours.
    pub paused: Option<bool>,
    /// What that means.
    pub status: LagStatus,
}

/// A group: the sums of its partitions, and the worst of them.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// As its coordinator says; absent where it has none yet.
    pub state: Option<String>,
    /// How many.
    pub members: usize,
    /// Records that it has not read.
    pub lag: i64,
    /// Age of the oldest of them.
    pub lag_seconds: f64,
    /// `OK`, `WARN`, or `ERR` where a partition is stopped, stalled or was rewound.
    pub status: &'static str,
}

impl Report {
    /// Of these lags and the looks at each partition so far.
    pub fn new(lags: GroupLags, history: &LagHistory) -> Self {
        let partition = |lag: PartitionLag| {
            let assessment = history.assess(&lag);
            Partition {
                group: lag.group,
                topic: lag.topic,
                partition: lag.partition,
                current_offset: lag.current,
                end_offset: lag.end,
                lag: lag.lag,
                lag_seconds: lag.lag_seconds,
                rate_per_second: assessment.rate_per_second,
                eta_seconds: assessment.eta_seconds,
                member: lag.member.as_ref().map(|member| member.id.clone()),
                client_id: lag.member.as_ref().map(|member| member.client_id.clone()),
                host: lag.member.map(|member| member.host),
                paused: lag.paused,
                status: assessment.status,
            }
        };
        let partitions: Vec<Partition> = lags.partitions.into_iter().map(partition).collect();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for known in lags.groups {
            let mut group = Group::empty(&known.name);
            group.state = Some(known.state);
            group.members = known.members.len();
            groups.insert(known.name, group);
        }
        for partition in &partitions {
            let group = groups.entry(partition.group.clone());
            group
                .or_insert_with(|| Group::empty(&partition.group))
                .add(partition);
        }
        Self {
            partitions,
            groups: groups.into_values().collect(),
        }
    }

    /// Whether anything is left to read.
    pub fn is_behind(&self) -> bool {
        self.partitions.iter().any(|partition| partition.lag > 0)
    }

    /// For people.
    pub fn text(&self) -> String {
        if self.partitions.is_empty() {
            return "no consumer group has read anything yet; --all shows those of other prefixes"
                .to_owned();
        }
        let header = [
            "GROUP",
            "TOPIC",
            "PARTITION",
            "CURRENT",
            "END",
            "LAG",
            "LAG SECONDS",
            "RECORDS/S",
            "LEFT",
            "STATUS",
            "MEMBER",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.partitions.iter().map(Partition::cells));
        table(&rows)
    }
}

impl Group {
    fn empty(name: &str) -> Self {
        Self {
            group: name.to_owned(),
            state: None,
            members: 0,
            lag: 0,
            lag_seconds: 0.0,
            status: "OK",
        }
    }

    fn add(&mut self, partition: &Partition) {
        self.lag += partition.lag;
        self.lag_seconds = self.lag_seconds.max(partition.lag_seconds.unwrap_or(0.0));
        self.status = match partition.status {
            LagStatus::Stop | LagStatus::Stall | LagStatus::Rewind => "ERR",
            LagStatus::Warn if self.status == "OK" => "WARN",
            LagStatus::Warn | LagStatus::Ok => self.status,
        };
    }
}

impl Partition {
    fn cells(&self) -> Vec<String> {
        vec![
            printable(&self.group).into_owned(),
            printable(&self.topic).into_owned(),
            self.partition.to_string(),
            self.current_offset.to_string(),
            self.end_offset.to_string(),
            self.lag.to_string(),
            self.seconds(),
            format!("{:.0}", self.rate_per_second),
            self.left(),
            self.status_text(),
            printable(self.client_id.as_deref().unwrap_or("-")).into_owned(),
        ]
    }

    /// The status, and whether it is paused.
    pub fn status_text(&self) -> String {
        match self.paused {
            Some(true) => format!("{}, paused", self.status.as_str()),
            Some(false) | None => self.status.as_str().to_owned(),
        }
    }

    /// The age of the next unread record.
    pub fn seconds(&self) -> String {
        self.lag_seconds
            .map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.1}"))
    }

    /// The time until nothing is left.
    pub fn left(&self) -> String {
        match self.eta_seconds {
            Some(seconds) if self.lag > 0 => left(seconds),
            Some(_) => "-".to_owned(),
            None => "?".to_owned(),
        }
    }
}

fn left(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.0} h", seconds / 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use millrace_kafka::DescribedGroup;

    use super::*;

    fn lag(group: &str, partition: i32, current: i64, end: i64, lag_seconds: f64) -> PartitionLag {
        PartitionLag {
            group: group.to_owned(),
            topic: "topic".to_owned(),
            partition,
            current,
            committed: Some(current),
            oldest: 0,
            end,
            lag: end - current,
            lag_seconds: Some(lag_seconds),
            member: None,
            paused: (group == "idle").then_some(true),
        }
    }

    #[test]
    fn a_group_is_as_bad_as_its_worst_partition() {
        let described = |name: &str| DescribedGroup {
            name: name.to_owned(),
            state: "Empty".to_owned(),
            members: Vec::new(),
        };
        let partitions = vec![
            lag("idle", 0, 5, 5, 0.0),
            lag("stopped", 0, 5, 5, 0.0),
            lag("stopped", 1, 5, 9, 3.0),
        ];
        let mut history = LagHistory::default();
        history.observe(&partitions);
        let report = Report::new(
            GroupLags {
                groups: vec![described("idle"), described("stopped")],
                partitions,
            },
            &history,
        );
        let statuses: Vec<_> = report.groups.iter().map(|group| group.status).collect();
        assert_eq!(statuses, ["OK", "ERR"]);
        assert_eq!(
            (report.groups[1].lag, report.groups[1].lag_seconds),
            (4, 3.0)
        );
        assert!(report.is_behind());
        assert_eq!(report.partitions[0].status_text(), "OK, paused");
        let text = report.text();
        assert!(
            text.lines()
                .nth(3)
                .is_some_and(|line| line.contains("STOP")),
            "{text}"
        );
    }

    #[test]
    fn times_are_told_in_their_own_unit() {
        let told = [0.4, 119.0, 150.0, 7_300.0].map(left);
        assert_eq!(told, ["0 s", "119 s", "2 min", "2 h"]);
    }
}
