// Package churn judges what changes from one recovery point of a volume to the
// next: how much, how well it can be compressed, and whether it looks as if
// somebody encrypted the volume's data in its place.
//
// The sign is data that could be compressed well and, after the step, can't be
// at all in the same place. Copying an archive mostly fills what was empty,
// first copies have nothing before them, and a volume that was encrypted from
// the start never could be compressed; so none of these show it. docs/api/dr.md
// has the rule as users read it.
//
// It knows no store and no catalog: a Tally is fed by whoever writes a step, a
// Meter by whoever commits it.
package churn
