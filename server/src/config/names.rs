//! Names that are not settings: variables of the reference that decide nothing here, variables of
//! the engines and the node that share an environment file with the proxy, and names that look like
//! a typing error of ours. spec: proxy §20

use super::sections::Settings;

/// The reference's variables that decide nothing here, with the reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("TEST_MODE", "jobs are never made up; use `tensorpow devnet` to try things"),
    ("GENESIS_GENERATOR", "genesis blocks are not ground by this program"),
    ("ZMQ_RETRY_ATTEMPTS", "jobs are never made up"),
    ("ZMQ_RETRY_BACKOFF", "jobs are never made up"),
    ("LOG_FORMAT", "use TENSORPOW_LOG_FORMAT=json for JSON logs"),
];

/// Variables that deployment files set and no proxy has ever read.
const NEVER_READ: &[&str] = &[
    "BATCH_SIZE",
    "MAX_CONCURRENT_REQUESTS",
    "DEFAULT_BLOCK_HASH",
    "DEFAULT_DIFFICULTY",
    "DEFAULT_VERSION",
    "MINING_JOB_TIMEOUT_SEC",
    "MINING_MIN_ITERATIONS",
    "MINING_POLL_INTERVAL",
];

/// Variables of engines, supervisors, images and the node that begin like ours.
const OF_OTHERS: &[&str] = &[
    "MODEL_FILE",
    "MODEL_CACHE",
    "POW_EGRESS_MODE",
    "POW_PROXY_ENABLE",
    "POW_PROXY_PUSH_HOST",
    "POW_PROXY_PUSH_PORT",
    "POW_SAVE_TO_DISK",
    "POW_PROCESSOR_MODE",
    "POW_V3_ADMISSION_MODE",
    "POW_V3_GRIND_MAX_TRIES_FACTOR",
    "POW_V3_GRIND_THREADS",
    "PROOF_SAVE_DIR",
    "ZMQ_PUSH_HOST",
    "ZMQ_PUSH_PORT",
    "MINING_MAX_MODEL_LEN",
    "MINING_GPU_MEM_UTIL",
    "MINING_POW_PROCESSOR_MODE",
    "TENSORPOW_MODEL_IDENTIFIER",
    "TENSORPOW_COMPUTE_PRECISION",
    "TENSORPOW_MAX_SEQUENCES",
    "TENSORPOW_WINDOW_QUEUE",
    "TENSORPOW_PROOF_QUEUE",
    "TENSORPOW_BIN",
    "TENSORPOW_CONFIG",
    "TENSORPOW_VECTORS",
    "TENSORPOW_ARTEFACTS",
    "TENSORPOW_PROOF",
];

/// How the variables of a proxy begin.
const PREFIXES: &[&str] = &[
    "TENSORPOW_",
    "MINING_",
    "MINER_",
    "ZMQ_",
    "VDF_",
    "MODEL_",
    "PROOF_",
    "POW_",
    "DUMMY_",
    "BACKEND_",
    "WORKER_",
    "BROKER_",
    "PROVIDER_",
    "MCP_",
];

/// What is probably a mistake in an environment.
pub(super) fn warnings(environment: &[(String, String)]) -> Vec<String> {
    environment
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .filter_map(|(name, _)| warning(name))
        .collect()
}

fn warning(name: &str) -> Option<String> {
    let known = || Settings::all().flat_map(|setting| setting.env.iter().copied());
    let name_is = |other: &&str| *other == name;
    if known().any(|other| other == name)
        || NEVER_READ.iter().any(&name_is)
        || OF_OTHERS.iter().any(name_is)
    {
        return None;
    }
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(other, _)| *other == name) {
        return Some(format!("${name} has no effect: {why}"));
    }
    let hint = did_you_mean(name, known());
    let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    (ours || !hint.is_empty()).then(|| format!("${name} is not a setting of this program{hint}"))
}

/// `; did you mean …?` with the closest of the known names, if one is close. In a name of less than
/// eight letters only two that stand the wrong way round are taken for an error.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let allowed = if name.len() < 8 { 1 } else { 2 };
    let closest = known.map(|known| (distance(name, known), known)).min();
    match closest {
        Some((distance, known)) if distance > 0 && distance <= allowed => {
            format!("; did you mean {known}?")
        }
        _ => String::new(),
    }
}

/// Letters that must be changed, added, removed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warn(name: &str) -> Option<String> {
        warnings(&[(name.to_owned(), "1".to_owned())]).pop()
    }

    #[test]
    fn typing_errors_are_named_and_strangers_left_alone() {
        assert!(warn("HTTP_PROT").unwrap().contains("did you mean HTTP_PORT?"));
        assert!(warn("TENSORPOW_LISTN").unwrap().contains("TENSORPOW_LISTEN"));
        assert!(warn("MINING_NONSENSE").unwrap().contains("not a setting"));
        assert!(warn("TEST_MODE").unwrap().contains("no effect"));
        for silent in [
            "HTTP_PORT",
            "HOME",
            "PATH",
            "BATCH_SIZE",
            "HTTP_PROXY",
            "ZMQ_PUSH_PORT",
            "VLLM_VERSION",
        ] {
            assert_eq!(warn(silent), None, "{silent}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
