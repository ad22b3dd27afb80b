// Package simtest plays clouds from a seed: zones, links, disks and clocks in
// one process and in virtual time, with everything going wrong that can, and
// says which promise was broken, if one was. What runs is the real code of
// catalogs, senders, receivers and rules; what is simulated is what they stand
// on: the network, the disks, the clocks and the end of processes.
//
// One thing happens at a time, in an order drawn from the seed (see schedule), so
// that a seed plays the same story each time: Outcome.Trace says so.
package simtest
