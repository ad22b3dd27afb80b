package block

import (
	"context"
	"time"
)

// Audit is a record of the audit log: who asked for or decided what, and what
// came of it. It never holds a password or a token.
type Audit struct {
	ID        int64 // its number: one more than that of the record before
	At        time.Time
	User      string    // who asked, even where that was not believed; the zone itself: "kvol"
	Remote    string    // address of the caller, without its port; "" for the zone itself
	Roles     []string  // of the caller
	Project   ProjectID // that the caller spoke for
	Call      string    // "recovery", "operation consent", "doctor mends leaked-pin", ...
	Params    string    // what was asked for, in the call's own form
	Code      int       // HTTP status of the answer; 0 for what nobody asked for
	Outcome   string    // what came of it, where Code does not say it
	Rowkey    int64     // of the job of the kvol API that the call started; 0 for none
	Operation string    // id of the operation or failover that it is about; "" for none
	Consent   UserID    // who agreed as a second person
	Hash      string    // of the record and all before it, in hexadecimal digits
}

// Requester is who asks for something, and from where.
type Requester struct {
	User    UserID
	Remote  string // address without port
	Roles   []string
	Project ProjectID
}

type requesterKey struct{}

// WithRequester returns a context that says who asks, for the audit log.
func WithRequester(ctx context.Context, r Requester) context.Context {
	return context.WithValue(ctx, requesterKey{}, r)
}

// RequesterOf returns what WithRequester put into ctx.
func RequesterOf(ctx context.Context) (Requester, bool) {
	r, ok := ctx.Value(requesterKey{}).(Requester)
	return r, ok
}
