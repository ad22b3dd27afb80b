// Package lag accounts for how far replication is behind over time: it keeps,
// in a fixed amount of memory for each volume, how long the loss that a
// disaster would have caused was how large, and tells from measured churn and
// measured transfers whether a link can hold a target.
//
// It knows no catalog, no network and no clock: instants are given to it. Its
// values belong to one goroutine at a time.
package lag
