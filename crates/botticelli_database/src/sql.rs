//! SQL of ours, kept prepared.

use diesel::backend::{Backend, DieselReserveSpecialization};
use diesel::migration::MigrationSource;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel_migrations::EmbeddedMigrations;
use std::marker::PhantomData;

/// The versions of all migrations of this program.
pub(crate) fn versions<DB: Backend>(migrations: EmbeddedMigrations) -> Result<Vec<String>, String> {
    let migrations = MigrationSource::<DB>::migrations(&migrations).map_err(|error| error.to_string())?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// Like [`diesel::sql_query`], but each connection keeps the statement prepared. So its text must be one of a few: what
/// varies is bound.
#[must_use = "a query does nothing before it is run"]
pub(crate) struct Sql<'f, DB: Backend> {
    pub(crate) text: String,
    values: Vec<Box<dyn QueryFragment<DB> + Send + 'f>>,
}

impl<'f, DB: Backend> Sql<'f, DB> {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// The value of the next parameter.
    pub(crate) fn bind<ST, Value>(mut self, value: Value) -> Self
    where
        DB: HasSqlType<ST>,
        Value: ToSql<ST, DB> + Send + 'f,
        ST: Send + 'f,
    {
        self.values.push(Box::new(Bound { value, kind: PhantomData::<ST> }));
        self
    }

    /// The number of the next parameter.
    pub(crate) fn next_parameter(&self) -> usize {
        self.values.len() + 1
    }
}

struct Bound<ST, Value> {
    value: Value,
    kind: PhantomData<ST>,
}

impl<ST, Value, DB> QueryFragment<DB> for Bound<ST, Value>
where
    DB: Backend + HasSqlType<ST>,
    Value: ToSql<ST, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_bind_param_value_only(&self.value)
    }
}

impl<DB: Backend + DieselReserveSpecialization> QueryFragment<DB> for Sql<'_, DB> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(&self.text);
        self.values.iter().try_for_each(|value| value.walk_ast(out.reborrow()))
    }
}

impl<DB: Backend> QueryId for Sql<'_, DB> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> Query for Sql<'_, DB> {
    type SqlType = Untyped;
}

impl<Conn, DB: Backend> diesel::RunQueryDsl<Conn> for Sql<'_, DB> {}
