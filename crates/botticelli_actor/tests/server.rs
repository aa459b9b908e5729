//! The server keeps its promises: real engine, store and deliverer, on both databases, with a clock that the test moves.

#[expect(dead_code, reason = "not every kind of test needs all of it")]
mod support;

#[path = "server/api.rs"]
mod api;
#[path = "server/cluster.rs"]
mod cluster;
#[path = "server/contracts.rs"]
mod contracts;
#[path = "server/failures.rs"]
mod failures;
#[path = "server/lifetime.rs"]
mod lifetime;
#[path = "server/on_time.rs"]
mod on_time;
#[path = "server/operators.rs"]
mod operators;

/// A test for each promise, on both databases. Without PostgreSQL it is said to be left out.
#[macro_export]
macro_rules! promises {
    (postgres only: $($promise:ident,)+) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    if let Some(database) = botticelli_testkit::databases::TestStore::postgres().await {
                        super::$promise(database).await;
                    }
                }
            )+
        }
    };
    ($($promise:ident,)+) => {
        $crate::promises! { postgres only: $($promise,)+ }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(botticelli_testkit::databases::TestStore::sqlite().await).await;
                }
            )+
        }
    };
}
