//! Consumer groups and committed offsets.

use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::client::{
    DEADLINE, Target, admin_options, eventually, one, payloads, read, read_nothing, send, unique,
    wait,
};
use crate::raw::{Raw, topic_name};

/// A member on a thread of its own, which reads and commits.
struct Member {
    owned: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

impl Member {
    fn start(
        target: &Target,
        group: &str,
        topic: &str,
        strategy: &str,
        counts: &Counts,
    ) -> Result<Member> {
        let consumer = target.consumer(group, &[("partition.assignment.strategy", strategy)])?;
        consumer.subscribe(&[topic])?;
        let (owned, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (owns, stopped, counts) = (Arc::clone(&owned), Arc::clone(&stop), Arc::clone(counts));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                    let payload =
                        String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                    *counts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(payload)
                        .or_default() += 1;
                    // What was not committed comes again, and the check allows for that.
                    let _committed = consumer.commit_message(&message, CommitMode::Async);
                }
                owns.store(
                    consumer.assignment().map_or(0, |all| all.count()),
                    Ordering::Relaxed,
                );
            }
        });
        Ok(Member {
            owned,
            stop,
            thread: Some(thread),
        })
    }

    fn owns(&self) -> usize {
        self.owned.load(Ordering::Relaxed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the member shows in the counts.
            let _ended = thread.join();
        }
    }
}

fn all_seen(counts: &Counts, total: usize) -> Result<()> {
    eventually(&format!("{total} records seen"), || {
        let seen = counts.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok((seen == total).then_some(()))
    })
}

fn join_split_and_leave(target: &Target, strategy: &str) -> Result<()> {
    let topic = target.topic("split", 6, &[])?;
    let group = unique("split");
    let counts = Counts::default();
    let producer = target.producer(&[])?;
    send(&producer, &topic, 0..60, None)?;
    let first = Member::start(target, &group, &topic, strategy, &counts)?;
    eventually("the first owns all", || {
        Ok((first.owns() == 6).then_some(()))
    })?;
    let second = Member::start(target, &group, &topic, strategy, &counts)?;
    eventually("both own half", || {
        Ok((first.owns() == 3 && second.owns() == 3).then_some(()))
    })?;
    send(&producer, &topic, 60..120, None)?;
    all_seen(&counts, 120)?;
    drop(second);
    eventually("the first owns all again", || {
        Ok((first.owns() == 6).then_some(()))
    })?;
    send(&producer, &topic, 120..180, None)?;
    all_seen(&counts, 180)
}

pub fn cooperative_members_join_split_and_leave(target: &Target) -> Result<()> {
    join_split_and_leave(target, "cooperative-sticky")
}

pub fn range_members_join_split_and_leave(target: &Target) -> Result<()> {
    join_split_and_leave(target, "range")
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The second member is a process that dies without a word.
pub fn crashed_member_is_replaced(target: &Target) -> Result<()> {
    let topic = target.topic("crash", 4, &[])?;
    let group = unique("crash");
    let counts = Counts::default();
    let first = Member::start(target, &group, &topic, "cooperative-sticky", &counts)?;
    eventually("the first owns all", || {
        Ok((first.owns() == 4).then_some(()))
    })?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "only_embedded::member_process", "--ignored"])
        .envs([
            ("MEMBER_BOOTSTRAP", &target.bootstrap),
            ("MEMBER_GROUP", &group),
            ("MEMBER_TOPIC", &topic),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let child = KilledOnDrop(child);
    eventually("both own half", || Ok((first.owns() == 2).then_some(())))?;
    drop(child);
    eventually("the first owns all again", || {
        Ok((first.owns() == 4).then_some(()))
    })?;
    send(&target.producer(&[])?, &topic, 0..40, None)?;
    all_seen(&counts, 40)
}

pub fn static_member_comes_back_without_a_rebalance(target: &Target) -> Result<()> {
    let topic = target.topic("static", 4, &[])?;
    let group = unique("static");
    let join = |instance: &str| {
        let consumer = target.consumer(
            &group,
            &[
                ("group.instance.id", instance),
                ("session.timeout.ms", "30000"),
            ],
        )?;
        consumer.subscribe(&[&topic])?;
        anyhow::Ok(consumer)
    };
    let owned = |consumer: &rdkafka::consumer::BaseConsumer| {
        // Polling serves the rebalance; there are no records.
        let _nothing = consumer.poll(Duration::from_millis(20));
        consumer.assignment().map_or(0, |all| all.count())
    };
    // One after the other: who leads is not left to a race.
    let one = join("one")?;
    eventually(
        "the first owns all",
        || Ok((owned(&one) == 4).then_some(())),
    )?;
    let two = join("two")?;
    eventually("both own half", || {
        Ok((owned(&one) == 2 && owned(&two) == 2).then_some(()))
    })?;
    drop(two);
    let two = join("two")?;
    eventually("it owns its half again", || {
        ensure!(owned(&one) == 2, "the other member was rebalanced");
        Ok((owned(&two) == 2).then_some(()))
    })
}

pub fn commit_and_resume(target: &Target) -> Result<()> {
    let topic = target.topic("resume", 2, &[])?;
    let group = unique("resume");
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    send(&target.producer(&[])?, &topic, 0..40, None)?;
    let consumer = target.consumer(&group, &settings)?;
    consumer.subscribe(&[&topic])?;
    let first = read(&consumer, 15)?;
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &first {
        next.insert(record.partition, record.offset + 1);
    }
    let mut committed = TopicPartitionList::new();
    for (partition, offset) in next {
        committed.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
    }
    consumer.commit(&committed, CommitMode::Sync)?;
    drop(consumer);
    let consumer = target.consumer(&group, &settings)?;
    consumer.subscribe(&[&topic])?;
    let rest = read(&consumer, 25)?;
    read_nothing(&consumer, Duration::from_millis(300))?;
    let (first, rest): (HashSet<_>, HashSet<_>) = (
        payloads(&first).into_iter().collect(),
        payloads(&rest).into_iter().collect(),
    );
    ensure!(first.is_disjoint(&rest));
    Ok(())
}

pub fn committed_offsets_and_lag(target: &Target) -> Result<()> {
    let topic = target.topic("lag", 2, &[])?;
    let group = unique("lag");
    send(&target.producer(&[])?, &topic, 0..30, Some(0))?;
    let consumer = target.consumer(&group, &[])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(10))?;
    list.elements_for_topic(&topic)[0].set_metadata("a note");
    consumer.commit(&list, CommitMode::Sync)?;
    ensure!(target.committed(&group, &topic, 0)? == (Offset::Offset(10), "a note".to_owned()));
    ensure!(target.committed(&group, &topic, 1)?.0 == Offset::Invalid);
    ensure!(consumer.fetch_watermarks(&topic, 0, DEADLINE)?.1 == 30);
    Ok(())
}

pub fn list_and_describe_groups(target: &Target) -> Result<()> {
    let topic = target.topic("listed", 2, &[])?;
    let group = unique("listed");
    send(&target.producer(&[])?, &topic, 0..10, None)?;
    let consumer = target.consumer(&group, &[])?;
    consumer.subscribe(&[&topic])?;
    read(&consumer, 10)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let probe = target.consumer("any", &[])?;
    let all = probe.fetch_group_list(None, DEADLINE)?;
    let listed = all
        .groups()
        .iter()
        .find(|listed| listed.name() == group)
        .context("the group is not listed")?;
    ensure!(
        listed.state() == "Stable" && listed.protocol_type() == "consumer",
        "{listed:?}"
    );
    ensure!(
        listed.members().len() == 1 && listed.protocol() == "range",
        "{listed:?}"
    );
    Ok(())
}

pub fn delete_group_forgets_offsets(target: &Target) -> Result<()> {
    let topic = target.topic("forget", 1, &[])?;
    let group = unique("forget");
    send(&target.producer(&[])?, &topic, 0..5, None)?;
    let consumer = target.consumer(&group, &[])?;
    consumer.subscribe(&[&topic])?;
    read(&consumer, 5)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let admin = target.admin()?;
    let delete = || one(wait(admin.delete_groups(&[&group], &admin_options()))?);
    ensure!(delete()?.is_err(), "a group with members was deleted");
    ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Offset(5));
    drop(consumer);
    eventually("the group can be deleted", || Ok(delete()?.ok()))?;
    ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Invalid);
    Ok(())
}

pub fn offset_delete_spares_subscribed_topics(target: &Target) -> Result<()> {
    let read_topic = target.topic("subscribed", 1, &[])?;
    let other_topic = target.topic("unsubscribed", 1, &[])?;
    let group = unique("partly");
    send(&target.producer(&[])?, &read_topic, 0..5, None)?;
    let consumer = target.consumer(&group, &[])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&other_topic, 0, Offset::Offset(3))?;
    consumer.commit(&list, CommitMode::Sync)?;
    consumer.subscribe(&[&read_topic])?;
    read(&consumer, 5)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let asked = |topic: &str| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![
                OffsetDeleteRequestPartition::default().with_partition_index(0),
            ])
    };
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.clone())))
        .with_topics(vec![asked(&read_topic), asked(&other_topic)]);
    let answer: OffsetDeleteResponse =
        Raw::connect(&target.bootstrap)?.ask(ApiKey::OffsetDelete, 0, &request)?;
    ensure!(answer.error_code == 0, "{answer:?}");
    let code = |topic: &str| {
        let found = answer
            .topics
            .iter()
            .find(|answered| answered.name == topic_name(topic));
        found
            .map(|answered| answered.partitions[0].error_code)
            .ok_or_else(|| anyhow!("{topic} is not answered"))
    };
    ensure!(
        code(&read_topic)? == 86,
        "GROUP_SUBSCRIBED_TO_TOPIC, not {}",
        code(&read_topic)?
    );
    ensure!(code(&other_topic)? == 0);
    ensure!(target.committed(&group, &read_topic, 0)?.0 == Offset::Offset(5));
    ensure!(target.committed(&group, &other_topic, 0)?.0 == Offset::Invalid);
    Ok(())
}

/// A member that was replaced must not move the group's offsets.
pub fn zombie_commit_is_refused(target: &Target) -> Result<()> {
    let topic = target.topic("zombie", 1, &[])?;
    let group = unique("zombie");
    send(&target.producer(&[])?, &topic, 0..5, None)?;
    let consumer = target.consumer(&group, &[])?;
    consumer.subscribe(&[&topic])?;
    read(&consumer, 5)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    raw.await_coordinator(&group)?;
    let mut commit = |member: &str, generation| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(1);
        let topics = vec![
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(vec![partition]),
        ];
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.clone())))
            .with_member_id(StrBytes::from_string(member.to_owned()))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(topics);
        let answer: OffsetCommitResponse = raw.ask(ApiKey::OffsetCommit, 7, &request)?;
        anyhow::Ok(answer.topics[0].partitions[0].error_code)
    };
    ensure!(commit("nobody", 1)? == 25, "UNKNOWN_MEMBER_ID");
    let listed = target
        .consumer("any", &[])?
        .fetch_group_list(Some(&group), DEADLINE)?;
    let member = listed.groups()[0].members()[0].id().to_owned();
    ensure!(commit(&member, 9999)? == 22, "ILLEGAL_GENERATION");
    ensure!(
        commit("", -1)? == 25,
        "UNKNOWN_MEMBER_ID for one that assigns itself while there are members"
    );
    ensure!(target.committed(&group, &topic, 0)?.0 == Offset::Offset(5));
    Ok(())
}
