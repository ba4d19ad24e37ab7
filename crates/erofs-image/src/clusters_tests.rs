use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use super::*;
use crate::error::{Corruption, Error, Where};

fn key(position: u64) -> ClusterKey {
    ClusterKey { blob: Some(0), position, plen: 4096, algorithm: Algorithm::Lz4, exact: None }
}

fn put(clusters: &Clusters, position: u64, len: usize) {
    clusters.get_or_decode(key(position), len, &mut |_| Ok(vec![1; len])).unwrap();
}

#[test]
fn a_cluster_is_decoded_once_until_more_of_it_is_needed() {
    let clusters = Clusters::new(1 << 20);
    let mut calls = Vec::new();
    for len in [10, 5, 10, 20, 20] {
        let bytes = clusters.get_or_decode(key(0), len, &mut |known| {
            calls.push((len, known));
            Ok(vec![7; len])
        });
        assert!(bytes.unwrap().len() >= len);
    }
    assert_eq!(calls, [(10, false), (20, true)]);
    assert_eq!(clusters.used(), 20 + OVERHEAD);
}

#[test]
fn what_is_kept_stays_within_the_budget() {
    let clusters = Clusters::new(1 << 20);
    for position in 0..1000 {
        put(&clusters, position, 10_000);
        assert!(clusters.used() <= 1 << 20);
    }
    assert!(clusters.used() > 900_000);
    put(&clusters, 5000, 600_000);
    assert!(clusters.get(key(5000), 1).is_none(), "more than half of the budget is not kept");
}

#[test]
fn used_clusters_stay_longer_than_others() {
    let clusters = Clusters::new(1 << 20);
    put(&clusters, 0, 1000);
    let mut lost = 0;
    for position in 1..2000 {
        put(&clusters, position, 10_000);
        lost += usize::from(clusters.get(key(0), 1).is_none());
    }
    assert_eq!(lost, 0);
}

#[test]
fn nothing_is_kept_without_a_budget() {
    let clusters = Clusters::new(0);
    put(&clusters, 0, 100);
    assert_eq!((clusters.used(), clusters.get(key(0), 1)), (0, None));
}

#[test]
fn threads_that_need_a_cluster_wait_for_the_one_that_decodes_it() {
    let clusters = Clusters::new(1 << 20);
    let decoded = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let bytes = clusters.get_or_decode(key(3), 100, &mut |_| {
                    thread::sleep(Duration::from_millis(30));
                    decoded.fetch_add(1, Ordering::Relaxed);
                    Ok(vec![9; 100])
                });
                assert_eq!(*bytes.unwrap(), vec![9; 100]);
            });
        }
    });
    assert_eq!(decoded.into_inner(), 1);
}

#[test]
fn each_thread_gets_the_error_of_a_bad_cluster() {
    let clusters = Clusters::new(1 << 20);
    thread::scope(|scope| {
        for nid in 0..8 {
            let clusters = &clusters;
            scope.spawn(move || {
                let failed = clusters.get_or_decode(key(3), 100, &mut |_| {
                    thread::sleep(Duration::from_millis(5));
                    Err(Error::corrupt(Where::nid(nid), Corruption::AddressOverflow))
                });
                assert_eq!(failed.unwrap_err().nid(), Some(nid));
            });
        }
    });
    put(&clusters, 3, 100);
    assert!(clusters.get(key(3), 100).is_some(), "an error is not kept");
}

#[test]
fn a_panic_while_decoding_leaves_nobody_waiting() {
    let clusters = Clusters::new(1 << 20);
    thread::scope(|scope| {
        let failed = scope.spawn(|| clusters.get_or_decode(key(3), 1, &mut |_| panic!("a bug")));
        assert!(failed.join().is_err());
    });
    put(&clusters, 3, 100);
}
