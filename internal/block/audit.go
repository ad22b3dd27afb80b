package block

import "time"

// Audit is one call of the kvol API as it is kept for auditors. It never holds
// a password or a token.
type Audit struct {
	ID     int64 // rises with time
	At     time.Time
	User   string // as the caller named itself, even where that was not believed
	Remote string // address of the caller, "host:port"
	Call   string // "recovery", "list", "token", ...
	Params string // the parameters that the call knows, in query form
	Code   int    // HTTP status of the answer
	Rowkey int64  // of the job that the call started; 0 for none
}
