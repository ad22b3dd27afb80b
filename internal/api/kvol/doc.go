// Package kvol is the front end of the kvol API: tokens, the backup zones of
// volume types, and recoveries in other zones, byte for byte as its document
// shows them. docs/api/kvol.md says how each hole of that document was filled.
//
// It decides nothing about recoveries (that is control) and knows no user
// (that is identity); it is not the DR API, which has what the document leaves
// out.
package kvol
