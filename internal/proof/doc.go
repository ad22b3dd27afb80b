// Package proof reads replicas again and compares them with what was committed:
// each one within a set time, at points that nobody can change, at a bounded
// rate. What differs is read twice before it is told; then the source's zone is
// asked for the hashes of ranges, from wide to narrow, until the blocks are
// known, and for their bytes, which are put in their place.
//
// The root of a point is a sum over blocks (docs/adr/0003-root-hash.md), so the
// sums of ranges add up to it: an answer of the source counts only if its sums
// add up to the root that was committed, and each narrower answer to the wider
// one. Older points are compared by what differs between neighbours.
//
// It opens no connection; it is given a function that asks.
package proof
