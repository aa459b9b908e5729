//! The server keeps its promises: real engine, store and deliverer, on both databases, with a clock that the test moves.

#[expect(dead_code, reason = "not every kind of test needs all of it")]
mod support;

#[path = "server/contracts.rs"]
mod contracts;
#[path = "server/failures.rs"]
mod failures;
#[path = "server/on_time.rs"]
mod on_time;
#[path = "server/operators.rs"]
mod operators;

/// A test for each promise, on both databases. Without PostgreSQL it is said to be left out.
#[macro_export]
macro_rules! promises {
    ($($promise:ident,)+) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(botticelli_testkit::databases::TestStore::sqlite().await).await;
                }
            )+
        }
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
}
