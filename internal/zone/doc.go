// Package zone assembles all that one zone runs: catalog, stores, rules, jobs,
// replication, exports and the HTTP APIs, as a configuration file says. It
// decides nothing itself; what a zone does is in the rooms that it puts
// together.
package zone
