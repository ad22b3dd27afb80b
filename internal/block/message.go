package block

import (
	"context"
	"time"
)

// Message tells a tenant why an asynchronous operation failed. Action and
// Detail are numbers of Cinder's (cinder/message/message_field.py).
type Message struct {
	ID           string
	Project      ProjectID
	RequestID    string // of the request that asked for the operation; "" if unknown
	ResourceType string // "VOLUME", "VOLUME_SNAPSHOT", "VOLUME_BACKUP"
	ResourceID   string
	Action       string // "007"
	Detail       string // "010"
	EventID      string // "VOLUME_VOLUME_007_010"
	Level        string // "ERROR"
	CreatedAt    time.Time
	ExpiresAt    time.Time // it is kept until then
}

type requestKey struct{}

// WithRequestID returns a context that says which request work is done for.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID returns what WithRequestID put into ctx; "" for none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
