// Package duty lets the processes that serve a zone together share its work: each
// shows that it lives, and what only one of them may do at a time is a duty that
// it holds for a time and renews. Who stood still for longer than that has lost
// it: its Updates are refused by the catalog (catalog.Holding), and Turn.Await
// tells it before it touches bytes.
package duty
