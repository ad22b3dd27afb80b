// Package audit is the chain of the audit log: how each record names the one
// before it by a hash, how the chain is checked, what another zone needs to see
// that a chain only grew, and the form of files into which it is exported.
// docs/audit.md has the form.
//
// It keeps nothing: the catalog does.
package audit
