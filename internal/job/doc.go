// Package job runs the catalog's jobs until they are done or given up. It
// knows no kind of job: what is to be done is a Handler's business, and what
// must happen with it is a transaction of the catalog. It keeps nothing that
// is not in the catalog, so any process may be killed at any moment.
//
// Jobs only go forward. A job that was cut is run again from its start, so each
// step of a handler must be one that can be repeated.
package job
