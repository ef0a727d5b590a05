//! The published examples of the groups `backfill` and `throughput`: from the files in
//! `TENSORPOW_VECTORS` where they are, and always from the copy beside this file.

use serde_json::Value;

fn examples() -> Vec<Value> {
    let copy = include_str!("examples.json").to_owned();
    let folders = std::env::var_os("TENSORPOW_VECTORS").unwrap_or_default();
    let files = std::env::split_paths(&folders)
        .filter_map(|folder| std::fs::read_to_string(folder.join("proxy-examples.json")).ok());
    std::iter::once(copy).chain(files).map(|text| serde_json::from_str(&text).unwrap()).collect()
}

#[test]
fn backfill_is_sent_as_published() {
    for file in examples() {
        let cases =
            crate::conformance_backfill::run_on(&file["registry_default"], &file["backfill"]);
        println!("backfill: {cases} cases");
        assert!(cases >= 6);
    }
    let file = &examples()[0];
    assert_eq!(crate::conformance_backfill::run(&file["backfill"]), 6);
}

#[test]
fn throughput_is_as_published() {
    for file in examples() {
        let cases = crate::conformance_throughput::run(&file["throughput"]);
        println!("throughput: {cases} cases");
        assert!(cases >= 4);
    }
}
