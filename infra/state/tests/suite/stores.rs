//! What every store must do.

use std::sync::Arc;

use anyhow::{Result, ensure};
use millrace_state::{Change, Claim, Position, Shard, ShardWriter, StateError, StateStore, Table};

use crate::place::Place;

fn shard(partition: i32) -> Shard {
    Shard {
        generation: 1,
        partition,
    }
}

const COUNTS: Table = Table::new("counts");
const SEEN: Table = Table::new("seen");
const ITEMS: Table = Table::new("items");
const QUEUE: Table = Table::new("queue");
const HOURS: Table = Table::new("hours");

fn at(clicks: i64, items: i64) -> Position {
    Position::default()
        .with("clicks", clicks)
        .with("items", items)
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: Some(value.to_vec()),
    }
}

async fn value(
    state: &dyn StateStore,
    shard: Shard,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>> {
    let found = state.get(shard, vec![(table, key.to_vec())]).await?;
    Ok(found
        .into_iter()
        .next()
        .flatten()
        .map(|value| value.to_vec()))
}

pub async fn a_commit_writes_all_and_moves_the_position(place: &Place) -> Result<()> {
    let state = place.state("one").await?;
    let first = state.claim(shard(0)).await?;
    ensure!(first.position == Position::default(), "{first:?}");
    // Bytes of any kind, and a key that begins as another one.
    let binary = [0, 255, 10, 13, 0];
    let changes = vec![
        put(COUNTS, b"item", &binary),
        put(COUNTS, b"item2", b"x"),
        put(SEEN, &binary, b""),
    ];
    state.commit(shard(0), &first, &at(5, 7), changes).await?;
    ensure!(value(&*state, shard(0), COUNTS, b"item").await?.as_deref() == Some(&binary[..]));
    ensure!(value(&*state, shard(0), SEEN, &binary).await?.as_deref() == Some(&b""[..]));
    ensure!(value(&*state, shard(0), SEEN, b"item").await?.is_none());

    let standing = Claim {
        position: at(5, 7),
        epoch: first.epoch,
    };
    let gone = Change {
        table: COUNTS,
        key: b"item".to_vec(),
        value: None,
    };
    let nothing_read = Position::default().with("clicks", 6);
    state
        .commit(shard(0), &standing, &nothing_read, vec![gone])
        .await?;
    ensure!(value(&*state, shard(0), COUNTS, b"item").await?.is_none());
    ensure!(value(&*state, shard(0), COUNTS, b"item2").await?.is_some());
    let second = state.claim(shard(0)).await?;
    ensure!(
        second.position == nothing_read && second.epoch > first.epoch,
        "{second:?}"
    );
    Ok(())
}

pub async fn a_writer_that_was_replaced_is_refused(place: &Place) -> Result<()> {
    let state = place.state("one").await?;
    let zombie = state.claim(shard(0)).await?;
    let owner = state.claim(shard(0)).await?;
    // At the same offset: it is the epoch that tells.
    let late = state
        .commit(
            shard(0),
            &zombie,
            &at(1, 1),
            vec![put(SEEN, b"zombie", b"")],
        )
        .await;
    ensure!(
        matches!(late, Err(StateError::Refused { epoch, .. }) if epoch == owner.epoch),
        "{late:?}"
    );
    state
        .commit(shard(0), &owner, &at(1, 1), vec![put(SEEN, b"owner", b"")])
        .await?;
    let later = state.commit(shard(0), &zombie, &at(2, 2), Vec::new()).await;
    ensure!(
        matches!(later, Err(StateError::Refused { .. })),
        "{later:?}"
    );
    ensure!(value(&*state, shard(0), SEEN, b"zombie").await?.is_none());
    ensure!(value(&*state, shard(0), SEEN, b"owner").await?.is_some());
    ensure!(state.claim(shard(0)).await?.position == at(1, 1));
    Ok(())
}

pub async fn a_write_from_another_offset_is_refused_and_changes_nothing(
    place: &Place,
) -> Result<()> {
    let state = place.state("one").await?;
    let claim = state.claim(shard(0)).await?;
    state
        .commit(shard(0), &claim, &at(10, 0), Vec::new())
        .await?;
    // As a write whose answer was lost, sent again; and as one against a store that went back.
    for expected in [Position::default(), at(9, 0), at(10, 1), at(11, 0)] {
        let claim = Claim {
            position: expected.clone(),
            epoch: claim.epoch,
        };
        let change = put(COUNTS, b"item", b"twice");
        let refused = state
            .commit(shard(0), &claim, &at(20, 0), vec![change])
            .await;
        let Err(StateError::Refused { position, .. }) = refused else {
            anyhow::bail!("{refused:?} from {expected}");
        };
        ensure!(position == at(10, 0), "{position:?}");
    }
    ensure!(value(&*state, shard(0), COUNTS, b"item").await?.is_none());
    Ok(())
}

pub async fn partitions_tables_and_hours_are_apart(place: &Place) -> Result<()> {
    let state = place.state("one").await?;
    let tables = [
        HOURS,
        ITEMS,
        COUNTS,
        QUEUE,
        SEEN,
        HOURS.part(-1),
        HOURS.part(472_222),
        HOURS.part(472_223),
    ];
    for partition in [0, 1, 256] {
        let claim = state.claim(shard(partition)).await?;
        let changes = tables.iter().enumerate().map(|(number, &table)| {
            let value = format!("{partition}/{number}");
            put(table, b"key", value.as_bytes())
        });
        let many = (0..2_500_u32).map(|n| put(QUEUE, &n.to_be_bytes(), b"w"));
        let changes = changes.chain(many.filter(|_| partition == 1)).collect();
        state
            .commit(shard(partition), &claim, &at(1, 1), changes)
            .await?;
    }
    for partition in [0, 1, 256] {
        for (number, &table) in tables.iter().enumerate() {
            let expected = format!("{partition}/{number}").into_bytes();
            let found = value(&*state, shard(partition), table, b"key").await?;
            ensure!(found == Some(expected), "{partition} {table:?}");
        }
    }
    let all = state.scan(shard(1), QUEUE, usize::MAX).await?;
    ensure!(all.len() == 2_501, "{}", all.len());
    let some = state.scan(shard(1), QUEUE, 10).await?;
    ensure!((10..=2_501).contains(&some.len()), "{}", some.len());
    let hour = state.scan(shard(256), HOURS.part(-1), usize::MAX).await?;
    ensure!(hour.len() == 1 && hour[0].0 == b"key", "{hour:?}");
    // In the order asked for, whatever the tables.
    let asked = vec![
        (SEEN, b"key".to_vec()),
        (COUNTS, b"no".to_vec()),
        (ITEMS, b"key".to_vec()),
        (SEEN, b"no".to_vec()),
    ];
    let found = state.get(shard(0), asked).await?;
    let found: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
    ensure!(
        found == [Some(&b"0/4"[..]), None, Some(b"0/1"), None],
        "{found:?}"
    );
    Ok(())
}

pub async fn a_generation_is_built_beside_the_live_one_and_switched_to(
    place: &Place,
) -> Result<()> {
    let state = place.state("one").await?;
    let next = Shard {
        generation: 2,
        partition: 0,
    };
    ensure!(state.live_generation().await? == 1);
    let old = state.claim(shard(0)).await?;
    state
        .commit(
            shard(0),
            &old,
            &at(9, 9),
            vec![put(COUNTS, b"item", b"old")],
        )
        .await?;
    ensure!(
        state.position(shard(0)).await? == at(9, 9),
        "seen by others"
    );
    ensure!(state.position(next).await? == Position::default());
    let new = state.claim(next).await?;
    ensure!(
        new.position == Position::default(),
        "a fresh state begins at the beginning"
    );
    state
        .commit(next, &new, &at(3, 3), vec![put(COUNTS, b"item", b"new")])
        .await?;
    state.switch(1, 2).await?;
    ensure!(state.live_generation().await? == 2);
    let again = state.switch(1, 3).await;
    ensure!(
        matches!(again, Err(StateError::Superseded { live: 2, .. })),
        "{again:?}"
    );

    let standing = Claim {
        position: at(9, 9),
        epoch: old.epoch,
    };
    let late = state
        .commit(shard(0), &standing, &at(10, 9), Vec::new())
        .await;
    ensure!(
        matches!(late, Err(StateError::Superseded { live: 2, .. })),
        "{late:?}"
    );
    let claimed = state.claim(shard(0)).await;
    ensure!(
        matches!(claimed, Err(StateError::Superseded { .. })),
        "{claimed:?}"
    );
    ensure!(state.drop_generation(2).await.is_err(), "the live one");
    state.drop_generation(1).await?;
    ensure!(value(&*state, shard(0), COUNTS, b"item").await?.is_none());
    ensure!(value(&*state, next, COUNTS, b"item").await?.as_deref() == Some(&b"new"[..]));
    Ok(())
}

pub async fn states_of_two_consumers_do_not_meet(place: &Place) -> Result<()> {
    let (one, other) = (place.state("one").await?, place.state("other").await?);
    let claim = one.claim(shard(0)).await?;
    let change = put(COUNTS, b"item", b"one");
    one.commit(shard(0), &claim, &at(4, 4), vec![change])
        .await?;
    ensure!(value(&*other, shard(0), COUNTS, b"item").await?.is_none());
    let claim = other.claim(shard(0)).await?;
    ensure!(claim.position == Position::default(), "{claim:?}");
    other.switch(1, 2).await?;
    other.drop_generation(1).await?;
    ensure!(one.live_generation().await? == 1);
    ensure!(value(&*one, shard(0), COUNTS, b"item").await?.is_some());
    Ok(())
}

pub async fn a_writer_goes_on_from_its_own_writes_until_another_claims(
    place: &Place,
) -> Result<()> {
    let state = place.state("one").await?;
    let mut writer = ShardWriter::claim(Arc::clone(&state), shard(3)).await?;
    for number in 1..=3 {
        let change = put(COUNTS, b"item", &[number]);
        let next = at(number.into(), 0);
        writer.commit(next.clone(), vec![change]).await?;
        ensure!(*writer.position() == next, "{}", writer.position());
    }
    ensure!(writer.get(Vec::new()).await?.is_empty());
    let mut next = ShardWriter::claim(state, shard(3)).await?;
    ensure!(*next.position() == at(3, 0) && next.epoch() > writer.epoch());
    let refused = writer.commit(at(4, 0), Vec::new()).await;
    ensure!(
        matches!(refused, Err(StateError::Refused { .. })),
        "{refused:?}"
    );
    next.commit(at(4, 0), Vec::new()).await?;
    Ok(())
}
