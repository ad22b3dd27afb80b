// Package upkeep looks after the embedded stores of a running zone: it says how
// they are, checks and scrubs them while they are used, and keeps account of
// what was found damaged until it is healed. Administrators only.
//
// It moves no bytes between zones; where a lost block comes from is the
// business of whoever gives the store its healer.
package upkeep
