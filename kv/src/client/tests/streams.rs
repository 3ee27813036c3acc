//! Many clients over one stream: each gets its own answer, and what breaks the stream is unknown to all who had asked.

use futures::future::join_all;

use super::*;

fn over_a_stream(timeout_ms: u64) -> ClientOptions {
    ClientOptions {
        streams: true,
        ..options(timeout_ms)
    }
}

/// Answers a set with the number that its key says.
fn answer_by_key(request: &Request) -> Option<Answer> {
    let (Request::Get { key, .. } | Request::Set { key, .. } | Request::Delete { key }) = request;
    let number = std::str::from_utf8(key).ok()?.parse().ok()?;
    Some(written(number))
}

#[tokio::test]
async fn each_of_many_clients_gets_its_own_answer() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |_, request: &Request| answer_by_key(request);
    let node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let first = Client::connect(vec![address], over_a_stream(5000));
    let first = first.await.unwrap();
    let asking = (1..=100).map(|number| {
        let mut client = first.sibling(number);
        async move {
            for _ in 0..3 {
                let written = client.delete(number.to_string().into()).await;
                assert_eq!(written.ok().unwrap().version, version(1, number));
            }
        }
    });
    join_all(asking).await;
    assert_eq!(node.arrived_count(), 300);
}

#[tokio::test]
async fn a_request_that_is_not_answered_holds_no_other_up_and_is_info() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |_, request: &Request| answer_by_key(request);
    let node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let silent = Client::connect(vec![address], over_a_stream(400));
    let mut silent = silent.await.unwrap();
    let mut other = silent.sibling(1);
    let (unanswered, answered) = tokio::join!(silent.delete(key()), other.delete("7".into()));
    assert!(matches!(unanswered, Outcome::Info(_)), "{unanswered:?}");
    assert_eq!(answered.ok().unwrap().version, version(1, 7));
    assert_eq!(node.arrived_count(), 2, "neither is repeated");
}

#[tokio::test]
async fn writes_whose_server_stops_under_them_are_info_and_are_not_repeated() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let node = Scripted::start(1, &address, cluster, Box::new(|_, _| None)).await;
    let first = Client::connect(vec![address], over_a_stream(5000));
    let first = first.await.unwrap();
    let (mut one, mut two) = (first.sibling(1), first.sibling(2));
    let Scripted {
        server,
        arrived,
        cluster,
        ..
    } = node;
    let stop = async {
        while arrived.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(server);
    };
    let (first, second, ()) = tokio::join!(one.delete(key()), two.delete(key()), stop);
    for outcome in [first, second] {
        assert!(
            matches!(outcome, Outcome::Info(Unsure::Broken { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(arrived.lock().unwrap().len(), 2);
    drop(cluster);
}

#[tokio::test]
async fn a_refused_write_is_repeated_over_the_same_stream() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |count, _: &Request| match count {
        1..=2 => Some(refused(Refusal::TryAgain)),
        _ => Some(written(3)),
    };
    let node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let client = Client::connect(vec![address], over_a_stream(5000));
    client.await.unwrap().delete(key()).await.ok().unwrap();
    assert_eq!(node.arrived_count(), 3);
}
