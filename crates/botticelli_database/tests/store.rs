//! One suite, both databases.

use botticelli_testkit::databases::TestStore;
use botticelli_testkit::store_suite;

store_suite!(sqlite, TestStore::sqlite());
store_suite!(postgres, TestStore::postgres());
