//! How an upload ends.

use tokio::time::Instant;

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

// The drain waits for it, and would wait for the rest of the 30 s.
#[tokio::test(start_paused = true)]
async fn an_upload_that_ends_after_the_answer_is_not_waited_for_any_longer() {
    let upload = Arc::new(Upload::default());
    let (sent, soon) = (SentUpload(Arc::clone(&upload)), STALL / 4);
    tokio::spawn(async move {
        sleep(soon).await;
        upload.end(DONE);
    });
    let began = Instant::now();

    sent.finish().await;

    assert_eq!(began.elapsed(), soon);
}
