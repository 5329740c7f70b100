//! Tests of the table: places, full buckets, damaged bytes, and what a flood of keys leaves.

use core::num::NonZeroU64;

use super::*;
use crate::algorithm::TOKEN_BUCKET;
use crate::identity::{Kind, Subject};

const SEED: [u8; 16] = [7; 16];
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const RULE: u64 = 1;

fn quota() -> Quota {
    let ten = NonZeroU64::new(10).unwrap();
    Quota { rate: ten, window: Micros::from_secs(60), burst: ten, horizon: Micros::ZERO }
}

fn known(rule_id: u64) -> Option<(&'static dyn Algorithm, &'static Quota)> {
    static QUOTA: std::sync::OnceLock<Quota> = std::sync::OnceLock::new();
    (rule_id == RULE).then(|| (&TOKEN_BUCKET as &dyn Algorithm, QUOTA.get_or_init(quota)))
}

fn used(cost: u64) -> Cell {
    TOKEN_BUCKET.plan(Cell::default(), &quota(), cost, NOW).cell
}

fn user(id: &str) -> Subject {
    Subject { kind: Kind::VerifiedUser, value: id.as_bytes().to_vec() }
}

#[test]
fn places_depend_on_every_bit_of_the_subject_and_on_the_seed() {
    let table = Geometry::new(65_536);
    let long = |last: u8| {
        let mut id = vec![b'x'; 8192];
        id.push(last);
        Subject { kind: Kind::VerifiedUser, value: id }
    };
    let one = table.place(&user("1.2.3.4"), 0, SEED);
    assert_ne!(one, table.place(&Subject { kind: Kind::Address, value: b"1.2.3.4".to_vec() }, 0, SEED));
    assert_ne!(one, table.place(&Subject { kind: Kind::UnverifiedUser, value: b"1.2.3.4".to_vec() }, 0, SEED));
    assert_ne!(one, table.place(&user("1.2.3.4"), 1, SEED));
    assert_ne!(one, table.place(&user("1.2.3.4"), 0, [8; 16]));
    assert_ne!(table.place(&long(1), 0, SEED), table.place(&long(2), 0, SEED));
    assert_ne!(table.place(&user("a\0b"), 0, SEED), table.place(&user("a"), 0, SEED));
    assert_eq!(one, table.place(&user("1.2.3.4"), 0, SEED));
}

#[test]
fn keys_spread_evenly() {
    let table = Geometry::new(8_192);
    let mut load = vec![0_u32; table.buckets() as usize];
    for id in 0..8_192 {
        load[table.place(&user(&id.to_string()), 0, SEED).bucket as usize] += 1;
    }
    assert!(load.iter().all(|keys| *keys <= 28), "fullest: {:?}", load.iter().max());
    let overfull = load.iter().filter(|keys| **keys > 16).count();
    assert!(overfull <= 16, "{overfull} of 1024 buckets hold more than 16 keys");
}

#[test]
fn what_is_written_reads_back() {
    let mut bucket = Bucket::default();
    for id in 0..WAYS as u64 {
        assert!(bucket.put(id, RULE, Cell([id, 2, 3])));
    }
    assert!(!bucket.put(99, RULE, Cell::default()), "a full bucket takes no new cell");
    assert!(bucket.put(3, RULE, Cell([9, 9, 9])), "but a known one");
    let read = Bucket::read(&bucket.bytes());
    assert_eq!(read, bucket);
    assert_eq!(read.cell(3, RULE), Cell([9, 9, 9]));
    assert_eq!(read.cell(3, 2), Cell::default());
}

#[test]
fn any_bytes_are_a_bucket() {
    for size in 0..1_000 {
        let bucket = Bucket::read(&vec![0xa5; size]);
        assert!(bucket.len() <= WAYS);
        assert_eq!(bucket.len(), (size / ENTRY_BYTES).min(WAYS));
    }
}

/// Stores a cell for a request that asks for nothing else.
fn store(bucket: &mut Bucket, fingerprint: u64, rule_id: u64, cell: Cell, now: Timestamp) -> GivenUp {
    bucket.store((fingerprint, rule_id, cell), |_| None, now, known).unwrap()
}

#[test]
fn a_full_bucket_gives_up_what_matters_least() {
    let mut bucket = Bucket::default();
    bucket.put(0, 404, used(10));
    bucket.put(1, RULE, used(10));
    for id in 2..WAYS as u64 {
        bucket.put(id, RULE, used(id % 9 + 1));
    }
    assert_eq!(store(&mut bucket, 99, RULE, used(5), NOW), GivenUp { idle: 1, limiting: 0 });
    assert_eq!(bucket.cell(0, 404), Cell::default(), "a rule that is gone goes first");
    for id in 100..10_000 {
        assert_eq!(store(&mut bucket, id, RULE, used(1), NOW).limiting, 0);
    }
    assert_eq!(bucket.cell(1, RULE), used(10), "a client at its limit stays at it through the flood");
}

#[test]
fn cells_like_new_are_dropped_before_any_is_given_up() {
    let mut bucket = Bucket::default();
    for id in 0..WAYS as u64 {
        bucket.put(id, RULE, used(1));
    }
    let later = NOW + Micros::from_secs(3600);
    assert_eq!(store(&mut bucket, 99, RULE, used(1), later), GivenUp::default());
    assert_eq!(bucket.len(), 1);
}

#[test]
fn giving_up_a_client_at_its_limit_is_counted() {
    let mut bucket = Bucket::default();
    for id in 0..WAYS as u64 {
        bucket.put(id, RULE, used(10));
    }
    assert_eq!(store(&mut bucket, 99, RULE, used(1), NOW), GivenUp { idle: 0, limiting: 1 });
}

#[test]
fn two_new_keys_alternating_in_a_full_bucket_do_not_free_a_limited_one() {
    let mut bucket = Bucket::default();
    for id in 0..WAYS as u64 {
        bucket.put(id, RULE, used(10));
    }
    for turn in 0..1_000 {
        store(&mut bucket, 50 + turn % 2, RULE, used(1), NOW);
    }
    let limited = (0..WAYS as u64).filter(|id| bucket.cell(*id, RULE) == used(10)).count();
    assert_eq!(limited, WAYS - 1, "one place was taken once, and the two share it");
}

#[test]
fn a_clients_cells_of_rules_that_are_gone_make_room_for_its_own() {
    let mut bucket = Bucket::default();
    for old in 0..WAYS as u64 {
        bucket.put(7, 400 + old, used(10));
    }
    let asked = |entry| (entry == (7, RULE)).then_some(true);
    let given_up = bucket.store((7, RULE, used(10)), asked, NOW, known);
    assert_eq!(given_up, Some(GivenUp { idle: 1, limiting: 0 }));
    assert_eq!(bucket.cell(7, RULE), used(10));
}

#[test]
fn a_cell_that_finds_only_cells_of_its_own_request_is_not_stored() {
    let mut bucket = Bucket::default();
    for rule in 0..WAYS as u64 {
        bucket.put(7, 400 + rule, used(1));
    }
    let before = bucket.clone();
    assert_eq!(bucket.store((7, RULE, used(1)), |_| Some(true), NOW, known), None);
    assert_eq!(bucket, before);
    assert!(bucket.store((7, 400, used(2)), |_| Some(true), NOW, known).is_some(), "one that is there already is");
}

#[test]
fn what_a_request_need_not_have_makes_room_for_what_it_must() {
    let mut bucket = Bucket::default();
    for rule in 0..WAYS as u64 {
        bucket.put(7, 400 + rule, used(1));
    }
    let asked = |(_, rule)| Some(rule == RULE);
    assert_eq!(bucket.store((7, 399, used(1)), asked, NOW, known), Some(GivenUp { idle: 0, limiting: 1 }));
    assert_eq!(bucket.cell(7, 399), Cell::default(), "it stands aside for its equals, and is counted as given up");
    assert_eq!(bucket.store((7, RULE, used(1)), asked, NOW, known), Some(GivenUp { idle: 1, limiting: 0 }));
    assert_eq!(bucket.cell(7, RULE), used(1));
}
