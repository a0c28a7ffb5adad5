//! How an upload ends.

use super::*;

// A pooled connection may turn out to be closed, and the request goes on another one.
#[test]
fn an_upload_that_is_given_up_ends_the_connection_it_was_sent_on_at_last() {
    let upload = Arc::new(Upload::default());
    let (pooled, fresh) = (ConnectionTag::nothing(), ConnectionTag::nothing());
    upload.goes_to(pooled.clone());
    upload.goes_to(fresh.clone());

    drop(SentUpload(upload));

    assert_eq!((pooled.is_aborted(), fresh.is_aborted()), (false, true));
}
