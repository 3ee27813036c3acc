//! A data folder is claimed whole or not at all, wherever the power goes.

use kv::data_folder::{DataFolderError, claim};
use kv_core::NodeId;

use crate::{disk, finish, poll_at_most};

#[test]
fn a_claim_that_returned_survives_and_one_that_did_not_can_be_repeated() {
    let mut finished = 0;
    for seed in 0..200 {
        let disk = disk(seed);
        let steps = seed as usize % 5;
        let claimed = poll_at_most(steps, claim(disk.mount().as_ref(), NodeId(7)));
        let is_claimed = claimed.is_some_and(|result| result.is_ok());
        disk.power_loss();
        if is_claimed {
            finished += 1;
            let result = finish(claim(disk.mount().as_ref(), NodeId(8)));
            let is_refused = matches!(result, Err(DataFolderError::OtherNode { .. }));
            assert!(is_refused, "seed {seed}: the claim was forgotten");
        }
        disk.kill();
        let result = finish(claim(disk.mount().as_ref(), NodeId(7)));
        assert!(result.is_ok(), "seed {seed}: {:?}", result.err());
    }
    assert!(finished > 20, "vacuous: {finished} claims were finished");
}
