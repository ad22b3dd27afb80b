package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// ExtendVolume grows a volume to a size in GiB, and waits until it has grown. The
// service says yes to what it then finds no room for; that is an error here, with the
// sentence that it keeps for users. seen, if not nil, is told each status.
func (s *Session) ExtendVolume(ctx context.Context, id string, size int64, seen func(status string)) (Volume, error) {
	base, err := s.URL(blockStorage)
	if err != nil {
		return Volume{}, err
	}
	x := exchange{http: s.http, method: http.MethodPost, url: base + "/volumes/" + url.PathEscape(id) + "/action",
		in:     map[string]any{"os-extend": map[string]any{"new_size": size}},
		header: http.Header{"X-Auth-Token": {s.Token}}}
	answer, _, err := x.do(ctx)
	if err != nil {
		return Volume{}, err
	}
	v, err := s.WaitVolume(ctx, id, seen, "available", "in-use")
	if err != nil && ctx.Err() != nil {
		return v, err // nothing is known
	}
	if err == nil && v.Size < size {
		err = fmt.Errorf("volume %s has not grown: it has %d GiB", id, v.Size)
	}
	if err == nil {
		return v, nil
	}
	if why := s.told(ctx, id, answer.Get("X-Compute-Request-Id")); why != "" {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return v, err
}

// told is what users are told of how a request ended; "" if nothing, or if the service
// does not say.
func (s *Session) told(ctx context.Context, about, request string) string {
	base, err := s.URL("volumev3")
	if err != nil || request == "" {
		return "" // an older service, which has no messages
	}
	var list struct {
		Messages []struct {
			Text    string `json:"user_message"`
			Request string `json:"request_id"`
		} `json:"messages"`
	}
	q := url.Values{"resource_uuid": {about}, "request_id": {request}}
	x := exchange{http: s.http, method: http.MethodGet, url: base + "/messages?" + q.Encode(), out: &list,
		header: http.Header{"X-Auth-Token": {s.Token}, "Openstack-Api-Version": {"volume 3.5"}}}
	if _, _, err := x.do(ctx); err != nil {
		return ""
	}
	for _, m := range list.Messages {
		if m.Request == request {
			return m.Text
		}
	}
	return ""
}
