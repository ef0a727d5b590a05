//! Ends of sequences and of the engine: what is discarded, what still leaves, what is counted.

use std::time::{Duration, Instant};

use tensorpow_engine::EndReason;

use crate::world::*;

#[test]
fn a_cancelled_sequence_leaves_no_proof_of_its_last_window() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let mut sequence = begin(&engine, &job(EASY), &[1]);
    draw(&mut sequence, 255);
    sequence.end(EndReason::Cancelled);
    assert_eq!(metric(&engine, "tensorpow_sequences_ended_total{reason=\"cancelled\"}"), 1);
    assert_eq!(metric(&engine, "tensorpow_windows_partial_total"), 1);
    assert_eq!(metric(&engine, "tensorpow_sequences_active"), 0);
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn logits_that_cannot_be_mined_stop_the_sequence_but_not_its_finished_windows() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let mut nan = logits(0);
    nan[17] = f32::NAN;
    let mut infinite = logits(0);
    infinite[3] = f32::INFINITY;
    let narrow = logits(0)[..VOCAB - 1].to_vec();
    let nothing = vec![f32::NEG_INFINITY; VOCAB];
    for (bad, label) in [
        (nan, "logits_nan"),
        (infinite, "logits_infinite"),
        (narrow, "row_width"),
        (nothing, "logits_nothing_finite"),
    ] {
        let mut sequence = begin(&engine, &job(EASY), &[1]);
        draw(&mut sequence, 300);
        let stopped = sequence.sample(&bad).unwrap_err();
        assert_eq!(stopped.label(), label);
        assert_eq!(sequence.sample(&logits(0)), Err(stopped), "it stays stopped");
        let name = format!("tensorpow_sequences_stopped_total{{reason=\"{label}\"}}");
        assert_eq!(metric(&engine, &name), 1);
        sequence.end(EndReason::Finished);
        assert!(decode(&collector.next()).pow_blob.unwrap().is_solution);
    }
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn minus_infinity_is_mined_on() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let mut sequence = begin(&engine, &job(EASY), &[1]);
    for at in 0..256 {
        let mut row = logits(at);
        row[500] = f32::NEG_INFINITY;
        sequence.sample(&row).unwrap();
    }
    assert!(decode(&collector.next()).pow_blob.unwrap().is_solution);
}

#[test]
fn the_end_of_the_engine_sends_what_is_finished_within_a_second() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let mut sequence = begin(&engine, &job(EASY), &[1]);
    draw(&mut sequence, 512);
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(collector.rest().len(), 2);
}

#[test]
fn a_sequence_that_outlives_its_engine_still_chooses_tokens() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let mut sequence = begin(&engine, &job(EASY), &[1]);
    draw(&mut sequence, 10);
    drop(engine);
    draw(&mut sequence, 500);
    sequence.end(EndReason::Finished);
    assert!(collector.rest().is_empty());
}

#[test]
fn without_a_collector_nothing_blocks_and_every_proof_is_accounted_for() {
    let nobody = Collector::new();
    let engine = {
        let engine = engine(&nobody, &[("POW_EGRESS_MODE", "broker")]);
        drop(nobody);
        engine
    };
    let start = Instant::now();
    for _ in 0..3 {
        draw(&mut begin(&engine, &job(EASY), &[1]), 256);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    wait_for(&engine, "tensorpow_windows_total{outcome=\"solution\"}", 3);
    wait_for(&engine, "tensorpow_proofs_sent_total{socket=\"primary\"}", 3);
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn sequences_on_many_threads_do_not_mix() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let texts: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let run = |prompt: u32| {
            let engine = &engine;
            scope.spawn(move || draw(&mut begin(engine, &job(EASY), &[prompt]), 256))
        };
        let threads: Vec<_> = (0..6).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for _ in 0..6 {
        let message = collector.next();
        let proof = decode(&message).pow_blob.unwrap();
        let prompt = usize::try_from(proof.prompt_tokens.get(0).unwrap()).unwrap();
        assert_eq!(proof.chosen_tokens.iter().collect::<Vec<_>>(), texts[prompt]);
    }
}

#[test]
fn the_metrics_are_prometheus_text_with_every_family_described_once() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let text = engine.metrics();
    assert!(text.ends_with('\n'));
    let mut family = None;
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_whitespace().next();
            assert!(seen.insert(family), "{line} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split_whitespace().next(), family);
            let kind = rest.split_whitespace().last().unwrap();
            let total = family.unwrap().ends_with("_total");
            assert_eq!(kind == "counter", total, "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), family, "{line}");
            assert!(value.parse::<u64>().is_ok(), "{line}");
        }
    }
    for known in ["tensorpow_sequences_active 0", "{reason=\"grammar\"} 0", "{outcome=\"dead\"} 0"]
    {
        assert!(text.contains(known), "{known}");
    }
}
