//! A policy: whatever is wrong is said, with a place that is inside the file.
#![no_main]

use std::path::Path;

use backstop::policy::{LoadedPolicy, PolicyError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let problems = match LoadedPolicy::from_bytes(Path::new("fuzz.yaml"), data.to_vec()) {
        Ok(policy) => {
            let _ = policy.policy.retention();
            policy.warnings
        }
        Err(PolicyError::Invalid { problems, .. }) => {
            assert!(!problems.is_empty());
            problems
        }
        Err(other) => panic!("{other}"),
    };
    let lines = data.iter().filter(|b| **b == b'\n').count() as u64 + 1;
    for problem in problems {
        assert!(!problem.message.is_empty() && !problem.to_string().is_empty());
        // A carriage return alone also ends a line of YAML.
        let ends = data.iter().filter(|b| **b == b'\r').count() as u64;
        assert!(problem.place.is_none_or(|(line, _)| line <= lines + ends + 1), "{:?} of {lines}", problem.place);
    }
});
