//! A minute in which nothing happens. In a file whose tests run first, so that the others go on meanwhile.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::Cluster;

#[tokio::test]
async fn at_rest_nothing_is_written() {
    let cluster = Cluster::new("rest").await;
    let _controller = cluster.controller(&["--sync-period=1s"]);
    for name in ["one", "two", "three"] {
        cluster.ask_for(name, json!({ "timeout": "1h" })).await;
        cluster.phase(name, "Creating").await;
    }
    cluster.make_ready("one").await;
    cluster.make_ready("two").await;
    cluster.phase("one", "Running").await;
    cluster.phase("two", "Running").await;
    sleep(Duration::from_secs(2)).await;
    let before = cluster.server.writes("rest");
    assert_eq!(before.len(), 1 + 3 * 5 + 2, "a policy, three births and two that run: {before:?}");
    // Each session is looked at every second meanwhile.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.server.writes("rest"), before);
}
