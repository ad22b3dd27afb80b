package peer

import (
	"errors"
	"net/http"

	"kvol/internal/api"
	"kvol/internal/block"
)

// fault is an error on its way between zones: its kind by name, and the
// sentence for the user. Causes stay where they were.
type fault struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// statusOf gives each kind a status, for people who look at the wire; the other
// end goes by the kind.
func statusOf(kind block.Kind) int {
	switch kind {
	case block.Invalid:
		return http.StatusBadRequest
	case block.NotFound:
		return http.StatusNotFound
	case block.Conflict, block.Stale:
		return http.StatusConflict
	case block.OverLimit:
		return http.StatusTooManyRequests
	case block.Unauthorized:
		return http.StatusUnauthorized
	case block.Forbidden:
		return http.StatusForbidden
	case block.Unsupported:
		return http.StatusMethodNotAllowed
	case block.Unavailable:
		return http.StatusServiceUnavailable
	case block.NoSpace:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}

func writeError(w http.ResponseWriter, err error) {
	message, ok := block.UserMessage(err)
	if !ok {
		message = "A fault of the other zone."
	}
	kind := block.KindOf(err)
	api.WriteJSON(w, statusOf(kind), fault{kind.String(), message})
}

func refuse(kind block.Kind, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, block.Errorf(kind, "%s", message))
	})
}

// err is the error that the other zone meant. Where the fault is its own, or
// this zone's in its eyes, that is Unavailable: no user of this zone is at
// fault, and the answer is missing for whatever reason.
func (f fault) err(zone block.Zone) error {
	if f.Kind == block.Unauthorized.String() || f.Kind == block.Forbidden.String() {
		return block.Wrap(block.Unavailable, errors.New(f.Message), "Zone %s refuses to talk to this zone.", zone)
	}
	for kind := block.Invalid; kind <= block.Unsupported; kind++ {
		if kind.String() == f.Kind {
			return block.Errorf(kind, "%s", f.Message)
		}
	}
	return block.Errorf(block.Unavailable, "Zone %s could not answer.", zone)
}
