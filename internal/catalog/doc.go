// Package catalog remembers what exists in a zone: volumes, snapshots, types,
// attachments, quotas, jobs, and whatever else must survive a restart. It
// keeps rows and says what is not there; it holds no rules about who may do
// what (package control), no bytes of volumes (package driver) and nothing
// that could be computed again.
//
// Everything happens in a View or an Update, each one transaction. There is one
// writer at a time in a catalog, so what an Update reads stays true until it
// commits: counting a project's volumes and inserting one more needs no lock.
// Updates that wait for each other share one commit (writer).
//
// # Adding a noun
//
// A noun is one file and one migration.
//
// The migration is migrations/NNNN_name.sql. Numbers are applied in order, gaps
// are fine, and a migration that has been released is never changed. Write SQL
// that SQLite and PostgreSQL both read: TEXT, BIGINT, BOOLEAN, REFERENCES,
// partial indexes. Times are BIGINT microseconds since 1970, NULL for the zero
// time; documents are TEXT with JSON; ids are TEXT, or BIGINT from Tx.Next.
//
// The file holds methods of Tx named for what they do (InsertThing, Thing,
// Things, UpdateThing, DeleteThing), built on these helpers:
//
//	res, err := tx.exec("UPDATE things SET name = $2 WHERE id = $1", id, name) // sql.Result
//	row := tx.queryRow("SELECT ... WHERE id = $1", id)                       // *row, which has Scan
//	rows, err := tx.query("SELECT ...")                                      // *rows, with Next, Scan, Err, Close
//	things, err := collect(tx, scanThing, "SELECT ... WHERE a = $1", a)      // every row through scanThing(scanner)
//
// Parameters are numbered and may be used more than once. Wrap arguments with
// micros(t), jsonText(v); wrap places to scan into with asTime(&t), asJSON(&v),
// nullable(&s) (NULL reads as the zero value). Pointers to strings go in and
// out as they are: nil is NULL. Close rows before the next statement; collect
// does.
//
// A lookup that finds nothing returns an error of kind block.NotFound:
// notFound(err, "Thing %s could not be found.", id) turns sql.ErrNoRows into
// one and passes every other error on. changed(res, err, ...) does the same for
// an exec that should have touched a row. tx.duplicate(err) tells whether a
// unique index refused.
package catalog
