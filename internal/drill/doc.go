// Package drill has what drills need beside the rules: when they are due, what
// file systems a clone holds and whether those are whole, and the report. It
// knows no catalog and starts no process; a Checker is given what runs its
// tools.
package drill
